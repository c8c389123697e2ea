"""What PyTorch calls a method or part that has another name here, and how it is written instead: hints for errors."""

from __future__ import annotations

from collections.abc import Container
from types import ModuleType
from typing import Any

IN_PLACE = "a Tensor is a value, no operation changes one: x = {}"
ON_CPU = "everything is on the CPU, there is nothing to move"

TO_A_FILE = "np.savez(path, **{name: p.numpy() for name, p in module.state_dict().items()}), and load_state_dict(np.load(path))"

OF_A_TENSOR = {
    "view": "x.reshape(...)", "view_as": "x.reshape(y.shape)", "permute": "x.transpose(...)",
    "unsqueeze": "tg.expand_dims(x, axis)", "expand": "tg.broadcast_to(x, shape)", "expand_as": "tg.broadcast_to(x, y.shape)",
    "repeat_interleave": "x.repeat(n, axis)", "chunk": "tg.split(x, n, axis)",
    "unbind": "x.unstack(axis)", "t": "x.T", "H": "x.mT", "dim": "x.ndim", "numel": "x.size",
    "mm": "x @ y", "bmm": "x @ y", "neg": "-x", "clamp": "x.clip(low, high)", "inverse": "tg.inv(x)", "clone": "x.copy()",
    "eq": "x == y", "ne": "x != y", "lt": "x < y", "le": "x <= y", "gt": "x > y", "ge": "x >= y",
    "type": "x.astype(dtype)", "type_as": "x.astype(y.dtype)", "float": "x.astype(np.float32)", "double": "x.astype(np.float64)",
    "long": "x.astype(np.int64)", "int": "x.astype(np.int32)", "bool": "x.astype(bool)",
    "half": "tg.autocast('bfloat16') for products; arrays are float32 or float64",
    "detach_": "x.detach()", "contiguous": "x itself: any layout will do",
    "is_contiguous": "x.data.flags.c_contiguous", "stride": "x.data.strides", "new_zeros": "tg.zeros(shape, dtype=dtype)",
    "add_": IN_PLACE.format("x + y"), "sub_": IN_PLACE.format("x - y"), "mul_": IN_PLACE.format("x * y"),
    "div_": IN_PLACE.format("x / y"), "masked_fill_": IN_PLACE.format("tg.masked_fill(x, mask, value)"),
    "copy_": "x.data[...] = values", "zero_": "x.data[...] = 0", "fill_": "x.data[...] = value",
    "normal_": "x.data[...] = rng.normal(mean, std, x.shape)", "uniform_": "x.data[...] = rng.uniform(low, high, x.shape)",
    "to": f"x.astype(dtype); {ON_CPU}", "cpu": ON_CPU, "cuda": ON_CPU, "device": ON_CPU,
}  # fmt: skip

OF_A_MODULE = {
    "register_buffer": "self.name = an ndarray: only Tensors are parameters",
    "register_parameter": "self.name = tg.Tensor(values, requires_grad=True)", "add_module": "self.name = module",
    "to": f"module.astype(dtype); {ON_CPU}", "cpu": ON_CPU, "cuda": ON_CPU, "float": "module.astype(np.float32)",
    "double": "module.astype(np.float64)", "half": "tg.autocast('bfloat16') around the call",
    "buffers": "vars(module): a buffer is an ndarray in an attribute",
    "register_full_backward_hook": "register_hook of a Tensor that passes, or lens.record(model, names, gradients=True)",
    "register_forward_pre_hook": "lens.patch(model, {name: function}), or a module around this one",
    "save": TO_A_FILE, "save_pretrained": "model.save(directory)", "from_pretrained": "tg.models.load(directory)",
    "gradient_checkpointing_enable": "model.recompute = True", "dtype": "next(module.parameters()).dtype",
    "device": ON_CPU, "cfg": "model.config", "hook_dict": "tg.lens.names(model)",
    "run_with_cache": "with tg.lens.record(model, '*') as values: model(input_ids=ids)",
    "run_with_hooks": "with tg.lens.patch(model, {name: function}): model(input_ids=ids)",
    "add_hook": "with tg.lens.patch(model, {name: function}): model(input_ids=ids)",
    "get_input_embeddings": "the tg.nn.Embedding among model.named_modules()",
}  # fmt: skip

