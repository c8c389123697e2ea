"""The vocabulary, head scores and direct logit attribution against TransformerLens, on the same small random checkpoints.

TransformerLens 4 hooks transformers' own modules; what it adds to `tests/lens` is a second opinion on which value a name means, on
scores before softmax, and on what is read off a run.
"""

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

import tinygrad_llm as tg
from tinygrad_llm import lens

transformer_lens = pytest.importorskip("transformer_lens", reason="TransformerLens is not installed; `make oracles` installs it")
from transformer_lens import head_detector  # noqa: E402
from transformer_lens.model_bridge import TransformerBridge  # noqa: E402

V, T, S = 60, 13, 7
rng = np.random.default_rng(0)
IDS, TARGETS = np.tile(rng.integers(2, V, (2, 7)), 2)[:, :T], rng.integers(2, V, (2, S))  # a text that repeats itself

CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=32, vocab_size=V, bos_token_id=0, eos_token_id=0),
    "llama": lambda: transformers.LlamaConfig(vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
    "bert": lambda: transformers.BertConfig(vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4),
    "t5": lambda: transformers.T5Config(vocab_size=V, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0),
}  # fmt: skip
KINDS = {
    "gpt2": transformers.GPT2LMHeadModel,
    "llama": transformers.LlamaForCausalLM,
    "bert": transformers.BertForMaskedLM,
    "t5": transformers.T5ForConditionalGeneration,
}
# where a family's value stands under another name there
SPECIAL = {
    "llama": {"attn.hook_q": "attn.hook_rot_q", "attn.hook_k": "attn.hook_rot_k"},  # after rotary positions
    # after the norm; what is added, where theirs are normed already
    "bert": {"hook_resid_mid": "mlp.hook_in", "hook_attn_out": "attn.o.hook_out", "hook_mlp_out": "mlp.out.hook_out"},
}
# BERT's last state has no name there (ln_final is its head's norm) and its hook_attn_scores (4.3) holds the pattern; T5's embeddings
# have no names of their own for each side
UNLIKE = {
    "bert": {"final_norm", "blocks.0.attn.scores", "blocks.1.attn.scores"},
    "t5": {"encoder.embed", "decoder.embed"},
}


@pytest.fixture
def pair(request, tmp_path):
    """(family, TransformerLens' model, ours), of the same weights: larger than at birth, so that no value is nearly zero."""
    torch.manual_seed(0)
    theirs = KINDS[request.param](CONFIGS[request.param]()).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    words = Tokenizer(models.WordLevel({str(i): i for i in range(V)}, unk_token="0"))
    marks = {"bos_token": "1", "eos_token": "1", "pad_token": "0", "unk_token": "0"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **marks).save_pretrained(tmp_path)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), device="cpu")
    return request.param, bridge, tg.models.load(tmp_path).eval()


def their_name(family, name):
    """'decoder.blocks.1.cross.pattern' -> 'decoder_blocks.1.cross_attn.hook_pattern'"""
    side, dot, rest = name.partition(".") if family == "t5" and name != "logits" else ("", "", name)
    if rest in ("embed", "final_norm", "logits"):
        last = f"{side + '_' if side else ''}ln_final.hook_out"
        return {"embed": "hook_embed", "final_norm": last, "logits": "unembed.hook_out"}[rest]
    _, layer, value = rest.split(".", 2)
    place, _, tap = value.rpartition(".")
    attention = {"attn": "self_attn" if side == "decoder" else "attn", "cross": "cross_attn", "": ""}[place]
    if place:
        hook = f"{attention}.hook_{'attn_scores' if tap == 'scores' else tap}"
    elif tap in ("mlp_pre", "mlp_post"):
        hook = f"mlp.hook_{tap[4:]}"
    elif side == "decoder" and tap in ("resid_mid", "cross_out"):
        hook = {"resid_mid": "hook_resid_mid2", "cross_out": "hook_cross_attn_out"}[tap]
    else:
        hook = f"hook_{tap}"
    return f"{side + '_' if side else ''}blocks.{layer}.{SPECIAL.get(family, {}).get(hook, hook)}"


@pytest.mark.parametrize("pair", CONFIGS, indirect=True)
def test_recorded_values_are_those_of_transformer_lens(pair):
    family, bridge, ours = pair
    inputs = {"input_ids": IDS, "decoder_input_ids": TARGETS} if family == "t5" else {"input_ids": IDS}
    with torch.no_grad():
        more = {"decoder_input": torch.from_numpy(TARGETS)} if family == "t5" else {}
        _, cache = bridge.run_with_cache(torch.from_numpy(IDS), **more)
    with tg.no_grad(), lens.record(ours) as values:
        ours(**inputs)
    for name in set(values) - UNLIKE.get(family, set()):
        theirs = cache[their_name(family, name)].numpy()
        if name == "embed" and family == "gpt2":
            theirs = theirs + cache["hook_pos_embed"].numpy()
        mine = values[name]
        if name.endswith("scores"):  # where no query may look: minus infinity here, there float32's lowest or not masked yet
            assert np.isneginf(mine[theirs < -1e30]).all(), name
            mine, theirs = (np.where(np.isneginf(mine), 0, scores) for scores in (mine, theirs))
        np.testing.assert_allclose(mine, theirs.reshape(mine.shape), atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("pair", ["gpt2", "llama"], indirect=True)
def test_head_scores_are_those_of_transformer_lens(pair):
    _, _, ours = pair
    pattern = lens.patterns(ours, input_ids=IDS[:1])
    tokens = torch.from_numpy(IDS[:1])
    copies = int((IDS[0][:, None] == IDS[0]).sum(1).tolist().count(2)) // 2  # queries that have an earlier copy
    kinds = {
        "previous_token_head": (lens.previous_token_scores(pattern), T - 1),
        "duplicate_token_head": (lens.duplicate_token_scores(pattern, IDS[:1]), copies),
        "induction_head": (lens.induction_scores(pattern, IDS[:1]), copies),
    }
    for name, (mine, queries) in kinds.items():
        for layer, head in np.ndindex(*mine.shape):
            theirs = head_detector.compute_head_attention_similarity_score(
                torch.from_numpy(pattern[layer, 0, head].copy()),
                detection_pattern=getattr(head_detector, f"get_{name}_detection_pattern")(tokens),
                exclude_bos=False, exclude_current_token=False, error_measure="mul",
            )  # fmt: skip
            # theirs is a share of all attention, T rows; ours of the rows that have such a place
            np.testing.assert_allclose(mine[layer, head] * queries / T, theirs, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("pair", ["gpt2"], indirect=True)
def test_direct_logit_attribution_is_that_of_transformer_lens(pair):
    _, bridge, ours = pair
    bridge.enable_compatibility_mode()  # folds the last norm into the output matrix
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.from_numpy(IDS))
        parts, labels = cache.decompose_resid(return_labels=True, mode="all", pos_slice=-1)
        tokens, others = torch.tensor([7, 7]), torch.tensor([3, 3])
        worth = cache.logit_attrs(parts, tokens=tokens, incorrect_tokens=others, pos_slice=-1)[:, 0].numpy()
    mine = lens.direct_logit_attribution(ours, token=7, against=3, input_ids=IDS)
    assert labels == ["embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out"]
    assert mine.components == ["embed", *(f"blocks.{i}.{part}" for i in range(2) for part in ("attn_out", "mlp_out")), "constant"]
    np.testing.assert_allclose(mine.values[:5], [worth[0] + worth[1], *worth[2:]], rtol=1e-3, atol=1e-4)
