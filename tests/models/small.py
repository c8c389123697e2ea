"""Sizes of small models, a config.json to edit, and models to compare."""

import json

import numpy as np

SIZES = dict(n_embd=12, n_layer=2, n_head=3, vocab_size=23, n_positions=9)
SMALL = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, vocab_size=23)
TINY = SMALL | dict(intermediate_size=9)


def edit(folder, **changes):
    """Change keys of config.json; a value of ... removes the key."""
    path = folder / "config.json"
    values = {k: v for k, v in {**json.loads(path.read_text()), **changes}.items() if v is not ...}
    path.write_text(json.dumps(values))


def equal(a, b):
    ours, theirs = dict(a.named_parameters()), dict(b.named_parameters())
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value.data, theirs[name].data, err_msg=name)
