"""What is not there says how it is written here."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.elsewhere import (
    BY_MARGINS,
    OF_A_CACHE,
    OF_A_MODULE,
    OF_A_TENSOR,
    OF_A_UFUNCS_METHOD,
    OF_AN_OPTIMIZER,
    OF_AUTOGRAD,
    OF_DATA,
    OF_FUNCTIONAL,
    OF_INIT,
    OF_MODELS,
    OF_NN,
    OF_NUMPY,
    OF_OPTIM,
    OF_SCIPY,
    OF_TEXT,
    OF_THE_PACKAGE,
    OTHER_HEAD,
)
from tinygrad_llm.autograd.tensor import numpy_table


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("view", "x.reshape(...)"),
        ("masked_fill", "tg.masked_fill(x, ...)"),
        ("relu", "tg.functional.relu(x, ...)"),
        ("mul_", "x = x * y"),
        ("split", "tg.split_lengths(x, lengths, axis)"),
        ("scatter_add_", "a Tensor is a value, no operation changes one: x = tg.scatter_add(x, ...)"),
        ("clamp_", "no operation changes one: x = x.clip(low, high)"),
        ("relu_", "no operation changes one: x = tg.functional.relu(x, ...)"),
        ("cuda", "nothing to move"),
        ("values", "the values are x.max(axis)"),
        ("indices", "x.argmax(axis)"),
    ],
)
def test_a_method_of_pytorch_is_refused_with_how_it_is_written_here(name, hint):
    with pytest.raises(AttributeError, match=re.escape(f"'Tensor' object has no attribute '{name}'")) as error:
        getattr(tg.Tensor([1.0]), name)
    assert hint in str(error.value) and error.value.name == name


def test_what_nobody_knows_is_missing_plainly():
    x = tg.Tensor([1.0])
    assert not hasattr(x, "__array_struct__") and copy.deepcopy(x).item() == 1.0
    with pytest.raises(AttributeError) as error:
        x.colour  # noqa: B018
    assert str(error.value) == "'Tensor' object has no attribute 'colour'"
    with pytest.raises(AttributeError, match="^'Tensor' object has no attribute 'colour_'$"):
        x.colour_  # noqa: B018


def test_hints_name_no_method_that_exists():
    """A hint for what is there could never be read."""
    assert not [name for name in OF_A_TENSOR if hasattr(tg.Tensor([1.0]), name)]
    assert not [name for name in OF_A_MODULE if hasattr(tg.nn.Module(), name)]


def test_a_part_of_pytorch_is_refused_with_how_it_is_written_here():
    with pytest.raises(AttributeError, match=r"^module 'tinygrad_llm\.nn' has no attribute 'ModuleDict'; here: a dict of modules"):
        tg.nn.ModuleDict  # noqa: B018
    with pytest.raises(AttributeError, match=r"^module 'tinygrad_llm\.nn' has no attribute 'colour'$"):
        tg.nn.colour  # noqa: B018
    assert not [name for name in OF_NN if hasattr(tg.nn, name)]
    names = {"tg": tg, "x": tg.Tensor([0.5, 1.0]), "y": 1.0, "values": [1.0], "labels": [0.0, 1.0], "logits": tg.Tensor([0.5, 1.0])}
    names |= {"probabilities": tg.Tensor([0.5, 0.5]), "parameters": [names["x"]], "groups": 1, "weight": None, "bias": None, "width": 2}
    for hint in OF_NN.values():
        if hint.startswith("tg.") and not any(mark in hint for mark in ("cross_entropy(logits", "group_norm", ", or ")):
            eval(hint, names)


@pytest.mark.parametrize(
    ("room", "name", "hint"),
    [
        (tg, "cat", "tg.concatenate(tensors, axis)"),
        (tg, "float64", "np.float64"),
        (tg, "relu", "tg.functional.relu(x, ...)"),
        (tg, "unsqueeze", "tg.expand_dims(x, axis)"),
        (tg, "Parameter", "tg.Tensor(values, requires_grad=True)"),
        (tg, "Module", "tg.nn.Module"),
        (tg, "hessian_vector_product", "tg.hvp(f, x, v)"),
        (tg, "gammaln", "tg.lgamma(x)"),
        (tg, "correlate", "tg.sliding_window_view(x, len(k)) @ k for vectors"),
        (tg.autograd, "Function", "tg.custom_op"),
        (tg.models, "GPT2LMHeadModel", "tg.models.load(directory) or tg.models.create(name)"),
        (tg.models, "AutoModelForCausalLM", "tg.models.load(directory) or tg.models.create(name)"),
        (tg.models, "AutoTokenizer", "tg.text.load(directory)"),
        (tg.autograd.functional, "hvp", "tg.hvp(x, ...)"),
        (tg.functional, "batch_norm", "(x - x.mean(0)) / tg.sqrt(x.var(0) + eps)"),
        (tg.functional, "multi_margin_loss", BY_MARGINS),
        (tg.nn, "MultiMarginLoss", BY_MARGINS),
        (tg.nn, "LeakyReLU", "tg.functional.leaky_relu(x, ...)"),
        (tg.nn, "KLDivLoss", "tg.functional.kl_div(x, ...)"),
        (tg.nn, "NLLLoss", "tg.functional.nll_loss(x, ...)"),
        (tg.nn, "SmoothL1Loss", "tg.functional.smooth_l1_loss(x, ...)"),
        (tg, "amp", "tg.autocast('bfloat16') for products; arrays are float32 or float64"),
        (tg.models, "BertTokenizerFast", "tg.text.load(directory)"),
        (tg.models, "GPT2Config", "tg.models.preset_config(name)"),
        (tg.models, "BertForMultipleChoice", OTHER_HEAD),
        (tg.models, "DynamicCache", "model.make_cache()"),
        (tg.text, "AutoTokenizer", "tg.text.load(directory)"),
        (tg.data, "DataLoader", "tg.data.Examples(items).draw(n) gives n items as a list"),
        (tg.optim, "get_linear_schedule_with_warmup", "tg.optim.linear(optimizer, warmup, total)"),
        (tg.nn.init, "xavier_uniform_", "tg.nn.init.xavier_uniform()(x.data, rng)"),
        (tg.optim, "LambdaLR", "tg.optim.Schedule(optimizer, factor), factor(t) multiplying the rate of step t"),
        (tg.optim, "lr_scheduler", "tg.optim.cosine(optimizer, warmup, total), linear, inverse_sqrt or constant"),
    ],
)
def test_a_room_says_how_the_functions_of_pytorchs_are_written_here(room, name, hint):
    with pytest.raises(AttributeError) as error:
        getattr(room, name)
    assert str(error.value) == f"module {room.__name__!r} has no attribute {name!r}; here: {hint}"
    assert not hasattr(room, "colour")
    hints = {tg: OF_THE_PACKAGE, tg.autograd: OF_AUTOGRAD, tg.models: OF_MODELS, tg.optim: OF_OPTIM, tg.nn: OF_NN,
             tg.text: OF_TEXT, tg.data: OF_DATA, tg.nn.init: OF_INIT, tg.functional: OF_FUNCTIONAL, tg.autograd.functional: OF_FUNCTIONAL}[room]  # fmt: skip
    assert not [name for name in hints if hasattr(room, name)]


def test_a_hint_is_true():
    """What the hints say can be written: every expression in x runs."""
    x = tg.Tensor(np.arange(4.0, dtype=np.float32).reshape(2, 2))
    names = {"tg": tg, "np": np, "x": x, "y": x, "axis": 0, "n": 2, "shape": (2, 2), "low": 0, "high": 1, "dtype": np.float32}
    names |= {"tensors": [x, x], "array": x.data, "values": [1.0], "value": 1.0, "lengths": [1, 1], "index": np.array([[0, 1]])}
    names |= {"source": 0, "destination": 1, "boundaries": np.arange(3.0), "seed": 0, "rng": np.random.default_rng(0), "std": 1.0}
    names |= {"bound": 1.0, "ids": np.array([0, 1])}
    assert {"tg.split_lengths(x, lengths, axis)", "tg.rand(x.shape) < x"} <= {*OF_A_TENSOR.values()}
    for hint in [*OF_A_TENSOR.values(), *OF_THE_PACKAGE.values(), *OF_INIT.values()]:
        if hint.startswith(("x.", "tg.", "-x")) and not any(mark in hint for mark in (";", " for ", "= ", "...", "(f, x", ", and ", "tg.grad(y")):
            eval(hint, dict(names))


def test_the_hints_of_a_cache_are_true():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=16)
    cache = model(input_ids=[[1, 2, 3], [4, 5, 6]], use_cache=True).past_key_values
    assert not [name for name in OF_A_CACHE if hasattr(cache, name)] and copy.deepcopy(cache).length == 3
    names = {"cache": cache, "np": np, "length": 3, "n": 2, "B": 2, "rows": np.arange(4)}
    for name, hint in OF_A_CACHE.items():
        with pytest.raises(AttributeError, match=re.escape(f"'KVCache' object has no attribute {name!r}; here: {hint}")):
            getattr(cache, name)
        found = eval(hint, names)
        if name in ("key_cache", "value_cache"):
            assert [part.shape for part in found] == [(4, 2, 3, 4)] * 2
    assert cache.layers[0].k.shape[0] == 4  # each row twice
@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda x, v: np.convolve(v, v), "np.convolve has no gradient rule for Tensors; here: tg.sliding_window_view(tg.pad(x, n - 1), n) @"),
        (lambda x, v: np.fft.rfft(x), "np.fft.rfft has no gradient rule for Tensors; here: no complex numbers; with f = np.fft.rfft("),
        (lambda x, v: np.linalg.eigvals(x), "np.linalg.eigvals has no gradient rule for Tensors; here: tg.eigvalsh(x) for symmetric x"),
        (lambda x, v: np.conj(x), "np.conjugate has no gradient rule for Tensors; here: arrays hold no complex numbers"),
        (lambda x, v: np.histogram(x), "np.histogram has no gradient rule for Tensors; use .numpy() for its value alone"),
        (lambda x, v: np.spacing(x), "np.spacing has no gradient rule for Tensors; use .numpy() for its value alone"),
        (lambda x, v: np.add.reduce(x), "np.add.reduce has no gradient rule for Tensors; here: x.sum(axis)"),
        (lambda x, v: np.subtract.outer(v, v), "np.subtract.outer has no gradient rule for Tensors; here: np.subtract(x[:, None], y)"),
        (lambda x, v: np.arctan2.reduce(v), "np.arctan2.reduce has no gradient rule for Tensors; use .numpy() for its value alone"),
        (lambda x, v: np.exp(x, out=x.data), "np.exp has no gradient rule for Tensors with out=; here: a Tensor is a value"),
        (lambda x, v: np.frompyfunc(abs, 1, 1)(x), "abs (vectorized) has no gradient rule for Tensors; here: tg.custom_op"),
        (lambda x, v: np.linspace(0, v, 3), "np.linspace has no gradient rule for Tensors; here: start + (stop - start) * np.linspace(0, 1, num)"),
    ],
)  # fmt: skip
def test_a_function_of_numpys_without_a_rule_says_how_it_is_written_here(call, hint):
    x = tg.Tensor(np.eye(2), requires_grad=True)
    with pytest.raises(TypeError, match="^" + re.escape(hint)):
        call(x, x[0])


def test_a_function_of_scipys_is_refused_under_its_own_name():
    from scipy import special

    x = tg.Tensor(np.array([0.3, 0.6]), requires_grad=True)
    with pytest.raises(TypeError, match=r"^scipy\.special\.gammaln has no gradient rule for Tensors; here: tg\.lgamma\(x\)$"):
        special.gammaln(x)
    with pytest.raises(TypeError, match=r"^scipy\.special\.erf has no gradient rule for Tensors; here: tg\.erf\(x, \.\.\.\)$"):
        special.erf(x)
    two = ("betaln", "beta", "rel_entr", "xlog1py")
    for name in set(OF_SCIPY) - {"cho_solve", "solve_triangular", "block_diag", "toeplitz", "circulant", "expm"}:
        written = eval(OF_SCIPY[name].partition(" for ")[0], {"tg": tg, "x": x, "y": 2 * x})
        np.testing.assert_allclose(written.data, getattr(special, name)(*(x.data, 2 * x.data)[: 2 if name in two else 1]), rtol=1e-12)


def test_what_is_written_for_numpys_functions_gives_their_values():
    a, k, m = np.array([1.0, 4, 2, 3]), np.array([1.0, 2, -1]), np.array([True, False, True, True])
    x = tg.Tensor(a, requires_grad=True)
    names = {"tg": tg, "np": np, "x": x, "k": tg.Tensor(k, requires_grad=True), "p": k, "n": 3, "y": a * a, "mask": m, "values": 5.0}
    names |= {"start": 2.0, "stop": 3.0, "num": 5, "boundaries": np.arange(3.0), "choices": [x, -x], "index": np.array([0, 1, 1, 0])}
    want = {
        "convolve": np.convolve(a, k), "correlate": np.correlate(a, k), "linspace": np.linspace(2, 3, 5), "geomspace": np.geomspace(2, 3, 5),
        "polyval": np.polyval(k, a), "vander": np.vander(a, 3), "polyfit": np.polyfit(a, a * a, 2), "ediff1d": np.ediff1d(a),
        "compress": np.compress(m, a), "partition": np.sort(a), "digitize": np.digitize(a, np.arange(3.0)), "unwrap": np.unwrap(a),
        "choose": np.choose([0, 1, 1, 0], [a, -a]), "flatnonzero": np.flatnonzero(a), "place": [5, 4, 5, 5], "putmask": [5, 4, 5, 5],
    }  # fmt: skip
    for name, expected in want.items():
        written = eval(OF_NUMPY[name].removeprefix("y = ").partition(" for ")[0], names)
        np.testing.assert_allclose(written.detach().data if isinstance(written, tg.Tensor) else written, expected, atol=1e-12)
    f = np.fft.rfft(np.eye(x.shape[-1]))
    np.testing.assert_allclose((x @ f.real).data + 1j * (x @ f.imag).data, np.fft.rfft(a))
    names |= {"axis": 0, "index": 1}
    for name, hint in OF_A_UFUNCS_METHOD.items():
        ufunc, method = name.split(".")
        if method != "at":
            expected = getattr(getattr(np, ufunc), method)(a)
            np.testing.assert_allclose(eval(hint, names).detach().data, expected)


def test_hints_name_no_function_of_numpys_that_takes_tensors():
    rooms = (np, np.linalg, np.fft)
    assert not [name for name in OF_NUMPY for room in rooms if getattr(room, name, None) in numpy_table]
    assert all(any(hasattr(room, name) for room in rooms) for name in OF_NUMPY)


def test_a_module_of_ones_own_is_kept_in_a_file_as_the_hint_says(tmp_path):
    module, other, path = tg.nn.Linear(3, 2), tg.nn.Linear(3, 2), tmp_path / "weights.npz"
    with pytest.raises(AttributeError) as error:
        module.save(path)
    save, load = str(error.value).partition("; here: ")[2].split(", and ")
    eval(save, {"np": np, "path": path, "module": module})
    eval(f"other.{load}", {"np": np, "path": path, "other": other})
    np.testing.assert_array_equal(module.weight.data, other.weight.data)


def test_a_module_says_it_too_and_a_property_that_fails_says_what_failed():
    class Broken(tg.nn.Module):
        @property
        def width(self):
            return self.hidden_size

    with pytest.raises(AttributeError, match=r"here: register_hook of a Tensor that passes, or lens\.record"):
        Broken().register_full_backward_hook  # noqa: B018
    with pytest.raises(AttributeError, match=r"'Broken' object has no attribute 'register_buffer'; here: self\.name = an ndarray"):
        Broken().register_buffer("mask", np.ones(3))
    with pytest.raises(AttributeError, match=r"here: with tg\.lens\.record\(model, '\*'\) as values: model\(input_ids=ids\)"):
        Broken().run_with_cache([[1]])
    with pytest.raises(AttributeError, match="'Broken' object has no attribute 'hidden_size'"):
        Broken().width  # noqa: B018


@pytest.mark.parametrize(("name", "path", "hint"), [
    ("gpt2", "transformer.h", "layers, a list"), ("gpt2", "transformer.wte", "tokens"), ("gpt2", "transformer.ln_f", "final_norm"),
    ("gpt2", "transformer.layers.0.ln_1", "attn_norm"), ("gpt2", "transformer.layers.0.attn.c_attn", "q, k and v"),
    ("gpt2", "transformer.layers.0.mlp.c_fc", "up"), ("bert-base", "embeddings", "tokens"), ("bert-base", "encoder", "layers, a list"),
    ("bert-base", "layers.0.attention", "attn"), ("llama-7b", "model.layers.0.mlp.gate_proj", "gate"),
])  # fmt: skip
def test_a_part_of_a_model_is_known_by_its_published_name(name, path, hint):
    model = tg.models.create(name, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9, intermediate_size=8,
                             **({} if name == "bert-base" else {"max_position_embeddings": 4}))  # fmt: skip
    holder, _, published = path.rpartition(".")
    part = dict(model.named_modules())[holder]
    with pytest.raises(AttributeError, match=f"has no attribute '{published}'; here: in the models of tg.models: {hint}$"):
        getattr(part, published)
    assert all(hasattr(part, word) for word in re.findall("[a-z_]+", hint.removesuffix(", a list")) if word != "and")


def test_what_transformer_lens_calls_otherwise_is_there():
    gpt2 = tg.models.create("gpt2", hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9, max_position_embeddings=4).eval()
    with tg.no_grad(), tg.lens.record(gpt2, "*.resid_pre", "*.attn.q", "*.attn.z", "*.attn_out") as values:
        gpt2(input_ids=[[1, 2, 3]])
    (block,) = eval(OF_A_MODULE["blocks"], {"model": gpt2})
    names = {"attn": block.attn, "head": 1, "H": 2, "K": 4, "D": 8, "model": gpt2}
    weight = {name: eval(OF_A_MODULE[name].split(" of a block")[0].split(", (V")[0], names).data for name in ("W_Q", "W_O", "W_E")}
    x = block.attn_norm(tg.Tensor(values["blocks.0.resid_pre"])).data
    np.testing.assert_allclose(x @ weight["W_Q"].T + block.attn.q.bias.data[4:], values["blocks.0.attn.q"][:, :, 1], rtol=1e-4, atol=1e-6)
    with tg.no_grad(), tg.lens.record(gpt2, "*.attn_out") as without, tg.lens.patch(gpt2, {"*.attn.z[:, :, 1]": 0.0}):
        gpt2(input_ids=[[1, 2, 3]])
    written = values["blocks.0.attn_out"] - without["blocks.0.attn_out"]
    np.testing.assert_allclose(values["blocks.0.attn.z"][:, :, 1] @ weight["W_O"].T, written, rtol=1e-4, atol=1e-6)
    assert weight["W_E"].shape == (9, 8)
    with pytest.raises(AttributeError, match="has no attribute 'W_Q'; here: attn.q.weight"):
        block.attn.W_Q  # noqa: B018


def test_an_optimizer_says_where_its_state_is():
    class Broken(tg.optim.SGD):
        @property
        def rate(self):
            return self.learning_rate

    optimizer = Broken([tg.zeros(2, requires_grad=True)])
    with pytest.raises(AttributeError, match=r"^'Broken' object has no attribute 'state'; here: optimizer\.state_dict\(\)\['state'\]"):
        optimizer.state  # noqa: B018
    with pytest.raises(AttributeError, match="'Broken' object has no attribute 'learning_rate'$"):
        optimizer.rate  # noqa: B018
    assert not [name for name in OF_AN_OPTIMIZER if hasattr(optimizer, name)] and copy.deepcopy(optimizer).param_groups
