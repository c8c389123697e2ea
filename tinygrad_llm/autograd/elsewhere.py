"""What PyTorch, NumPy, SciPy, autograd or JAX has and this library has not, and how it is written instead: hints for errors."""

from __future__ import annotations

import sys
from collections.abc import Collection, Container
from types import ModuleType
from typing import Any

import numpy as np

IN_PLACE = "a Tensor is a value, no operation changes one: x = {}"
ON_CPU = "everything is on the CPU, there is nothing to move"

HALF = "tg.autocast('bfloat16') for products; arrays are float32 or float64"
IN_PAIRS = "arrays hold no complex numbers: the two parts as two Tensors, or along a last axis of 2"
BY_PATCHES = "no convolutions: patches by reshape and transpose, or by tg.unfold along an axis, then a product with the weight"
BY_LINES = "start + (stop - start) * np.linspace(0, 1, num)"
BY_LOOP = "a loop of Python's own: the graph is what has run"
BY_MARGINS = "margins are tg.functional.relu(x - tg.take_along_axis(x, labels[:, None], 1) + 1), the label's own always 1"
BY_MATRIX = "no complex numbers; with f = np.fft.rfft(np.eye(x.shape[-1])) the two parts of rfft(x) are x @ f.real and x @ f.imag"
BY_RULE = "tg.custom_op; docs/from_numpy.md has one"
BY_SCHEDULE = "tg.optim.Schedule(optimizer, factor), factor(t) multiplying the rate of step t"
BY_UPDATE = "a subclass of tg.optim.Optimizer with an `update`; docs/from_pytorch.md has two"

TO_A_FILE = "np.savez(path, **{name: p.numpy() for name, p in module.state_dict().items()}), and load_state_dict(np.load(path))"

OF_A_TENSOR = {
    "view": "x.reshape(...)", "view_as": "x.reshape(y.shape)", "permute": "x.transpose(...)",
    "unsqueeze": "tg.expand_dims(x, axis)", "expand": "tg.broadcast_to(x, shape)", "expand_as": "tg.broadcast_to(x, y.shape)",
    "repeat_interleave": "x.repeat(n, axis)", "chunk": "tg.split(x, n, axis)",
    "split": "tg.split_lengths(x, lengths, axis); tg.split(x, n, axis) counts the parts, as NumPy does",
    "split_with_sizes": "tg.split_lengths(x, lengths, axis)", "tensor_split": "tg.array_split(x, n, axis)",
    "movedim": "tg.moveaxis(x, source, destination)", "reshape_as": "x.reshape(y.shape)", "narrow": "x[start : start + length]",
    "take_along_dim": "tg.take_along_axis(x, index, axis)", "index_put": "tg.put(x, index, values)",
    "scatter_reduce": "tg.scatter_add(x, axis, index, src) for sums, np.maximum.at on arrays for what needs no gradient",
    "unbind": "x.unstack(axis)", "t": "x.T", "H": "x.mT", "dim": "x.ndim", "numel": "x.size",
    "mm": "x @ y", "bmm": "x @ y", "mv": "x @ y", "neg": "-x", "mul": "x * y", "div": "x / y", "sub": "x - y",
    "addmm": "x + a @ b", "baddbmm": "x + a @ b", "addcmul": "x + value * a * b", "addcdiv": "x + value * a / b",
    "logdet": "tg.logabsdet(x)", "dist": "tg.norm(x - y)", "aminmax": "x.min(), x.max()",
    "clamp_min": "tg.maximum(x, low)", "clamp_max": "tg.minimum(x, high)", "bernoulli": "tg.rand(x.shape) < x",
    "clamp": "x.clip(low, high)", "inverse": "tg.inv(x)", "clone": "x.copy()",
    "eq": "x == y", "ne": "x != y", "lt": "x < y", "le": "x <= y", "gt": "x > y", "ge": "x >= y",
    "type": "x.astype(dtype)", "type_as": "x.astype(y.dtype)", "float": "x.astype(np.float32)", "double": "x.astype(np.float64)",
    "long": "x.astype(np.int64)", "int": "x.astype(np.int32)", "bool": "x.astype(bool)",
    "half": HALF, "bfloat16": HALF, "real": IN_PAIRS, "imag": IN_PAIRS, "is_floating_point": "x.dtype.kind == 'f'",
    "nelement": "x.size", "ndimension": "x.ndim", "element_size": "x.data.itemsize", "itemsize": "x.data.itemsize",
    "values": "the values are x.max(axis), x.min(axis), x.sort(axis) themselves",
    "indices": "the places are x.argmax(axis), x.argmin(axis), x.argsort(axis); tg.topk(x, k, axis) returns both",
    "detach_": "x.detach()", "contiguous": "x itself: any layout will do",
    "is_contiguous": "x.data.flags.c_contiguous", "stride": "x.data.strides", "grad_fn": "x.node",
    "new_zeros": "tg.zeros(shape, dtype=dtype)", "new_ones": "tg.ones(shape, dtype=dtype)",
    "new_empty": "tg.empty(shape, dtype=dtype)", "new_full": "tg.full(shape, value, dtype=dtype)",
    "new_tensor": "tg.tensor(values)",
    "add_": IN_PLACE.format("x + y"), "sub_": IN_PLACE.format("x - y"), "mul_": IN_PLACE.format("x * y"),
    "div_": IN_PLACE.format("x / y"), "masked_fill_": IN_PLACE.format("tg.masked_fill(x, mask, value)"),
    "copy_": "x.data[...] = values", "zero_": "x.data[...] = 0", "fill_": "x.data[...] = value",
    "normal_": "x.data[...] = rng.normal(mean, std, x.shape)", "uniform_": "x.data[...] = rng.uniform(low, high, x.shape)",
    "bernoulli_": "x.data[...] = rng.random(x.shape) < p", "exponential_": "x.data[...] = rng.exponential(1.0, x.shape)",
    "to": f"x.astype(dtype); {ON_CPU}", "cpu": ON_CPU, "cuda": ON_CPU, "device": ON_CPU, "pin_memory": ON_CPU,
    "at": "y = tg.put(x, index, values), with accumulate=True for sums", "flat": "x.reshape(-1)", "conj": IN_PAIRS,
    "fill": "x.data[...] = value", "resize": "x.reshape(...)", "strides": "x.data.strides", "flags": "x.data.flags",
    "tobytes": "x.data.tobytes()", "null_grad": "x.grad = None", "creator": "x.node", "block_until_ready": "x itself",
}  # fmt: skip

