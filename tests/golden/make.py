"""Makes the golden files from transformers and PyTorch: weights, inputs, outputs and gradients of small models, in float64.

    python tests/golden/make.py            writes tests/golden/*.npz; needs torch and transformers

transformers computes some norms, rotary angles and losses in float32 whatever the model's dtype; `in_double` takes that out.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
from tests.models import compare, zoo  # noqa: E402


@contextlib.contextmanager
def in_double():
    """float64 stays float64: `.float()`, `.to(float32)` and `softmax(dtype=float32)` leave doubles alone."""
    import torch

    real_float, real_to, real_softmax = torch.Tensor.float, torch.Tensor.to, torch.nn.functional.softmax
    is_double = lambda x: x.dtype == torch.float64

    def to(self, *args, **kwargs):
        if is_double(self) and torch.float32 in (*args, kwargs.get("dtype")):
            return self
        return real_to(self, *args, **kwargs)

    def softmax(x, *args, **kwargs):
        if is_double(x):
            kwargs.pop("dtype", None)
        return real_softmax(x, *args, **kwargs)

    torch.Tensor.float = torch.Tensor.double  # integers, too: labels and positions would bring float32 back
    torch.Tensor.to = to
    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to, torch.nn.functional.softmax = real_float, real_to, real_softmax


def build(case, seed):
    """transformers' model for a case, with random weights large enough that a mistake shows, attention in the open."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(seed)
    config = getattr(transformers, case.config_class)(**case.config)
    model = getattr(transformers, case.architecture)(config).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn_like(p)
            p.copy_(0.3 * noise if p.ndim > 1 else p + 0.1 * noise)
    return model


def to_double(model):
    """The model in float64, with rotary frequencies that were never float32."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model = model.double()
    single, torch.float = torch.float, torch.float64
    try:
        for module in model.modules():
            if hasattr(module, "inv_freq"):
                make = ROPE_INIT_FUNCTIONS.get(module.rope_type, getattr(module, "compute_default_rope_parameters", None))
                module.inv_freq = make(module.config)[0]
    finally:
        torch.float = single
    return model


def run(model, case):
    """(outputs, gradients): name -> array or list of arrays, and published name -> array."""
    import torch

    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    found = {name: out[name].detach().numpy() for name in ("loss", *compare.FIELDS) if out.get(name) is not None}
    for name in compare.LISTS:
        if out.get(name) is not None and len(out[name]) and out[name][0] is not None:
            found[name] = [x.detach().numpy() for x in out[name]]
    if "loss" not in found:  # a base model: the gradient of some fixed weighing of its states
        (out.last_hidden_state * torch.tensor(compare.weighing(out.last_hidden_state.shape, case))).sum().backward()
    else:
        out.loss.backward()
    names = {id(p): n for n, p in model.named_parameters()}
    return found, {names[id(p)]: np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in model.parameters()}


def main():
    for architecture in zoo.ARCHITECTURES:
        case = zoo.case(architecture, 0)
        model = build(case, 0)
        weights = {n: p.detach().numpy().copy() for n, p in model.state_dict().items()}
        with in_double():
            found, gradients = run(to_double(model), case)
        config = {**model.config.to_dict(), "architectures": [architecture]}
        arrays = {"config": np.array(json.dumps(config, default=str))}
        arrays |= {f"weight/{n}": w for n, w in weights.items() if n in gradients or n == "final_logits_bias"}
        arrays |= {f"input/{n}": v for n, v in case.inputs.items()}
        for name, value in found.items():
            many = value if isinstance(value, list) else [value]
            arrays |= {f"out/{name}/{i}": v for i, v in enumerate(many)}
        arrays |= {f"grad/{n}": g for n, g in gradients.items()}
        np.savez_compressed(HERE / f"{architecture}.npz", **arrays)
        print(architecture)


if __name__ == "__main__":
    main()
