"""Every family's own task: batches are what its objective says, and a short training lowers the loss."""

import numpy as np
import pytest

from tests.training.small import TEXT, prepared
from tinygrad_llm import models, text, training
from tinygrad_llm.data import IGNORE
from tinygrad_llm.training import prepare
from tinygrad_llm.training.families import HEADS, RECIPES, recipe_for

WINDOWED = ["gpt2", "gpt", "gpt3", "llama", "roberta", "electra", "t5", "bart", "bert", "albert"]


@pytest.mark.parametrize("family", WINDOWED)
def test_families_learn_their_own_objective(family, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, context=32)
    options = training.Options(steps=30, batch=8, lr=1e-2, warmup=3, eval_every=15, seed=1)
    trainer = training.Trainer(model, data.task, options)
    trainer.run()
    batches = data.task.evaluation()
    first = training.evaluate(data.task, prepared(family, tmp_path=tmp_path, context=32)[1], batches)["loss"]
    assert trainer.best < first - 0.3, f"{family}: {first} -> {trainer.best}"
    for batch in batches:
        assert batch["input_ids"].shape[1] <= 32 and min(data.task.counts(batch).values()) > 0


@pytest.mark.parametrize("family", WINDOWED)
def test_tasks_resume(family, tmp_path):
    data, _ = prepared(family, tmp_path=tmp_path)
    twin, _ = prepared(family, tmp_path=tmp_path, seed=5)
    data.task.draw(3)
    twin.task.load_state_dict(data.task.state_dict())
    a, b = data.task.draw(3), twin.task.draw(3)
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("objective", HEADS)
def test_what_is_drawn_hangs_on_the_seed(objective, tmp_path):
    lines = "ham\thello there\nspam\tbuy now\n" * 20 if objective in ("translation", "classification") else TEXT
    (tmp_path / "f").write_text(lines)
    style = "t5" if objective in ("translation", "span_corruption", "text_infilling") else "bert"
    one, same, other = (prepare.prepare(tmp_path / "f", None, prepare.DataChoices(objective, style, 16, seed=seed)).task.draw(8)
                        for seed in (1, 1, 2))  # fmt: skip
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert any(one[k].shape != other[k].shape or not np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("objective", HEADS)
def test_a_batch_is_drawn_as_its_parts_are(objective, tmp_path):
    """Accumulating over two batches of 4, then over 3 and 5, sees what batches of 8 see, padding aside."""
    lines = "ham\thello there\nspam\tbuy now\n" * 20 if objective in ("translation", "classification") else TEXT
    (tmp_path / "f").write_text(lines)
    style = "t5" if objective in ("translation", "span_corruption", "text_infilling") else "bert"
    whole, parts = (prepare.prepare(tmp_path / "f", None, prepare.DataChoices(objective, style, 16, seed=1)).task for _ in range(2))
    for cut in ((4, 4), (3, 5)):
        one, others = whole.draw(8), [parts.draw(n) for n in cut]
        assert all(one.keys() == other.keys() for other in others)
        for name, array in one.items():
            rows = [row for other in others for row in other[name]]
            for row, again in zip(array, rows, strict=True):
                n = min(np.size(row), np.size(again))
                np.testing.assert_array_equal(np.ravel(row)[:n], np.ravel(again)[:n], err_msg=name)


def test_a_long_context_has_markers_for_all_its_spans(tmp_path):
    data, _ = prepared("t5", TEXT * 2, tmp_path, context=600)
    assert data.task.draw(2)["input_ids"].shape[0] == 2


@pytest.mark.parametrize("family", ["t5", "bart", "transformer"])
@pytest.mark.parametrize("objective", ["text_infilling", "span_corruption"])
def test_encoder_decoders_learn_each_others_objectives(family, objective, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, objective=objective)
    trainer = training.Trainer(model, data.task, training.Options(steps=2, batch=4, eval_every=1))
    assert trainer.run()["best_loss"] > 0 and data.task.objective == objective


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_masked_window_is_framed_and_fills_the_context(family, tmp_path):
    data, _ = prepared(family, tmp_path=tmp_path, context=32, objective="masked")
    batch, special = data.task.draw(6), data.tokenizer.special
    text = np.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
    assert text.shape == (6, 32) and (text[:, 0] == special["cls"]).all() and (text[:, -1] == special["sep"]).all()
    assert not np.isin(text[:, 1:-1], [special["cls"], special["sep"]]).any()


def test_every_family_has_a_recipe():
    assert set(RECIPES) == set(models.families)
    assert recipe_for("bert-large")[0] == "bert"
    for name in models.list():
        assert recipe_for(name)[0] in RECIPES, "also those that are not called after their family, as mistral-7b"
    with pytest.raises(ValueError, match="--model: expected one of gpt, gpt2"):
        recipe_for("gpt9")


def test_a_noisy_text_fits_into_the_shortest_context(tmp_path):
    """Masks of length 0 made one in a thousand texts longer than the model's eight positions."""
    data, _ = prepared("bart", tmp_path=tmp_path, context=8)
    assert data.task.draw(8_000)["input_ids"].shape[1] == 8


def held_out(**options):
    return training.CausalTask(np.arange(90) % 9, np.arange(40) % 9, 8, **options)


def test_nothing_to_evaluate_is_no_loss_of_0():
    model = models.create("gpt2", n_layer=1, n_head=1, n_embd=4, n_positions=8, vocab_size=9)
    task = held_out()
    once = iter(task.evaluation())
    assert training.evaluate(task, model, once)["loss"] > 1
    for batches in (once, [], [{"input_ids": np.ones((1, 8), int), "labels": np.full((1, 8), IGNORE)}]):
        with pytest.raises(ValueError, match="evaluate: expected batches with something to predict"):
            training.evaluate(task, model, batches)


def test_the_perplexity_of_no_number_is_none():
    assert np.isnan(training.perplexity(float("nan"))) and training.perplexity(float("inf")) == float("inf")


@pytest.mark.parametrize("options", [{"eval_batch": 0}, {"eval_batch": -1}, {"eval_windows": 0}, {"eval_windows": -2}])
def test_an_evaluation_has_batches(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected at least 1, got"):
        held_out(**options)


def test_a_context_too_short_to_learn_from_is_refused():
    tokenizer = text.train("chars", TEXT, style="bert")
    ids = tokenizer.encode(TEXT)
    for context in (0, -3):
        with pytest.raises(ValueError, match="context: too short, for its windows would have"):
            training.CausalTask(ids, ids, context)
    for context in (2, -1):
        with pytest.raises(ValueError, match="context: too short"):  # [CLS] and [SEP] alone
            training.MaskedTask(ids, ids, context, tokenizer)
    with pytest.raises(TypeError, match="context: expected a whole number"):
        training.CausalTask(ids, ids, 8.5)
    with pytest.raises(TypeError, match="tokenizer: expected one of text.train or text.load, got a str"):
        training.MaskedTask(ids, ids, 8, "bert-base-uncased")
    with pytest.raises(TypeError, match="expected token ids, which are integers"):
        training.CausalTask(ids, ids + 0.5, 8)


@pytest.mark.parametrize("name", ["lr", "min_lr", "beta1", "beta2", "weight_decay", "clip"])
def test_a_number_of_a_run_is_a_number(name):
    for value in ("1e-3", None):
        with pytest.raises(ValueError, match=f"{name}: expected a number, got"):
            training.Options(**{name: value})