OF_NUMPY = {
    "convolve": "tg.sliding_window_view(tg.pad(x, n - 1), n) @ k[::-1] for vectors, n = len(k)",
    "correlate": "tg.sliding_window_view(x, len(k)) @ k for vectors", "linspace": BY_LINES, "logspace": f"base ** ({BY_LINES})",
    "geomspace": "start * (stop / start) ** np.linspace(0, 1, num)", "polyval": "x[..., None] ** np.arange(len(p))[::-1] @ p",
    "vander": "x[:, None] ** np.arange(n)[::-1]", "polyfit": "tg.lstsq(x[:, None] ** np.arange(n)[::-1], y)[0]",
    "ediff1d": "tg.diff(x.reshape(-1))", "compress": "x[mask]", "extract": "x[mask]", "partition": "x.sort()",
    "argpartition": "x.argsort()", "piecewise": "tg.select(conditions, values)",
    "digitize": "tg.searchsorted(boundaries, x, side='right')", "unwrap": "x + (np.unwrap(x.numpy()) - x.numpy())",
    "choose": "tg.take_along_axis(tg.stack(choices), index[None], 0)[0]", "apply_along_axis": "tg.stack([f(row) for row in x])",
    "divmod": "x // y, x % y", "modf": "x - tg.trunc(x), tg.trunc(x)",
    "put": "y = tg.put(x, index, values)", "put_along_axis": "y = tg.put_along_axis(x, index, values, axis)",
    "place": "y = tg.put(x, mask, values)", "putmask": "y = tg.where(mask, values, x)", "copyto": "y = tg.where(mask, values, x)",
    "fill_diagonal": "y = tg.where(np.eye(len(x), dtype=bool), value, x)", "flatnonzero": "tg.nonzero(x.reshape(-1))[0]",
    "diag_indices_from": "np.diag_indices(len(x))", "tril_indices_from": "np.tril_indices(*x.shape)",
    "triu_indices_from": "np.triu_indices(*x.shape)", "eig": f"tg.eigh(x) for symmetric x; {IN_PAIRS}",
    "eigvals": f"tg.eigvalsh(x) for symmetric x; {IN_PAIRS}",
    **dict.fromkeys(("real", "imag", "conj", "conjugate", "angle", "isreal", "iscomplex", "iscomplexobj", "isrealobj"), IN_PAIRS),
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn"), BY_MATRIX),
}  # fmt: skip

