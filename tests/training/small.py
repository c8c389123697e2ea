"""Small models and data for the tests of training."""

import numpy as np

from tinygrad_llm import models, text, training

TEXT = ("the quick brown fox jumps over the lazy dog. pack my box with five dozen jugs! how vexingly quick\n"
        "daft zebras jump; the five boxing wizards jump quickly.\n\n") * 40  # fmt: skip
SIZES = {"layers": 1, "heads": 2, "width": 16, "context": 16, "dropout": 0.1, "init": None}


def prepared(family="gpt2", sample=TEXT, tmp_path=None, context=16, **choices):
    """(Prepared, model) for a family, as the command line makes them."""
    from tinygrad_llm.training.families import recipe_for, small_model
    from tinygrad_llm.training.prepare import DataChoices, prepare

    path = tmp_path / "corpus.txt"
    path.write_text(sample)
    _, recipe = recipe_for(family)
    objective = choices.pop("objective", recipe.objective)
    sizes = SIZES | {"context": context} | {k: choices.pop(k) for k in SIZES if k in choices}
    data = prepare(path, None, DataChoices(objective, recipe.style, context, **choices))
    model = small_model(recipe, objective, data.tokenizer, rng=np.random.default_rng(0), **sizes)
    return data, model


def saved(family, tmp_path, **choices):
    """The same, in the folder "model"."""
    data, model = prepared(family, tmp_path=tmp_path, **choices)
    model.save(tmp_path / "model")
    data.tokenizer.save(tmp_path / "model")
    return data, model


def causal_trainer(out=None, dropout=0.1, seed=0, **options):
    """A GPT-2 of one layer on the sample text."""
    tokenizer = text.train("chars", TEXT)
    ids = tokenizer.encode(TEXT)
    model = models.create("gpt2", n_layer=1, n_head=2, n_embd=16, n_positions=16, vocab_size=tokenizer.vocab_size, dropout=dropout,
                          bos_token_id=None, eos_token_id=None, rng=np.random.default_rng(seed))  # fmt: skip
    task = training.CausalTask(ids[:-200], ids[-200:], 16, seed=seed, eval_windows=4)
    chosen = training.Options(**({"steps": 8, "batch": 4, "warmup": 2, "eval_every": 3, "save_every": 2, "seed": seed} | options))
    return training.Trainer(model, task, chosen, out=out, tokenizer=tokenizer)


def weights(model) -> dict[str, np.ndarray]:
    return {name: p.data.copy() for name, p in model.named_parameters()}


def same_bits(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
