"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), one fused kernel for both."""

import numpy as np

import kernels

from .optimizer import Optimizer


class AdamW(Optimizer):
    """m ← β1 m + (1-β1) g;  v ← β2 v + (1-β2) g²;  p ← p (1 - lr λ) - lr m̂ / (√v̂ + ε)

    The decay λ acts on the weight itself. `amsgrad` takes the largest v so far in place of v in v̂ (Reddi et al. 2018 §4, with
    PyTorch's correction by 1 - β2ᵗ), `maximize` goes up the gradient. Defaults as in PyTorch.   Loshchilov and Hutter 2019 §2
    """

    buffers = ("m", "v")
    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, amsgrad=False, *, maximize=False):
        if amsgrad:
            self.buffers = (*self.buffers, "largest")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def update(self, params, grads, state, group, step, grad_scale):
        beta1, beta2 = group["betas"]
        if "largest" in self.buffers:
            for arrays in zip(params, grads, *state):
                self.amsgrad_step(*arrays, group, step, grad_scale)
            return
        kernels.adamw_step(params, grads, state[0], state[1], group["lr"], beta1, beta2, group["eps"],
                           group["weight_decay"], step, grad_scale, self.decoupled)

    def amsgrad_step(self, p, g, m, v, largest, group, step, grad_scale):
        """The update in plain NumPy, as the reference kernel has it but for `largest`, the largest v so far."""
        kind, (beta1, beta2), decay = p.dtype.type, group["betas"], group["lr"] * group["weight_decay"]
        g = g * kind(grad_scale)
        if self.decoupled:
            p *= kind(1 - decay)
        else:
            g += kind(group["weight_decay"]) * p
        m += kind(1 - beta1) * (g - m)
        v *= kind(beta2)
        v += kind(1 - beta2) * g * g
        np.maximum(largest, v, out=largest)
        p -= kind(group["lr"] / (1 - beta1**step)) * m / (np.sqrt(largest / kind(1 - beta2**step)) + kind(group["eps"]))


class Adam(AdamW):
    """AdamW without decoupling: the decay is an L2 penalty, added to the gradient.   Kingma and Ba 2015 §2"""

    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, *, maximize=False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