OF_A_UFUNCS_METHOD = {
    "add.reduce": "x.sum(axis)", "multiply.reduce": "x.prod(axis)",
    "maximum.reduce": "x.max(axis)", "minimum.reduce": "x.min(axis)", "logaddexp.reduce": "x.logsumexp(axis)",
    "logical_and.reduce": "x.all(axis)", "logical_or.reduce": "x.any(axis)",
    "add.accumulate": "x.cumsum(axis)", "multiply.accumulate": "x.cumprod(axis)", "maximum.accumulate": "tg.cummax(x, axis)[0]",
    "minimum.accumulate": "tg.cummin(x, axis)[0]", "logaddexp.accumulate": "tg.logcumsumexp(x, axis)",
    "add.at": "y = tg.put(x, index, values, accumulate=True)",
}  # fmt: skip

OF_SCIPY = {
    "gammaln": "tg.lgamma(x)", "loggamma": "tg.lgamma(x)", "gamma": "tg.exp(tg.lgamma(x)) for x > 0", "psi": "tg.digamma(x)",
    "betaln": "tg.lgamma(x) + tg.lgamma(y) - tg.lgamma(x + y)", "beta": "tg.exp(tg.lgamma(x) + tg.lgamma(y) - tg.lgamma(x + y))",
    "expit": "tg.sigmoid(x)", "log_expit": "tg.functional.logsigmoid(x)", "ndtr": "tg.erfc(-x / 2**0.5) / 2",
    "ndtri": "tg.erfinv(2 * x - 1) * 2**0.5", "log_ndtr": "tg.log(tg.erfc(-x / 2**0.5) / 2) for x > -37",
    "entr": "-tg.xlogy(x, x)", "rel_entr": "tg.xlogy(x, x / y)", "xlog1py": "x * tg.log1p(y)",
    "cho_solve": "tg.solve(L.mT, tg.solve(L, x))", "solve_triangular": "tg.solve(x, y)", "block_diag": "tg.block, zeros between",
    "toeplitz": "x[np.abs(np.arange(n)[:, None] - np.arange(n))]", "circulant": "x[(np.arange(n)[:, None] - np.arange(n)) % n]",
    "expm": "a tg.custom_op around scipy.linalg.expm, with expm_frechet(x.T, g, compute_expm=False) as its rule",
}  # fmt: skip

OF_A_MODULE = {
    "register_buffer": "self.name = an ndarray: only Tensors are parameters; to be saved, a Tensor without requires_grad",
    "register_module": "self.name = module", "get_parameter": "dict(module.named_parameters())[name]",
    "get_submodule": "dict(module.named_modules())[name]", "reset_parameters": "tg.nn.init.normal(std)(parameter.data, rng)",
    "in_features": "module.weight.shape[1]", "out_features": "module.weight.shape[0]",
    "num_embeddings": "module.weight.shape[0]", "embedding_dim": "module.weight.shape[1]",
    "compile": "the module itself: its kernels are compiled", "bfloat16": "tg.autocast('bfloat16') around the call",
    "register_parameter": "self.name = tg.Tensor(values, requires_grad=True)", "add_module": "self.name = module",
    "to": f"module.astype(dtype); {ON_CPU}", "cpu": ON_CPU, "cuda": ON_CPU, "float": "module.astype(np.float32)",
    "double": "module.astype(np.float64)", "half": "tg.autocast('bfloat16') around the call",
    "buffers": "vars(module): a buffer is an ndarray in an attribute",
    "named_buffers": "vars(module): a buffer is an ndarray in an attribute",
    "register_full_backward_hook": "register_hook of a Tensor that passes, or lens.record(model, names, gradients=True)",
    "register_forward_pre_hook": "lens.patch(model, {name: function}), or a module around this one",
    "save": TO_A_FILE, "save_pretrained": "model.save(directory)", "from_pretrained": "tg.models.load(directory)",
    "gradient_checkpointing_enable": "model.recompute = True", "dtype": "next(module.parameters()).dtype",
    "device": ON_CPU, "cfg": "model.config", "hook_dict": "tg.lens.names(model)",
    "run_with_cache": "with tg.lens.record(model, '*') as values: model(input_ids=ids)",
    "run_with_hooks": "with tg.lens.patch(model, {name: function}): model(input_ids=ids)",
    "add_hook": "with tg.lens.patch(model, {name: function}): model(input_ids=ids)",
    "reset_hooks": "nothing: lens.patch ends with its `with`", "unembed": "model.lm_head or, where it is None, the tokens' weight",
    "blocks": "model.without_head().blocks()", "W_E": "model.without_head().tokens.weight, (V, D)",
    "W_U": "model.lm_head.weight, (V, D), or, where lm_head is None, model.without_head().tokens.weight",
    **{f"W_{x.upper()}": f"attn.{x}.weight.reshape(H, K, D)[head] of a block, for rows W @ x" for x in "qkv"},
    "W_O": "attn.o.weight.reshape(D, H, K)[:, head] of a block, for rows W @ z",
    "add_sae": "with tg.lens.patch(model, {name: sae}): model(input_ids=ids)",
    "get_input_embeddings": "the tg.nn.Embedding among model.named_modules()",
    "get_output_embeddings": "model.lm_head or, where it is None, the tg.nn.Embedding among model.named_modules()",
    "tie_weights": "one Tensor in both places: self.head.weight = self.tokens.weight",
    "prune_heads": "with tg.lens.patch(model, {'blocks.3.attn.z[:, :, 4]': 0.0}): model(input_ids=ids)",
    "base_model": "model.without_head()", "freeze": "model.requires_grad_(False)",
    "get_encoder": "model.encode(input_ids=ids)",
    "prepare_decoder_input_ids_from_labels": "model(input_ids=ids, labels=labels) makes them of the labels",
    "compute_transition_scores": "tg.log_softmax(logits[:, :-1], -1), then tg.take_along_axis at ids[:, 1:, None]",
    **dict.fromkeys(("greedy_search", "beam_search", "sample"), "model.generate(ids, ...)"),
    "to_tokens": "tg.text.load(directory).encode(text)", "to_string": "tg.text.load(directory).decode(ids)",
}  # fmt: skip

