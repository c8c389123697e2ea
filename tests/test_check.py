"""Wrong numbers are refused by name, in whatever room they are given."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import lens, nn
from tinygrad_llm.autograd import functional as F
from tinygrad_llm.generate import fill_mask
from tinygrad_llm.models.memory import cards
from tinygrad_llm.testing import numerical_gradient


@pytest.fixture(scope="module")
def bert():
    return tg.models.create("bert-base", head="masked_lm", num_hidden_layers=1, hidden_size=8, num_attention_heads=2,
                            intermediate_size=8, vocab_size=11, max_position_embeddings=8)  # fmt: skip


@pytest.mark.parametrize("bad", [-1, 1.5, "3", None])
def test_how_many_are_shown_is_a_whole_number(bert, bad):
    ids = np.array([[1, 2, 3]])
    for call in (lambda: fill_mask(bert, ids, 2, top_k=bad), lambda: lens.logit_lens(bert, top=bad, input_ids=ids)):
        with pytest.raises((TypeError, ValueError), match=r"top(_k)?: expected"):
            call()


def test_masks_are_filled_in_ids_not_in_fractions(bert):
    with pytest.raises(TypeError, match="expected token ids"):
        fill_mask(bert, [[1.5, 2]], 2)
    with pytest.raises(TypeError, match="mask_id: expected a whole number"):
        fill_mask(bert, [[1, 2]], 2.5)


@pytest.mark.parametrize(("name", "call"), [
    ("eps", lambda x: nn.LayerNorm(4, eps=x)),
    ("eps", lambda x: nn.RMSNorm(4, eps=x)),
    ("eps", lambda x: numerical_gradient(np.sum, np.ones(2), eps=x)),
    ("tau", lambda x: F.gumbel_softmax(np.ones(3), tau=x)),
    ("card_gb", lambda x: cards(1e6, card_gb=x)),
    ("residual", lambda x: lens.rollout(np.ones((1, 1, 1, 2, 2)), residual=x)),
    ("temperature", lambda x: tg.generate.Settings(temperature=x)),
    ("top_p", lambda x: tg.generate.Settings(top_p=x)),
])  # fmt: skip
@pytest.mark.parametrize("bad", [-0.5, float("nan"), "0.1"])
def test_a_number_out_of_range_is_refused_by_name(name, call, bad):
    with pytest.raises((TypeError, ValueError), match=f"{name}: expected"):
        call(bad)


def test_a_vocabulary_has_room_in_memory():
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match="vocab_size: expected at most 10,000,000, got"):
        tg.text.train("bpe", ["a text"], vocab_size=10**12)
