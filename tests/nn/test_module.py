"""Module: what it finds, its modes, its hooks, its state."""

import copy
import os
import threading

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.nn import init


class Two(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 4)
        self.many = [nn.Linear(4, 4, bias=False), nn.Linear(4, 2)]
        self.again = self.first
        self.table = np.zeros(5)

    def forward(self, x):
        return self.many[1](self.many[0](self.first(x)))


def test_what_it_consists_of():
    model = Two()
    assert [n for n, _ in model.named_parameters()] == [
        "first.weight",
        "first.bias",
        "many.0.weight",
        "many.1.weight",
        "many.1.bias",
    ]
    assert [n for n, _ in model.named_modules()] == ["", "first", "many.0", "many.1", "again"]
    assert len(list(model.modules())) == 4 and len(list(model.children())) == 4
    assert model.num_parameters() == 12 + 4 + 16 + 8 + 2
    assert set(model.state_dict()) == {
        "first.weight", "first.bias", "many.0.weight", "many.1.weight", "many.1.bias", "again.weight", "again.bias",
    }  # fmt: skip
    assert "many.1" in repr(model) and "(4, 3)" in repr(model)


def test_what_a_forward_keeps_is_no_parameter():
    """A cache, a pattern to look at, with and without gradients, kept directly, in a tuple, by a method that forward calls."""

    class Attention(nn.Module):
        def __init__(self):
            self.weight = tg.tensor(np.ones(2, np.float32), requires_grad=True)
            self.mean, self.cache = tg.zeros(2), None

        def remember(self, x):
            self.cache = (x, {"again": x})

        def forward(self, x):
            self.pattern = x * self.weight
            self.remember(self.pattern.detach())
            self.mean = self.mean * 0.9 + self.pattern.detach() * 0.1
            self.late = tg.ones(2, requires_grad=True)
            return self.pattern

    module = Attention()
    own = {"weight", "mean", "late"}
    for _ in range(2):
        module(tg.ones(2))
        assert set(module.state_dict()) == own
        with tg.no_grad():
            module(tg.ones(2))
            module.forward(tg.ones(2))
        assert set(module.state_dict()) == own and module.num_parameters() == 6
    module.pattern = tg.tensor(np.ones(2, np.float32), requires_grad=True)  # somebody makes it one
    module.extra = tg.zeros(3)
    assert set(module.state_dict()) == own | {"pattern", "extra"}
    assert set(copy.deepcopy(module).state_dict()) == own | {"pattern", "extra"}


def test_an_array_takes_no_parameters_place_unseen():
    class Mean(nn.Module):
        def __init__(self):
            self.weight, self.mean, self.seen = tg.ones(2, requires_grad=True), tg.zeros(2), None

        def forward(self, x):
            self.seen = x
            return (x - self.mean) * self.weight

    module, given = Mean(), np.full(2, 3, np.float32)
    module(tg.ones(2))
    module.seen = given  # a result is no parameter
    for name in ("weight", "mean"):
        with pytest.raises(TypeError, match=f"^Mean: an array in place of the parameter '{name}' would be neither") as error:
            setattr(module, name, given)
        for way in str(error.value).partition("write ")[2].split(", or "):
            module = Mean()
            exec(f"module{way}", {"module": module, "array": given, "tg": tg})
            assert module.state_dict()[name].tolist() == [3, 3]


def test_parts_in_dicts_and_nested_lists_and_tensors_in_lists_are_found():
    class Nested(nn.Module):
        def __init__(self):
            self.transformer = {"wte": nn.Embedding(5, 2), "h": [nn.Linear(2, 2, bias=False)]}
            self.pairs = [(nn.Linear(2, 3, bias=False), "a name"), [nn.LayerNorm(3, bias=False)]]
            self.scales = [tg.Tensor(np.ones(2), requires_grad=True), tg.Tensor(np.ones(3), requires_grad=True)]
            self.vocabulary = {"a": 0, 1: "b"}

    model = Nested()
    names = ["scales.0", "scales.1", "transformer.wte.weight", "transformer.h.0.weight", "pairs.0.0.weight", "pairs.1.0.weight"]
    assert list(model.state_dict()) == names
    assert not model.eval().pairs[1][0].training and not model.transformer["wte"].training
    assert model.pairs[0][0]._name == "pairs.0.0" and "transformer.h.0" in repr(model) and "scales.1=(3,)" in repr(model)
    loss = model.transformer["h"][0](model.transformer["wte"]([1])) @ model.scales[0]
    loss.backward()
    assert model.transformer["wte"].weight.grad is not None
    tg.optim.SGD(model.parameters(), lr=1.0).step()
    assert (model.scales[0].data != 1.0).any()
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.pairs[0][0].register_forward_hook(nn.Dropout(0.0))
    assert len(list(model.pairs[0][0].modules())) == 1, "a module as a hook is not a part"