OF_A_MODULE |= {
    published: f"in the models of tg.models: {ours}"
    for ours, many in {
        "layers, a list": ("h", "layer", "encoder"), "tokens": ("wte", "word_embeddings", "embed_tokens", "embeddings"),
        "positions": ("wpe", "position_embeddings", "embed_positions"), "segments": ("token_type_embeddings",),
        "final_norm": ("ln_f",), "attn": ("attention", "self_attn", "self_attention"), "cross": ("encoder_attn", "crossattention"),
        "attn_norm": ("ln_1", "input_layernorm", "self_attn_layer_norm"),
        "mlp_norm": ("ln_2", "post_attention_layernorm", "final_layer_norm"), "mlp": ("feed_forward", "intermediate"),
        "q": ("query", "q_proj"), "k": ("key", "k_proj"), "v": ("value", "v_proj"), "q, k and v": ("c_attn",),
        "o": ("o_proj", "out_proj"), "o of attn, down of mlp": ("c_proj",), "up": ("c_fc", "fc1", "up_proj"),
        "down": ("fc2", "down_proj"), "gate": ("gate_proj",),
    }.items() for published in many
}  # fmt: skip

OF_NN = {
    "MultiMarginLoss": BY_MARGINS,
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
    "BCELoss": "tg.functional.binary_cross_entropy(probabilities, labels)", "Flatten": "x.flatten(1)",
    "Unflatten": "x.unflatten(axis, shape)",
    "Buffer": "an ndarray in an attribute", "GroupNorm": "tg.functional.group_norm(x, groups, weight, bias)",
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), "tg.nn.LayerNorm(width), or (x - x.mean(0)) / tg.sqrt(x.var(0) + eps)"),
    **dict.fromkeys(("Conv1d", "Conv2d", "Unfold"), BY_PATCHES),
    **dict.fromkeys(("LSTM", "LSTMCell"), "i, f, g, o = tg.split(self.x(x) + self.h(h), 4, -1) in a loop over the positions"),
    **dict.fromkeys(("GRU", "GRUCell", "RNN", "RNNCell"), "two tg.nn.Linear in a loop over the positions, x.unstack(1)"),
    **dict.fromkeys(("Transformer", "TransformerEncoder"), "a list of tg.nn.EncoderBlock, or tg.models.create(name)"),
    "EmbeddingBag": "self.table(ids).sum(-2) or .mean(-2), self.table = tg.nn.Embedding(num, width)",
    "TransformerDecoder": "a list of tg.nn.DecoderBlock, or tg.models.create(name)",
}  # fmt: skip

