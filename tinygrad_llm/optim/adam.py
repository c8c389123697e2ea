"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), one fused kernel for both."""

import kernels

from .optimizer import Optimizer


class AdamW(Optimizer):
    """m ← β1 m + (1-β1) g;  v ← β2 v + (1-β2) g²;  p ← p (1 - lr λ) - lr m̂ / (√v̂ + ε)

    The decay λ acts on the weight itself. Defaults as in PyTorch.
    """

    buffers = ("m", "v")
    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def update(self, params, grads, state, group, step, grad_scale):
        beta1, beta2 = group["betas"]
        kernels.adamw_step(params, grads, state[0], state[1], group["lr"], beta1, beta2, group["eps"],
                           group["weight_decay"], step, grad_scale, self.decoupled)


class Adam(AdamW):
    """The same without decoupling: the decay is an L2 penalty, added to the gradient."""

    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, betas, eps, weight_decay)
