"""Two layers by hand, NumPy only: a GRU cell and a causal convolution. B batch, D inputs, H hidden, T time, K kernel."""

import numpy as np


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def gru_gates(x, h, w, u, b):
    """Reset gate r, update gate z and candidate n, each (B, H)   Cho et al. 2014, arXiv:1406.1078"""
    hidden = h.shape[1]
    a, c = x @ w + b, h @ u  # (B, 3H)
    r = sigmoid(a[:, :hidden] + c[:, :hidden])
    z = sigmoid(a[:, hidden : 2 * hidden] + c[:, hidden : 2 * hidden])
    n = np.tanh(a[:, 2 * hidden :] + r * c[:, 2 * hidden :])
    return r, z, n, c[:, 2 * hidden :]


def gru_cell(x, h, w, u, b):
    """h' = (1 - z) n + z h   x (B, D), h (B, H), w (D, 3H), u (H, 3H), b (3H,) -> (B, H)"""
    _, z, n, _ = gru_gates(x, h, w, u, b)
    return (1 - z) * n + z * h


def gru_cell_backward(g, x, h, w, u, b):
    """Gradients of x, h, w, u and b."""
    r, z, n, c = gru_gates(x, h, w, u, b)
    dn = g * (1 - z) * (1 - n * n)
    dz = g * (h - n) * z * (1 - z)
    dr = dn * c * r * (1 - r)
    da = np.concatenate([dr, dz, dn], axis=1)  # gradient of x @ w + b
    dc = np.concatenate([dr, dz, dn * r], axis=1)  # gradient of h @ u: the candidate's part goes through r
    return da @ w.T, dc @ u.T + g * z, x.T @ da, h.T @ dc, da.sum(axis=0)


def causal_conv(x, w):
    """y[b, t] = Σₖ w[k] x[b, t - k], followed by relu   x (B, T), w (K,) -> (B, T)"""
    return np.maximum(_convolve(x, w), 0)


def causal_conv_backward(g, x, w):
    """Gradients of x and w."""
    g = g * (_convolve(x, w) > 0)
    dx = np.zeros_like(x)
    dw = np.zeros_like(w)
    for k in range(min(len(w), x.shape[1])):
        dx[:, : x.shape[1] - k] += w[k] * g[:, k:]
        dw[k] = np.sum(g[:, k:] * x[:, : x.shape[1] - k])
    return dx, dw


def _convolve(x, w):
    y = np.zeros_like(x)
    for k in range(min(len(w), x.shape[1])):
        y[:, k:] += w[k] * x[:, : x.shape[1] - k]
    return y