OF_INIT = {
    "normal_": "tg.nn.init.normal(std)(x.data, rng)", "uniform_": "tg.nn.init.uniform(bound)(x.data, rng)",
    "trunc_normal_": "tg.nn.init.normal(std)(x.data, rng); it is not cut off",
    "xavier_uniform_": "tg.nn.init.xavier_uniform()(x.data, rng)",
    "xavier_normal_": "tg.nn.init.normal((2 / sum(x.shape)) ** 0.5)(x.data, rng)",
    "kaiming_uniform_": "tg.nn.init.uniform((6 / x.shape[1]) ** 0.5)(x.data, rng)",
    "kaiming_normal_": "tg.nn.init.normal((2 / x.shape[1]) ** 0.5)(x.data, rng)",
    "zeros_": "tg.nn.init.zeros(x.data, rng)", "ones_": "tg.nn.init.ones(x.data, rng)",
    "constant_": "tg.nn.init.constant(value)(x.data, rng)", "eye_": "x.data[...] = np.eye(*x.shape)",
    "orthogonal_": "x.data[...] = np.linalg.qr(rng.normal(size=x.shape))[0], of a matrix that is not wide",
}  # fmt: skip

OF_FUNCTIONAL = {
    **dict.fromkeys(("conv1d", "conv2d", "unfold"), BY_PATCHES),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d"), "the windows as axes by reshape, then x.mean(axis)"),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "adaptive_max_pool2d"), "the windows as axes by reshape, then x.max(axis)"),
    "batch_norm": "(x - x.mean(0)) / tg.sqrt(x.var(0) + eps)", "instance_norm": "tg.functional.group_norm(x, x.shape[1])",
    "multi_margin_loss": BY_MARGINS,
    "embedding_bag": "tg.functional.embedding(ids, weight).sum(-2)", "multi_head_attention_forward": "tg.nn.MultiHeadAttention",
}  # fmt: skip