def test_a_member_of_a_list_is_not_set_by_its_childs_name():
    """setattr(module, name, other) over named_children would leave the list as it is and add a second child."""
    model = Two()
    model.sides = {"left": nn.Linear(2, 2)}
    for name, other in (("many.1", nn.Linear(4, 2)), ("sides.left", nn.Linear(2, 2))):
        with pytest.raises(AttributeError, match=f"^Two: '{name}' is no attribute; .* is set by ") as error:
            setattr(model, name, other)
        exec(f"model{str(error.value).partition(' is set by ')[2].replace('...', 'other')}", {"model": model, "other": other})
        assert dict(model.named_children())[name] is other


def test_state_is_copied_checked_and_not_shared():
    a, b = Two(), Two()
    b.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(a.many[1].weight.data, b.many[1].weight.data)
    b.many[1].weight.data[...] = 7
    assert not (a.many[1].weight.data == 7).any()
    state = a.state_dict()
    with pytest.raises(KeyError, match="missing first.bias.*left over nothing"):
        b.load_state_dict({n: v for n, v in state.items() if n != "first.bias"})
    with pytest.raises(ValueError, match=r"first.weight: expected \(4, 3\), got \(3, 4\)"):
        b.load_state_dict({**state, "first.weight": np.zeros((3, 4)), "first.bias": np.full(4, 9.0)})
    for wrong in (np.ones((4, 3), complex), np.full((4, 3), "1"), np.ones((4, 3), object)):
        with pytest.raises(TypeError, match=f"wrong dtypes: first.weight: {wrong.dtype} does not go into float32"):
            b.load_state_dict({"first.bias": np.full(4, 9.0), "first.weight": wrong}, strict=False)
    assert not (b.first.bias.data == 9).any(), "nothing is written before all is checked"
    b.load_state_dict({"first.weight": np.ones((4, 3), np.int8), "first.bias": np.ones(4, np.float16)}, strict=False)
    missing, unexpected = b.load_state_dict({"first.bias": np.full(4, 9.0), "third": np.ones(1)}, strict=False)
    assert missing == [n for n in state if n != "first.bias"] and unexpected == ["third"]
    assert b.load_state_dict(state).missing_keys == []
    b.load_state_dict({"first.bias": np.full(4, 9.0)}, strict=False)
    assert (b.first.bias.data == 9).all() and b.first.bias.dtype == np.float32


def test_loading_between_forward_and_backward_is_noticed():
    model = Two()
    out = model(tg.Tensor(np.ones((1, 3), np.float32))).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="in place"):
        out.backward()


def test_modes_hooks_apply_and_dtype():
    model = Two()
    assert not model.eval().many[0].training and model.train().many[0].training
    seen = []
    handle = model.many[0].register_forward_hook(lambda module, args, out: seen.append((module, args[0].shape)) or out * 0)
    x = tg.Tensor(np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(model(x).data, model.many[1].bias.data[None])
    handle.remove()
    assert (model(x).data != model.many[1].bias.data[None]).any() and len(seen) == 1
    names = []
    model.apply(lambda m: names.append(type(m).__name__))
    assert names[-1] == "Two" and names.count("Linear") == 4
    assert model.astype(np.float64).many[0].weight.dtype == np.float64 and model.many[0].weight.requires_grad
    with pytest.raises(TypeError, match=r"float32 or float64, not float16; .*autocast\('bfloat16'\)"):
        model.astype(np.float16)
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters()) and len(list(model.parameters())) == 5


def test_attributes_may_be_set_while_somebody_goes_through_a_model():
    """As another thread's first generation sets them."""
    model = Two()
    for walk in (model.children(), model.named_parameters()):
        next(walk)
        for module in (model, model.first):
            setattr(module, f"extra{len(vars(module))}", 1)
        assert len(list(walk)) == 3 + (walk.__name__ == "named_parameters")


def evaluated_by_another_thread(model):
    """A thread is in `nn.evaluating(model)` until the function that is returned has been called."""
    inside, leave = threading.Event(), threading.Event()

    def evaluate():
        with nn.evaluating(model):
            inside.set()
            leave.wait(10)

    def end():
        leave.set()
        thread.join()

    thread = threading.Thread(target=evaluate)
    thread.start()
    inside.wait(10)
    return end


