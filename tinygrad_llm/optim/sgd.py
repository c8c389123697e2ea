"""Stochastic gradient descent with momentum (Sutskever et al. 2013 for Nesterov's form), as PyTorch writes it."""

from .optimizer import Optimizer


class SGD(Optimizer):
    """g ← g + λ p;  u ← μ u + (1 - dampening) g (u ← g at the first step);  p ← p - lr (g + μ u if nesterov else u)

    `maximize` goes up the gradient.
    """

    buffers = ("u",)

    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False, *, dampening=0.0, maximize=False):
        if nesterov and not (momentum > 0 and dampening == 0):
            raise ValueError(f"nesterov: needs a momentum above 0 and no dampening, got {momentum} and {dampening}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov,
                                  "dampening": dampening, "maximize": maximize})  # fmt: skip

    def update(self, params, grads, state, group, step, grad_scale):
        momentum, decay = group["momentum"], group["weight_decay"]
        for p, g, u in zip(params, grads, state[0]):
            kind = p.dtype.type
            g = g * kind(grad_scale)
            if decay:
                g += kind(decay) * p
            if momentum:
                u *= kind(momentum)  # u starts at zero, so the first step leaves u = g
                u += g * kind(1 - group["dampening"]) if group["dampening"] and step > 1 else g
                g = g + kind(momentum) * u if group["nesterov"] else u
            p -= kind(group["lr"]) * g