OF_THE_PACKAGE = {
    "cat": "tg.concatenate(tensors, axis)", "from_numpy": "tg.Tensor(array)", "as_tensor": "tg.asarray(values)",
    "rand_like": "tg.rand(x.shape)", "randn_like": "tg.randn(x.shape)", "value_and_grad": "tg.vjp(f, x)",
    "randint_like": "tg.randint(low, high, x.shape)", "normal": "mean + std * tg.randn(shape)",
    "array": "tg.tensor(values), and tg.stack or tg.block for lists of Tensors",
    "FloatTensor": "tg.tensor(values)", "LongTensor": "tg.tensor(values)", "scalar_tensor": "tg.tensor(value)", "Size": "a tuple",
    "broadcast_tensors": "tg.broadcast_arrays(x, y)", "bucketize": "tg.searchsorted(boundaries, x)",
    "pdist": "tg.norm(x[i] - x[j], axis=-1) for i, j = np.triu_indices(n, 1)",
    "var_mean": "x.var(axis), x.mean(axis)", "std_mean": "x.std(axis), x.mean(axis)", "isin": "np.isin(x.numpy(), values)",
    "tril_indices": "np.tril_indices(n)", "triu_indices": "np.triu_indices(n)", "finfo": "np.finfo(x.dtype)",
    "e": "np.e", "pi": "np.pi", "inf": "np.inf", "nan": "np.nan", "newaxis": "None",
    **dict.fromkeys(("complex", "complex64", "polar", "view_as_complex", "view_as_real"), IN_PAIRS),
    "compile": "the function itself: its kernels are compiled", "special": "tg.erf, tg.digamma, tg.logit, ...",
    "distributions": "tg.multinomial(weights, n) draws, tg.log_softmax(logits) gives log-probabilities; tg.randn, tg.rand",
    "distributed": "docs/many_processes.md",
    "utils": "tg.checkpoint(fn, *args); batches are slices of arrays, tg.data.pad pads them",
    "get_rng_state": "tg.generator().bit_generator.state", "set_rng_state": "tg.generator().bit_generator.state = state",
    "seed": "tg.manual_seed(seed)", "initial_seed": "tg.manual_seed(seed)",
    "amp": HALF, "set_float32_matmul_precision": HALF, "get_default_dtype": "np.float32", "dtype": "np.dtype",
    "profiler": "with tg.lens.profile() as report:", "jit": "the function itself: its kernels are compiled",
    "set_num_threads": "kernels.set_num_threads(n)", "backends": ON_CPU,
    "broadcast_shapes": "np.broadcast_shapes(x.shape, y.shape)",
    "cdist": "tg.norm(x[:, None] - y[None], axis=-1)", "detach": "x.detach()", "stop_gradient": "x.detach()",
    "is_tensor": "isinstance(x, tg.Tensor)", "inference_mode": "tg.no_grad()",
    "set_grad_enabled": "with tg.no_grad(): or with tg.enable_grad():",
    **dict.fromkeys(("numpy", "scipy"), "NumPy's own functions take Tensors: np.sum(x), np.linalg.solve(a, x)"),
    "elementwise_grad": "tg.grad(y.sum(), x)[0]", **dict.fromkeys(("jacfwd", "jacrev"), "tg.jacobian(f, x)"),
    **dict.fromkeys(("make_vjp", "vector_jacobian_product"), "tg.vjp(f, x, v)"), "astensor": "tg.asarray(values)",
    **dict.fromkeys(("make_jvp", "linearize"), "tg.jvp(f, x, v)"), "make_ggnvp": "tg.vjp(f, x, tg.jvp(f, x, v)[1])",
    **dict.fromkeys(("make_hvp", "hessian_vector_product", "hessian_tensor_product"), "tg.hvp(f, x, v)"),
    **dict.fromkeys(("primitive", "defvjp", "custom_vjp", "custom_jvp", "custom_gradient"), BY_RULE), "no_autodiff": "tg.no_grad()",
    **dict.fromkeys(("lax", "scan", "fori_loop", "while_loop"), BY_LOOP),
    "segment_sum": "tg.index_add(tg.zeros(n, *x.shape[1:], dtype=x.dtype), 0, ids, x)", "ndarray": "np.ndarray",
    **dict.fromkeys(("tree_map", "tree_util"), "[f(x) for x in xs]; several inputs are a tuple of Tensors"),
    "set_default_dtype": "dtype= where a Tensor is made, model.astype(dtype)",
    "linalg": "tg.norm, tg.solve, tg.svd, ..., or np.linalg itself", "func": "tg.grad, tg.vjp, tg.jvp, tg.jacobian, tg.hessian",
    "vmap": "axes in front: operations broadcast, x @ y multiplies stacks of matrices",
    "Generator": "np.random.default_rng(seed), and rng= where numbers are drawn",
    "save": f"model.save(directory), for a module of one's own {TO_A_FILE}",
    "load": f"tg.models.load(directory), for a module of one's own {TO_A_FILE}",
    "float32": "np.float32", "float64": "np.float64", "double": "np.float64", "int32": "np.int32", "int64": "np.int64",
    "int8": "np.int8", "uint8": "np.uint8", "long": "np.int64", "bool": "bool", "bfloat16": HALF, "float16": HALF,
}  # fmt: skip

OF_AUTOGRAD = {
    "Function": "tg.custom_op", "Variable": "tg.Tensor(values, requires_grad=True)",
    "gradcheck": "tg.testing.gradcheck(fn, inputs)", "gradgradcheck": "tg.testing.gradgradcheck(fn, inputs)",
    "set_detect_anomaly": "with tg.detect_anomaly():", "set_grad_enabled": "with tg.no_grad(): or with tg.enable_grad():",
}  # fmt: skip

