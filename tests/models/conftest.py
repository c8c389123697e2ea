"""A checkpoint of a small model."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.models.small import SIZES


@pytest.fixture
def saved(tmp_path):
    """A small GPT-2 in a folder: (model, folder)."""
    model = tg.models.create("gpt2", rng=np.random.default_rng(0), **SIZES)
    model.save(tmp_path)
    return model, tmp_path