@pytest.mark.parametrize("first_to_leave", ["here", "other"])
def test_a_model_that_several_threads_evaluate_is_in_its_own_mode_when_the_last_is_done(first_to_leave):
    model = Two()
    model.first.eval()
    before = [m.training for m in model.modules()]
    leave = evaluated_by_another_thread(model)
    with nn.evaluating(model):
        if first_to_leave == "other":
            leave()
        assert not any(m.training for m in model.modules())
    if first_to_leave == "here":
        assert not any(m.training for m in model.modules())
        leave()
    assert [m.training for m in model.modules()] == before


@pytest.mark.parametrize("when", [1, 2])
def test_an_interrupted_change_of_modes_leaves_none_half_changed(when):
    class Interrupted(nn.Module):
        changes, mode = 0, True

        @property
        def training(self):
            return self.mode

        @training.setter
        def training(self, mode):
            self.__dict__["changes"] = self.changes + 1
            if self.changes == when:
                raise KeyboardInterrupt
            self.__dict__["mode"] = mode

    model = Two()
    model.inner = Interrupted()
    model.last = nn.Linear(2, 2)
    with pytest.raises(KeyboardInterrupt), nn.evaluating(model):
        assert when == 2
    assert all(m.training for m in model.modules())
    with nn.evaluating(model):
        assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.modules())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_evaluates_for_itself_alone():
    model, copied = Two(), Two()
    leave = evaluated_by_another_thread(model)
    with nn.evaluating(copied):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(m.training for m in model.modules()) and not any(m.training for m in copied.modules()) else 1)
    leave()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_forward_hooks_whose_handles_nobody_keeps_all_run_in_order():
    layer = nn.Linear(2, 2)
    seen = []
    for name in "abc":
        layer.register_forward_hook(lambda module, args, out, name=name: seen.append(name))
    layer(tg.Tensor([[1.0, 2.0]]))
    assert seen == ["a", "b", "c"]


def test_an_anomaly_is_placed_in_the_module_that_made_it():
    model = Two()
    model.first.bias.data[...] = model.many[0].weight.data[...] = 3e38
    with pytest.raises(tg.AnomalyError, match=r"many\.0"), tg.detect_anomaly():
        model(tg.Tensor(np.ones((1, 3), np.float32)))


def test_a_skeleton_has_shapes_and_no_memory():
    with init.skeleton():
        layer = nn.Linear(10**6, 10**6)
    assert layer.num_parameters() == 10**12 + 10**6
    with pytest.raises(ValueError, match="positive int"):
        nn.Linear(0, 3)


def test_same_seed_same_bits():
    for make in (lambda rng: nn.Linear(3, 4, rng=rng), lambda rng: nn.Embedding(3, 4, rng=rng)):
        a, b = (make(np.random.default_rng(5)).weight.data for _ in range(2))
        np.testing.assert_array_equal(a, b)
    tg.manual_seed(3)
    a = nn.Linear(3, 4).weight.data
    tg.manual_seed(3)
    np.testing.assert_array_equal(a, nn.Linear(3, 4).weight.data)


def test_a_skeleton_gets_memory_of_its_own_with_its_values():
    state = nn.Linear(3, 2).state_dict()
    with init.skeleton():
        layer = nn.Linear(3, 2)
    layer.load_state_dict(state)
    for name, parameter in layer.named_parameters():
        assert parameter.requires_grad and parameter.data.flags.writeable
        assert not np.shares_memory(parameter.data, state[name].data)
        np.testing.assert_array_equal(parameter.data, state[name].data)


def test_initialisers_have_the_spread_they_name():
    rng = np.random.default_rng(0)
    array = np.empty((300, 200), np.float32)
    init.normal()(array, rng)
    assert array.std() == pytest.approx(0.02, rel=0.02) and abs(array.mean()) < 1e-3
    init.xavier_uniform()(array, rng)
    assert np.abs(array).max() <= (6 / 500) ** 0.5 and array.std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    init.fan_in_uniform(array, rng)
    assert np.abs(array).max() <= 200**-0.5 and array.std() == pytest.approx((1 / 600) ** 0.5, rel=0.02)