OF_OPTIM = {
    "lr_scheduler": "tg.optim.cosine(optimizer, warmup, total), linear, inverse_sqrt or constant",
    **dict.fromkeys(
        ("LambdaLR", "StepLR", "MultiStepLR", "OneCycleLR", "CyclicLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts",
         "LinearLR", "PolynomialLR", "ExponentialLR", "ConstantLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),
        BY_SCHEDULE,
    ),
    **dict.fromkeys(
        ("Muon", "RMSprop", "Adagrad", "Adafactor", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "SparseAdam"), BY_UPDATE
    ),
    "ReduceLROnPlateau": "for group in optimizer.param_groups: group['lr'] *= factor, where the loss stands still",
    "get_linear_schedule_with_warmup": "tg.optim.linear(optimizer, warmup, total)",
    "get_cosine_schedule_with_warmup": "tg.optim.cosine(optimizer, warmup, total)",
    "get_constant_schedule_with_warmup": "tg.optim.constant(optimizer, warmup)",
    "get_inverse_sqrt_schedule": "tg.optim.inverse_sqrt(optimizer, warmup)",
    "swa_utils": "average = copy.deepcopy(model), after each step a.data += (1 - decay) * (p.data - a.data) for its parameters",
    "clip_grad_value_": "p.grad = p.grad.clip(-limit, limit) for each parameter p",
    "LBFGS": "scipy.optimize.minimize(f, start, jac=True, method='L-BFGS-B'), f giving the loss and its gradient as arrays",
}  # fmt: skip

OF_AN_OPTIMIZER = {
    "state": "optimizer.state_dict()['state']; in a class of one's own buffers = ('name', ...), and `update` gets the arrays",
}

OTHER_HEAD = "a module of tg.models.load(directory, architecture='...Model'), the base, and a tg.nn.Linear on its output"
OF_MODELS = {
    "AutoConfig": "tg.models.preset_config(name)", "AutoTokenizer": "tg.text.load(directory)",
    "AutoModel": "tg.models.load(directory) or tg.models.create(name)",
    "pipeline": "tg.models.load(directory) and tg.text.load(directory)",
    **dict.fromkeys(("Trainer", "TrainingArguments"), "loss.backward() and optimizer.step() in a loop, or tinygrad-llm train"),
    "DataCollatorWithPadding": "ids, mask = tg.data.pad(rows)",
    "DataCollatorForLanguageModeling": "tg.objectives.masked(ids, ...) or tg.objectives.causal(ids)",
    "DynamicCache": "model.make_cache()", "GenerationConfig": "arguments of model.generate, or model.generation_config, a dict",
    **dict.fromkeys(("LogitsProcessor", "LogitsProcessorList"), "model.generate(logits_processor=function of (ids, scores))"),
    **dict.fromkeys(("StoppingCriteria", "StoppingCriteriaList"), "model.generate(stop_strings=..., tokenizer=...)"),
    **dict.fromkeys(("TextStreamer", "TextIteratorStreamer"), "model.generate(stream=function of each step's tokens)"),
    "set_seed": "tg.manual_seed(seed)",
}

OF_TEXT = {
    **dict.fromkeys(("AutoTokenizer", "from_pretrained", "get_encoding", "BertTokenizer", "BertTokenizerFast", "GPT2Tokenizer",
                     "GPT2TokenizerFast"), "tg.text.load(directory)"),
}  # fmt: skip

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
OF_A_TOKENIZER = {
    **{f"{role}_token_id": f"tokenizer.special[{role!r}]" for role in ROLES},
    **{f"{role}_token": f"tokenizer.decode([tokenizer.special[{role!r}]])" for role in ROLES},
    "tokenize": "[tokenizer.decode([i]) for i in tokenizer.encode(text)]",
    "convert_ids_to_tokens": "[tokenizer.decode([i]) for i in ids]",
    "convert_tokens_to_ids": "tokenizer.inner.token_to_id(token), of one that `tokenizers` made",
    "batch_decode": "[tokenizer.decode(row, skip_special_tokens=True) for row in ids]",
    **dict.fromkeys(
        ("batch_encode_plus", "encode_plus", "pad"), "ids, mask = tg.data.pad([tokenizer.framed(text) for text in texts])"
    ),
    **dict.fromkeys(("add_tokens", "add_special_tokens"),
                    "tokenizer.inner.add_special_tokens([token]), then tokenizer = type(tokenizer)(tokenizer.inner)"),
    "get_vocab": "tokenizer.inner.get_vocab(), of one that `tokenizers` made", "save_pretrained": "tokenizer.save(directory)",
    "from_pretrained": "tg.text.load(directory)", "all_special_ids": "tokenizer.special.values()",
    "n_vocab": "tokenizer.vocab_size", "eot_token": "tokenizer.special['eos']",  # tiktoken's
    "encode_ordinary": "tokenizer.encode(text)",
    **dict.fromkeys(("encode_batch", "encode_ordinary_batch"), "[tokenizer.encode(text) for text in texts]"),
    "decode_batch": "[tokenizer.decode(row) for row in ids]",
    "word_ids": "tokenizer.inner.encode(text).word_ids, and .offsets, of one that `tokenizers` made",
}  # fmt: skip

OF_DATA = {
    **dict.fromkeys(("DataLoader", "RandomSampler", "BatchSampler"), "tg.data.Examples(items).draw(n) gives n items as a list"),
    **dict.fromkeys(("Dataset", "TensorDataset", "IterableDataset"), "any sequence: tg.data.Examples(items)"),
    "random_split": "tg.data.split_items(items, fraction)", "Subset": "[items[i] for i in numbers]",
    "default_collate": "np.stack(rows), of rows of different lengths tg.data.pad(rows)",
}

OF_A_CACHE = {
    "crop": "cache.truncate(length)", "batch_repeat_interleave": "cache.reorder(np.repeat(np.arange(B), n))",
    "batch_select_indices": "cache.reorder(rows)", "reorder_cache": "cache.reorder(rows)",
    "get_max_cache_shape": "cache.capacity", "to_legacy_cache": "[(layer.k[:, :, :cache.length], layer.v[:, :, :cache.length]) "
    "for layer in cache.layers]",
    "key_cache": "[layer.k[:, :, :cache.length] for layer in cache.layers]",
    "value_cache": "[layer.v[:, :, :cache.length] for layer in cache.layers]",
}  # fmt: skip

AS_A_PROCESSOR = "logits_processor=function of (ids, scores) that returns scores"
OF_GENERATE = {
    "streamer": "stream=function of each step's tokens (B,)", "seed": "rng=np.random.default_rng(seed)",
    "generator": "rng=np.random.default_rng(seed)",
    "generation_config": "its entries as arguments, or model.generation_config = a dict",
    "stopping_criteria": "stop_strings=..., tokenizer=..., or a logits_processor that leaves the end token alone",
    **dict.fromkeys(("prefix_allowed_tokens_fn", "sequence_bias", "guidance_scale", "negative_prompt_ids", "watermarking_config",
                     "constraints", "force_words_ids"), AS_A_PROCESSOR),
    **dict.fromkeys(("return_dict_in_generate", "output_scores", "output_logits"),
                    "it returns ids alone; model(input_ids=ids).logits has the logits of them"),
    **dict.fromkeys(("output_attentions", "output_hidden_states"),
                    "it returns ids alone; model(input_ids=ids, output_attentions=True, output_hidden_states=True)"),
    **dict.fromkeys(("use_cache", "cache_implementation"), "it always keeps a cache"),
    "assistant_model": "prompt_lookup_num_tokens=n",
}  # fmt: skip


def no_rule(function: Any, method: str = "__call__", out: bool = False) -> TypeError:
    """The error for a function of NumPy's or SciPy's that Tensors have no rule for: called, or a ufunc's method, or with `out=`."""
    from . import ops

    name = function.__name__
    if isinstance(function, np.ufunc):
        rooms = {"np": np, "scipy.special": sys.modules.get("scipy.special")}
        module = next((known for known, room in rooms.items() if getattr(room, name, None) is function), None)
    else:
        module = function.__module__.replace("numpy", "np", 1)
    what = (f"{module}.{name}" if module else name) + ("" if method == "__call__" else f".{method}")
    if out:
        return TypeError(f"{what} has no gradient rule for Tensors with out=; here: {IN_PLACE.format('x + y')} instead of x += y")
    hint = None if module else "tg.custom_op"
    if module and method == "__call__":
        hint = _hint(name, OF_SCIPY | OF_NUMPY, ops.__all__, ())
    elif module:
        hint = f"{module}.{name}(x[:, None], y)" if method == "outer" else OF_A_UFUNCS_METHOD.get(f"{name}.{method}")
    return TypeError(f"{what} has no gradient rule for Tensors; {f'here: {hint}' if hint else 'use .numpy() for its value alone'}")


def no_attribute(
    holder: Any, name: str, hints: dict[str, str], functions: Container[str] = (), functional: Collection[str] = ()
) -> AttributeError:
    """The error, with how to write it: a hint, or the function of `tg` or `tg.functional` that has the name."""
    hint = _hint(name, hints, functions, functional)
    if hint is None and name.endswith("_") and not name.endswith("__"):
        hint = _hint(name[:-1], hints, functions, functional)
        hint = None if hint is None else IN_PLACE.format(hint)
    who = f"module {holder.__name__!r}" if isinstance(holder, ModuleType) else f"{type(holder).__name__!r} object"
    message = f"{who} has no attribute {name!r}"
    return AttributeError(message if hint is None else f"{message}; here: {hint}", name=name, obj=holder)


def _hint(name: str, hints: dict[str, str], functions: Container[str], functional: Collection[str]) -> str | None:
    if name in hints:
        return hints[name]
    if name in functions:
        return f"tg.{name}(x, ...)"
    if not name.islower():  # a class, LeakyReLU or KLDivLoss
        known = {known.replace("_", ""): known for known in functional}
        name = known.get(name.lower(), known.get(name.lower().removesuffix("loss"), name))
    return f"tg.functional.{name}(x, ...)" if name in functional else None
