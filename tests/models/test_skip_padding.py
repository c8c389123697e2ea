"""`skip_padding` computes the real tokens alone: the same hidden states and gradients there, zeros at padding."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import lens

SMALL = {
    "bert-tiny": {},
    "roberta-base": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
    "albert-base": {"embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
    "electra-small": {"embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
}


def model_of(preset):
    tg.manual_seed(0)
    return tg.models.create(preset, vocab_size=50, dropout=0.0, head="base", **SMALL[preset])


MASKS = {
    "right": np.arange(7) < np.array([[7], [1], [4]]),
    "left": np.arange(7) >= np.array([[0], [6], [3]]),
    "holes": np.array([[1, 0, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0]], bool),
}


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("side", MASKS)
def test_same_hidden_states_and_gradients_where_tokens_are_real(preset, side):
    model, mask = model_of(preset), MASKS[side]
    ids = np.random.default_rng(1).integers(4, 50, mask.shape)
    found = []
    for skip in (False, True):
        out = model(input_ids=ids, attention_mask=mask, skip_padding=skip, output_hidden_states=True)
        for p in model.parameters():
            p.grad = None
        (out.last_hidden_state * mask[..., None].astype(np.float32)).sum().backward()
        found.append((out, {n: p.grad.data.copy() for n, p in model.named_parameters() if p.grad is not None}))
    (full, full_grads), (packed, packed_grads) = found
    assert not packed.last_hidden_state.data[~mask].any()
    for a, b in zip(full.hidden_states, packed.hidden_states, strict=True):
        np.testing.assert_allclose(b.data[mask], a.data[mask], rtol=1e-5, atol=1e-5)
    assert packed_grads.keys() == full_grads.keys()
    for name, grad in full_grads.items():
        np.testing.assert_allclose(packed_grads[name], grad, rtol=1e-4, atol=2e-5, err_msg=name)


def test_sentence_embeddings_do_not_depend_on_how_far_a_batch_is_padded():
    model = model_of("bert-tiny").eval()
    ids = np.random.default_rng(2).integers(1, 50, (2, 5))
    alone = [model.sentence_embeddings(ids[:1, :3]).data, model.sentence_embeddings(ids[1:]).data]
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    wide = lambda x: np.pad(x, ((0, 0), (0, 9)))
    together = model.sentence_embeddings(wide(ids), wide(mask)).data
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_sentence_embeddings_hear_what_else_is_said_of_a_text():
    model, ids = model_of("bert-tiny").eval(), np.random.default_rng(2).integers(1, 50, (2, 5))
    more = {"token_type_ids": np.array([[0, 0, 1, 1, 1]] * 2), "position_ids": np.arange(5)[::-1].copy()}
    found = model.sentence_embeddings(ids, **more).data
    np.testing.assert_allclose(found, model(ids, **more).last_hidden_state.data.mean(axis=1), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, model.sentence_embeddings(ids).data, atol=1e-3)
    for pooling, which in (("sum", model), ("pooled", model_of("electra-small"))):
        with pytest.raises(ValueError, match=f"^pooling: expected 'mean'.*, got '{pooling}'"):
            which.sentence_embeddings(ids, pooling=pooling)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pooled_sentence_embeddings_are_the_pooler_s_output(side):
    model, mask = model_of("bert-tiny").eval(), MASKS[side]
    ids = np.random.default_rng(3).integers(1, 50, mask.shape)
    pooled = model.sentence_embeddings(ids, mask, pooling="pooled").data
    np.testing.assert_allclose(pooled, model(ids, mask).pooler_output.data, rtol=1e-5, atol=1e-6)


def test_a_sequence_of_padding_alone_gets_zeros():
    model = model_of("bert-tiny").eval()
    out = model(input_ids=np.ones((2, 3), int), attention_mask=[[1, 1, 0], [0, 0, 0]], skip_padding=True)
    assert np.isfinite(out.last_hidden_state.data).all() and not out.last_hidden_state.data[1].any()
    all_padding = model(input_ids=np.ones((1, 3), int), attention_mask=[[0, 0, 0]], skip_padding=True)
    assert not all_padding.last_hidden_state.data.any()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("side", MASKS)
def test_a_lens_sees_rows_and_positions_where_padding_is_skipped(side, recompute):
    model, mask = model_of("bert-tiny").eval(), MASKS[side]
    model.recompute = recompute
    ids = np.random.default_rng(4).integers(4, 50, mask.shape)
    mlp_out = "blocks.1.mlp_out"

    def run(skip, patches, **record):
        with lens.patch(model, patches), lens.record(model, "blocks.*", **record) as values:
            out = model(input_ids=ids, attention_mask=mask, skip_padding=skip).last_hidden_state
            (out * mask[..., None].astype(np.float32)).sum().backward()
        return out.data, values

    plain = model(input_ids=ids, attention_mask=mask, skip_padding=True).last_hidden_state.data
    with lens.record(model, mlp_out) as values:
        np.testing.assert_array_equal(model(input_ids=ids, attention_mask=mask, skip_padding=True).last_hidden_state.data, plain)
    assert values[mlp_out].shape == (*mask.shape, 128) and not values[mlp_out][~mask].any()
    for patches in ({}, {"blocks.0.resid_pre[:, 3]": 0.5, "blocks.1.mlp_post[1:]": lambda x: x * 2.0}):
        (full, seen), (packed, seen_packed) = (run(skip, patches, gradients=True) for skip in (False, True))
        np.testing.assert_allclose(packed[mask], full[mask], rtol=1e-5, atol=1e-5)
        for name, value in seen.items():
            if value.shape[:2] == mask.shape:
                np.testing.assert_allclose(seen_packed[name][mask], value[mask], rtol=1e-4, atol=1e-5, err_msg=name)
                got, expected = seen_packed.grad[name][mask], seen.grad[name][mask]
                np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4, err_msg=name)