def test_layers_begin_as_pytorchs_do():
    """Weights and biases between the two values of 1/sqrt(fan in), embeddings of deviation one, half of the values dropped."""
    layer = nn.Linear(100, 3000, rng=np.random.default_rng(0))
    for value in (layer.weight, layer.bias):
        assert 0.099 < value.data.max() <= 0.1 and -0.1 <= value.data.min() < -0.099 and abs(value.data.mean()) < 0.01
    assert nn.Embedding(100, 50, rng=np.random.default_rng(0)).weight.data.std() == pytest.approx(1.0, abs=0.05)
    assert nn.Dropout().p == 0.5


@pytest.mark.parametrize("row", [0, 3, -1])
def test_a_padding_row_begins_as_zeros(row):
    """As in PyTorch: padding that nobody masks adds nothing to a sum or mean of embeddings."""
    table, plain = (nn.Embedding(4, 3, p, rng=np.random.default_rng(0)).weight.data for p in (row, None))
    assert not table[row].any() and plain[row].all()
    np.testing.assert_array_equal(np.delete(table, row, 0), np.delete(plain, row, 0))
    with pytest.raises(ValueError, match="padding_idx must lie in the table of 4 rows, got 4"):
        nn.Embedding(4, 3, 4)


def test_families_fill_as_their_papers_say():
    gpt2 = tg.models.create("gpt2", n_layer=2, n_embd=64, n_head=2, vocab_size=99, n_positions=8, rng=np.random.default_rng(0))
    part = gpt2.transformer.layers[1]
    assert part.mlp.up.weight.data.std() == pytest.approx(0.02, rel=0.05)
    assert part.mlp.down.weight.data.std() == pytest.approx(0.02 / 2, rel=0.05)  # 1/sqrt(2L), L = 2
    assert (part.mlp_norm.weight.data == 1).all() and (part.mlp.up.bias.data == 0).all()
    t5 = tg.models.create(
        "t5-small", d_model=64, d_kv=16, d_ff=80, num_layers=1, num_heads=2, vocab_size=99, rng=np.random.default_rng(0)
    )
    attn = t5.encoder.layers[0].attn
    assert attn.q.weight.data.std() == pytest.approx((64 * 16) ** -0.5, rel=0.05)
    assert attn.k.weight.data.std() == pytest.approx(64**-0.5, rel=0.05)
    cross, mlp = t5.decoder.layers[0].cross, t5.decoder.layers[0].mlp
    assert cross.q.weight.data.std() == pytest.approx((64 * 16) ** -0.5, rel=0.05)
    assert cross.o.weight.data.std() == pytest.approx((2 * 16) ** -0.5, rel=0.05)
    assert mlp.up.weight.data.std() == pytest.approx(64**-0.5, rel=0.05)
    assert mlp.down.weight.data.std() == pytest.approx(80**-0.5, rel=0.05)
    assert t5.tokens.weight.data.std() == pytest.approx(1.0, rel=0.05) and (t5.decoder.final_norm.weight.data == 1).all()
    assert t5.encoder.relative.weight.data.std() == pytest.approx(64**-0.5, rel=0.3)  # 32 buckets, 2 heads
    first = tg.models.create(
        "transformer-base", d_model=64, d_ff=80, encoder_layers=1, decoder_layers=1, num_heads=2, vocab_size=99, rng=np.random.default_rng(0)
    )
    assert first.tokens.weight.data.std() == pytest.approx(64**-0.5, rel=0.05)
    up = first.encoder.layers[0].mlp.up
    assert np.abs(up.weight.data).max() == pytest.approx((6 / (64 + 80)) ** 0.5, rel=0.01) and not up.bias.data.any()


def test_modules_appended_to_a_list_are_named_by_their_place():
    """In reports, traces and lenses as in state_dict."""
    from tinygrad_llm import lens

    class Stack(nn.Module):
        def __init__(self):
            self.blocks = []
            for _ in range(2):
                attn, mlp = nn.MultiHeadAttention(8, 2), nn.FeedForward(8, 8, "gelu")
                self.blocks.append(nn.EncoderBlock(attn, mlp, nn.LayerNorm(8), nn.LayerNorm(8), norm_first=True))
            self.last = nn.LayerNorm(8)

        def forward(self, input_ids):
            x = tg.Tensor(np.ones((1, len(input_ids[0]), 8), np.float32))
            for block in self.blocks:
                x, _ = block(x)
            return self.last(x)

    model = Stack()
    with lens.trace() as tape:
        model([[1, 2]])
    assert {"blocks.0.attn.q", "blocks.1.attn.q", "blocks.1.mlp.down", "last"} <= set(tape.by_module())
    assert set(tape.by_module()) <= {path for path, _ in model.named_modules()}
    assert "blocks.1.resid_post" in lens.names(model) and "resid_post" not in lens.names(model)
