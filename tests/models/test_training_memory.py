"""`describe`'s memory of a training step: what the graph keeps, number by number, and what a process really takes."""

import math

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from kernels.arrays import PAGE
from tinygrad_llm.autograd.node import memory_owner
from tinygrad_llm.bench import discover
from tinygrad_llm.models.memory import describe
from tinygrad_llm.models.training_memory import block_numbers

SMALL = {
    "gpt2": {"n_embd": 32, "n_head": 2, "n_positions": 32},
    "bert-base": {"head": "masked_lm", "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 96,
                  "max_position_embeddings": 32},
    "llama-7b": {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 72},
    "t5-small": {"d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 96},
    "bart-base": {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 96,
                  "decoder_ffn_dim": 96, "max_position_embeddings": 32},
}  # fmt: skip
LAYERS = {"gpt2": ["n_layer"], "t5-small": ["num_layers", "num_decoder_layers"], "bart-base": ["encoder_layers", "decoder_layers"]}
STATISTICS = 16  # numbers per position and layer that are left out: two per norm, one per head


#: wide enough for a layer's parts to be one operation each
WIDE = {"gpt2": {"n_embd": 128, "n_head": 2, "n_positions": 32},
        "bert-base": {"head": "masked_lm", "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512,
                      "max_position_embeddings": 32, "hidden_act": "relu"}}  # fmt: skip


def kept_numbers(name, layers, sizes):
    """Numbers in all arrays that the graph of one loss holds, weights apart."""
    sizes = sizes | dict.fromkeys(LAYERS.get(name, ["num_hidden_layers"]), layers)
    model = tg.models.create(name, vocab_size=50, dropout=0.0, **sizes).train()
    ids = np.arange(40).reshape(2, 20)
    with kernels.use("numpy"):
        loss = model(input_ids=ids, labels=ids).loss
    weights = {id(memory_owner(p.data)) for p in model.parameters()}
    found, seen, waiting = {}, set(), [loss.node]

    def note(value):
        if isinstance(value, tuple | list):
            for part in value:
                note(part)
        elif isinstance(value, np.ndarray) and id(memory_owner(value)) not in weights:
            found[id(memory_owner(value))] = memory_owner(value)

    while waiting:
        node = waiting.pop()
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            note(node.saved)
            waiting += node.inputs
    large = [a for a in found.values() if a.dtype == np.uint8]  # cut out of a page more than they need
    return sum(a.nbytes // 4 for a in found.values() if a.dtype == np.float32) + sum((a.nbytes - PAGE) // 4 for a in large)


@pytest.mark.parametrize("name, config", [*SMALL.items(), *WIDE.items()])
def test_a_layer_keeps_what_describe_counts(name, config):
    more = (kept_numbers(name, 3, config) - kept_numbers(name, 1, config)) / 40
    sizes = [dict.fromkeys(LAYERS.get(name, ["num_hidden_layers"]), n) for n in (1, 3)]
    one, three = (describe(name, vocab_size=50, context=20, **config, **size).kept_per_token for size in sizes)
    sides = len(sizes[0])
    assert three - one <= more <= three - one + 2 * sides * STATISTICS


def test_the_parts_make_the_peak():
    found = describe("gpt2", batch=1, context=256).training
    assert found.peak == found.weights * 3 + max(found.activations + found.output, found.gradients) + found.passing
    assert found.weights == found.gradients == 4 * 124_439_808
    longer = describe("t5-small", batch=2, context=128).training
    shorter = describe("t5-small", batch=2, context=128, target=32).training
    decoder = tg.models.registry.skeleton_of("t5-small").decoder.layers
    spared = sum(map(block_numbers, decoder)) + 3 * 512  # numbers of a target's token, those behind the last layer included
    assert longer.activations - shorter.activations == 4 * 2 * (128 - 32) * spared
    assert describe("electra-small", context=64).training.output == 0 < describe("bert-base", context=64, head="masked_lm").training.output
    with pytest.raises(ValueError, match="target"):
        describe("t5-small", target=0)


def test_the_output_matrix_is_as_wide_as_the_embedding():
    for name in ("albert-base", "electra-small"):
        model = tg.models.registry.skeleton_of(name, head="masked_lm")
        judged = math.ceil(0.15 * 64)
        assert describe(name, head="masked_lm", context=64).training.output == 4 * model.config.vocab_size * (128 + judged)


def test_a_run_of_electras_pair_is_described_and_compared(tmp_path):
    sizes = {"vocab_size": 100, "num_hidden_layers": 2}
    tg.models.create("electra-small", head="joint", **sizes).save(tmp_path)
    found, kept_alone = describe(str(tmp_path), context=32), describe("electra-small", context=32, **sizes)
    assert found.parameters == tg.models.count_parameters("electra-small", head="joint", **sizes)
    assert found.kept_per_token > kept_alone.kept_per_token and found.training.output > 0
    assert "or, where it is more" in found.text()
    assert {row for row, _, _ in tg.models.compare(str(tmp_path), "electra-small")} == {"embeddings", "layers"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, batch, context, sizes",
    [
        ("gpt2", 4, 256, {"vocab_size": 65, "n_positions": 256, "n_embd": 384, "n_head": 6, "n_layer": 6, "dropout": 0.0}),
        ("albert-base", 2, 64, {"head": "masked_lm", "num_hidden_layers": 6}),  # two gradients of the shared layer count
    ],
)
def test_a_process_that_trains_takes_what_describe_predicts(monkeypatch, name, batch, context, sizes):
    monkeypatch.setenv("TINYGRAD_LLM_KERNELS", "numba")  # the plain ones keep more in passing
    memory = discover.load_question(discover.find_question("memory"))
    if not memory.Path("/proc/self/clear_refs").exists():
        pytest.skip("measuring the peak needs Linux's /proc")
    words = [name, memory.json.dumps(sizes), str(batch), str(context), "0"]
    measured = min(memory.measured(words, threads=1)["peak_above_base"] for _ in range(2))  # once in a while a process takes more
    assert describe(name, batch=batch, context=context, **sizes).training.peak == pytest.approx(measured, rel=0.1)


def test_electras_pair_makes_the_logits_of_the_masked_places_alone():
    """They draw the words that all of them would: nobody reads the others."""
    model = tg.models.create("electra-small", head="joint", vocab_size=50, embedding_size=8, hidden_size=16, num_hidden_layers=1,
                             num_attention_heads=2, intermediate_size=16, generator_size=0.5, rng=np.random.default_rng(0))  # fmt: skip
    ids = np.random.default_rng(1).integers(5, 50, (3, 11))
    masked = np.random.default_rng(2).random(ids.shape) < 0.3
    out = model(np.where(masked, 4, ids), labels=np.where(masked, ids, -100), rng=np.random.default_rng(3))
    assert "generator_logits=(when read)" in repr(out)
    noise = np.random.default_rng(3).gumbel(size=(masked.sum(), 50))
    drawn = (out.generator_logits.data[masked] + noise).argmax(axis=-1)
    expected = ids.copy()
    expected[masked] = drawn
    np.testing.assert_array_equal(out.corrupted_ids, expected)
