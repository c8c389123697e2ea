"""What is written is read again, by us and by the library of the format, and nothing is written by halves."""

import json
import os
import warnings

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import tinygrad_llm as tg
from tests.kernels import fresh
from tests.models.small import equal
from tinygrad_llm.models import saving


@pytest.mark.parametrize("name", ["gpt", "gpt3-125m", "transformer-base", "electra-small"])
def test_families_that_transformers_cannot_judge_come_back(name, tmp_path):
    more = {"d_ff": 9, "decoder_layers": 1} if name.startswith("trans") else {"intermediate_size": 16, "embedding_size": 6}
    more = {} if name.startswith("gpt") else more
    sizes = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=4, vocab_size=23, max_position_embeddings=9, **more)
    model = tg.models.create(name, "joint" if name.startswith("electra") else None, rng=np.random.default_rng(0), **sizes)
    model.save(tmp_path)
    again = tg.models.load(tmp_path)
    assert type(again) is type(model)
    equal(model, again)
    if name.startswith("electra"):
        assert again.generator.electra.tokens is again.discriminator.electra.tokens


def test_the_library_of_the_format_reads_our_files(saved):
    model, folder = saved
    stored = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(stored["transformer.h.1.mlp.c_fc.weight"], model.transformer.layers[1].mlp.up.weight.data.T)
    q = model.transformer.layers[0].attn.q.weight.data
    np.testing.assert_array_equal(stored["transformer.h.0.attn.c_attn.weight"][:, :12], q.T)
    assert "lm_head.weight" not in stored


def test_how_another_model_generates_does_not_stay_behind(saved):
    model, folder = saved
    (folder / "generation_config.json").write_text('{"num_beams": 4}')
    assert tg.models.load(folder).generation_config == {"num_beams": 4}
    tg.models.load(folder).save(folder)
    assert tg.models.load(folder).generation_config == {"num_beams": 4}
    model.save(folder)
    assert not (folder / "generation_config.json").exists() and tg.models.load(folder).generation_config is None


def test_shards_and_what_an_earlier_save_left(saved):
    model, folder = saved
    model.save(folder, shard_bytes=3000)
    shards = sorted(p.name for p in folder.glob("*.safetensors"))
    assert len(shards) > 2 and "model.safetensors" not in shards
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = [[value.nbytes for value in load_file(folder / name).values()] for name in shards]
    assert index["metadata"]["total_size"] == sum(map(sum, sizes)) and set(index["weight_map"].values()) == set(shards)
    assert all(sum(one) <= 3000 or len(one) == 1 for one in sizes), "at most so many bytes, but one tensor at least"
    assert all(sum(one) + sum(two) > 3000 for one, two in zip(sizes, sizes[1:]))
    for name in shards:
        with safe_open(folder / name, "np") as file:
            assert file.metadata() == {"format": "pt"}  # without, transformers refuses it
    assert shards == [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    equal(model, tg.models.load(folder))
    two = [(name, (3,), None) for name in "ab"]
    assert [len(saving.split(two, 4, limit)) for limit in (24, 23)] == [1, 2]
    others = ["model-ema.safetensors", "model_best.safetensors", "model.safetensors.bak"]
    for name in others:
        (folder / name).write_text("somebody's")
    model.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*others, "config.json", "model.safetensors"])


@pytest.mark.parametrize(("asked", "stored"), [("float16", np.float16), ("float64", np.float64)])
def test_other_precisions(saved, asked, stored):
    model, folder = saved
    model.save(folder, dtype=asked)
    assert load_file(folder / "model.safetensors")["transformer.ln_f.weight"].dtype == stored
    again = tg.models.load(folder)
    assert again.transformer.tokens.weight.dtype == (np.float64 if asked == "float64" else np.float32)
    assert tg.models.load(folder, dtype="float64").transformer.tokens.weight.dtype == np.float64


