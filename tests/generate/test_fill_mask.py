"""Masks that are filled."""

import numpy as np
import pytest

from tests.generate.small import MASK, V, vary
from tinygrad_llm import models
from tinygrad_llm.generate import fill_mask, filters


def test_fill_mask():
    model = vary(models.create("bert-tiny", head="masked_lm", num_hidden_layers=1, hidden_size=16, num_attention_heads=2,
                               intermediate_size=32, vocab_size=V, max_position_embeddings=16))  # fmt: skip
    ids = np.array([[5, MASK, 7, MASK]])
    answers = fill_mask(model, ids, MASK, top_k=3)
    logits = model.eval()(input_ids=ids).logits.data[0]
    for answer, place in zip(answers[0], (1, 3)):
        p = filters.softmax(logits[place].astype(np.float64)[None])[0]
        assert [t for t, _ in answer] == np.argsort(-p, kind="stable")[:3].tolist()
        assert [x for _, x in answer] == pytest.approx(sorted(p)[::-1][:3])
    padded = fill_mask(model, np.pad(ids, ((0, 0), (0, 3))), MASK, top_k=3, attention_mask=np.pad(np.ones_like(ids), ((0, 0), (0, 3))))
    for answer, other in zip(answers[0], padded[0]):
        assert [t for t, _ in answer] == [t for t, _ in other] and [x for _, x in answer] == pytest.approx([x for _, x in other], rel=1e-4)
    with pytest.raises(ValueError, match="no mask token"):
        fill_mask(model, [[5, 6]], MASK)