OF_NN = {
    "Parameter": "tg.Tensor(values, requires_grad=True)",
    "ParameterList": "a list of Tensors", "ParameterDict": "a dict of Tensors",
    "ModuleList": "a list of modules: a module finds the members", "ModuleDict": "a dict of modules: a module finds the members",
    "Sequential": "a list of modules, and in forward: for layer in self.layers: x = layer(x)", "Identity": "lambda x: x",
    "MultiheadAttention": "tg.nn.MultiHeadAttention", "TransformerEncoderLayer": "tg.nn.EncoderBlock",
    "TransformerDecoderLayer": "tg.nn.DecoderBlock", "functional": "tg.functional",
    "utils": "tg.optim.clip_grad_norm_(parameters, 1.0)",
    "ReLU": "tg.functional.relu(x)", "GELU": "tg.functional.gelu(x)", "SiLU": "tg.functional.silu(x)", "Tanh": "tg.tanh(x)",
    "Sigmoid": "tg.functional.sigmoid(x)", "Softmax": "tg.functional.softmax(x, axis=-1)",
    "CrossEntropyLoss": "tg.functional.cross_entropy(logits, labels)", "MSELoss": "tg.functional.mse_loss(x, y)",
    "BCEWithLogitsLoss": "tg.functional.binary_cross_entropy_with_logits(logits, labels)",
}  # fmt: skip

OF_THE_PACKAGE = {
    "cat": "tg.concatenate(tensors, axis)", "from_numpy": "tg.Tensor(array)", "as_tensor": "tg.asarray(values)",
    "rand_like": "tg.rand(x.shape)", "randn_like": "tg.randn(x.shape)", "value_and_grad": "y = f(x), then tg.grad(y, x)",
    "bernoulli": "tg.rand(x.shape) < x",
    "cdist": "tg.norm(x[:, None] - y[None], axis=-1)", "detach": "x.detach()", "stop_gradient": "x.detach()",
    "is_tensor": "isinstance(x, tg.Tensor)", "inference_mode": "tg.no_grad()",
    "set_grad_enabled": "with tg.no_grad(): or with tg.enable_grad():",
    "set_default_dtype": "dtype= where a Tensor is made, model.astype(dtype)", "linalg": "tg.norm, tg.solve, tg.svd, ...",
    "fft": "no gradient goes through it; np.fft.rfft(x.numpy())", "func": "tg.grad, tg.vjp, tg.jvp, tg.jacobian, tg.hessian",
    "vmap": "axes in front: operations broadcast, x @ y multiplies stacks of matrices",
    "Generator": "np.random.default_rng(seed), and rng= where numbers are drawn",
    "save": f"model.save(directory), for a module of one's own {TO_A_FILE}",
    "load": f"tg.models.load(directory), for a module of one's own {TO_A_FILE}",
    "float32": "np.float32", "float64": "np.float64", "double": "np.float64", "int32": "np.int32", "int64": "np.int64",
    "long": "np.int64", "bool": "bool", "bfloat16": "tg.autocast('bfloat16') for products; arrays are float32 or float64",
}  # fmt: skip

OF_AUTOGRAD = {
    "Function": "tg.custom_op", "Variable": "tg.Tensor(values, requires_grad=True)",
    "gradcheck": "tg.testing.gradcheck(fn, inputs)", "gradgradcheck": "tg.testing.gradgradcheck(fn, inputs)",
    "set_detect_anomaly": "with tg.detect_anomaly():",
}  # fmt: skip

OF_OPTIM = {
    "lr_scheduler": "tg.optim.cosine(optimizer, warmup, total), linear, inverse_sqrt or constant",
    "LBFGS": "scipy.optimize.minimize(f, start, jac=True, method='L-BFGS-B'), f giving the loss and its gradient as arrays",
}

OF_MODELS = {
    "AutoConfig": "tg.models.preset_config(name)", "AutoTokenizer": "tg.text.load(directory)",
    "AutoModel": "tg.models.load(directory) or tg.models.create(name)",
}


def no_attribute(
    holder: Any, name: str, hints: dict[str, str], functions: Container[str] = (), functional: Container[str] = ()
) -> AttributeError:
    """The error, with how to write it: a hint, or the function of `tg` or `tg.functional` that has the name."""
    hint = hints.get(name)
    if hint is None and name in functions:
        hint = f"tg.{name}(x, ...)"
    elif hint is None and name in functional:
        hint = f"tg.functional.{name}(x, ...)"
    who = f"module {holder.__name__!r}" if isinstance(holder, ModuleType) else f"{type(holder).__name__!r} object"
    message = f"{who} has no attribute {name!r}"
    return AttributeError(message if hint is None else f"{message}; here: {hint}", name=name, obj=holder)