def test_the_config_comes_last(saved, monkeypatch):
    """A folder has one only when all that it describes is there."""
    model, folder = saved
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(new.name), replace(old, new)))
    model.save(folder, shard_bytes=3000)
    kinds = [name.rpartition(".")[2] for name in moved]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"safetensors", "json"}


def test_a_failed_save_leaves_the_old_files(saved, monkeypatch):
    model, folder = saved
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


KILLED = """
    import os, signal, sys
    import numpy as np
    import tinygrad_llm as tg
    from tinygrad_llm.models import saving

    saving.os.replace = lambda old, new: os.kill(os.getpid(), signal.SIGKILL)
    sizes = dict(n_embd=8, n_layer=1, n_head=2, vocab_size=9, n_positions=8)
    tg.models.create("gpt2", rng=np.random.default_rng(0), **sizes).save(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="no locks on folders, so nothing is known to be nobody's")
def test_what_a_killed_save_left_goes_with_the_next_and_nothing_else(saved):
    model, folder = saved
    model.save(folder)
    before = {p.name for p in folder.iterdir()}
    with pytest.raises(AssertionError, match="exit code -9"):
        fresh.python(KILLED, folder)
    left = {p.name for p in folder.iterdir()} - before
    assert len(left) == 1
    (folder / ".saving-notes.tmp").mkdir()
    (folder / ".saving-notes.tmp" / "mine.json").touch()
    with saving.staging_in(folder) as staging:  # another save, under way
        model.save(folder)
        assert {p.name for p in folder.iterdir()} == before | {".saving-notes.tmp", staging.name}
    assert {p.name for p in folder.iterdir()} == before | {".saving-notes.tmp"}


def test_saving_after_surgery_says_that_the_config_does_not_describe_it(tmp_path):
    model = tg.models.create("llama-7b", num_hidden_layers=2, hidden_size=16, intermediate_size=32, num_attention_heads=2, vocab_size=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "plain")
    model.lm_head.weight = model.model.tokens.weight
    with pytest.warns(UserWarning, match=r"load will refuse .*tied, .*: lm_head\.weight; change model\.config"):
        model.save(tmp_path / "tied")
    with pytest.raises(tg.models.CheckpointError, match="missing lm_head.weight"):
        tg.models.load(tmp_path / "tied")
    model.config = model.config.replace(tie_word_embeddings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "tied")
    ids = np.array([[1, 5, 3]])
    np.testing.assert_array_equal(tg.models.load(tmp_path / "tied")(input_ids=ids).logits.data, model(input_ids=ids).logits.data)


def test_an_adapter_is_saved_under_its_own_names_beside_the_published_ones(tmp_path):
    class Adapted(tg.nn.Module):
        def __init__(self, base):
            self.base = base
            self.down, self.up = (tg.Tensor(np.full(s, n, np.float32), requires_grad=True) for n, s in ((1, (2, 16)), (2, (16, 2))))

        def forward(self, x):
            return self.base(x) + tg.functional.linear(tg.functional.linear(x, self.down), self.up)

    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8)
    attn = model.transformer.layers[0].attn
    attn.q = Adapted(attn.q)
    with pytest.warns(UserWarning, match=r"load will refuse .*attn\.q\.base\.bias"):
        model.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    for name, value in attn.named_parameters("transformer.layers.0.attn"):
        if not name.startswith("transformer.layers.0.attn.o"):
            np.testing.assert_array_equal(stored[name], value.data, err_msg=name)
    assert stored["transformer.h.1.attn.c_attn.weight"].shape == (16, 48)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9, vocab_size=23)
    model = tg.models.create("bert-base", "base", **sizes)  # one published tensor for each of ours
    model.layers[0].attn.q = Adapted(model.layers[0].attn.q)
    with pytest.warns(UserWarning, match="load will refuse"):
        model.save(tmp_path)
    stored = set(load_file(tmp_path / "model.safetensors"))
    assert {n for n in stored if ".q" in n} == {f"layers.0.attn.q.{n}" for n in ("up", "down", "base.weight", "base.bias")}
