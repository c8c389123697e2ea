"""Every architecture at small random sizes: a config for transformers, and inputs. Shared by golden files and live comparisons.

`case(name, seed)` is the same everywhere for the same seed: odd widths, head ratios, tied or not, padding left, right or none.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Case:
    architecture: str  # transformers' class
    config_class: str
    config: dict[str, Any]
    inputs: dict[str, np.ndarray]
    decoder: bool = False  # queries that are padding may attend to nothing, and are not compared
    options: dict[str, Any] = field(default_factory=dict)


ENCODERS = {
    "Bert": ("Model", "ForMaskedLM", "ForNextSentencePrediction", "ForPreTraining", "ForSequenceClassification",
             "ForTokenClassification", "ForQuestionAnswering"),
    "Roberta": ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    "Albert": ("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    "Electra": ("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification",
                "ForQuestionAnswering"),
}  # fmt: skip
DECODERS = ("GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification",
            "OpenAIGPTModel", "OpenAIGPTLMHeadModel", "OpenAIGPTForSequenceClassification", "LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification",
            "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification",
            "LlamaForTokenClassification", "Qwen2ForTokenClassification")  # fmt: skip
SEQ2SEQ = ("T5Model", "T5EncoderModel", "T5ForConditionalGeneration", "BartModel", "BartForConditionalGeneration",
           "BartForSequenceClassification")  # fmt: skip
ARCHITECTURES = [*(family + head for family, all_heads in ENCODERS.items() for head in all_heads), *DECODERS, *SEQ2SEQ]

NO_DROPOUT = {
    "Bert": dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    "GPT2": dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
}


def case(architecture: str, seed: int) -> Case:
    """The architecture with sizes and inputs drawn from `seed`."""
    rng = np.random.default_rng([seed, *architecture.encode()])
    if architecture in DECODERS:
        return _decoder(architecture, rng)
    return _seq2seq(architecture, rng) if architecture in SEQ2SEQ else _encoder(architecture, rng)


def _ids(rng: np.random.Generator, vocabulary: int, padding: str, pad: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """ids (B, T) and a mask with 1 for real tokens; padding "none", "left" or "right"."""
    B, T = int(rng.integers(2, 4)), int(rng.integers(5, 10))
    ids = rng.integers(4, vocabulary, (B, T))
    mask = np.ones((B, T), np.int64)
    if padding != "none":
        for row in range(1, B):
            n = int(rng.integers(1, T - 2))
            where = slice(0, n) if padding == "left" else slice(T - n, T)
            mask[row, where] = 0
    return np.where(mask == 1, ids, 0 if pad is None else pad), mask


def _head_width(rng: np.random.Generator, even: bool = False) -> int:
    return int(rng.choice([2, 4, 6] if even else [3, 4, 5]))


def _encoder(architecture: str, rng: np.random.Generator) -> Case:
    family = next(f for f in ENCODERS if architecture.startswith(f))
    heads = int(rng.integers(1, 4))
    vocabulary, pad = int(rng.integers(20, 34)), int(rng.integers(0, 3))
    config = dict(
        vocab_size=vocabulary, hidden_size=heads * _head_width(rng), num_attention_heads=heads, num_hidden_layers=2,
        intermediate_size=int(rng.integers(7, 20)), max_position_embeddings=16, type_vocab_size=2, pad_token_id=pad,
        tie_word_embeddings=bool(rng.random() < 0.7), **NO_DROPOUT["Bert"],
    )  # fmt: skip
    if family in ("Albert", "Electra"):
        config["embedding_size"] = config["hidden_size"] if rng.random() < 0.3 else int(rng.integers(4, 9))
    if family == "Albert":
        config |= dict(classifier_dropout_prob=0.0, num_hidden_layers=3)
    head = architecture.removeprefix(family)
    if head in ("ForSequenceClassification", "ForTokenClassification"):
        config["num_labels"] = 3
    ids, mask = _ids(rng, vocabulary, str(rng.choice(["none", "left", "right"])), pad)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, 2, ids.shape)}
    inputs |= _encoder_labels(family, head, ids, mask, rng)
    return Case(architecture, f"{family}Config", config, inputs)


def _encoder_labels(family: str, head: str, ids: Any, mask: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    B, T = ids.shape
    masked = np.where((mask == 1) & (rng.random((B, T)) < 0.5), ids, -100)
    masked[0, -1] = ids[0, -1]  # at least one
    second = rng.integers(0, 2, B)
    return {
        "Model": {},
        "ForMaskedLM": {"labels": masked},
        "ForNextSentencePrediction": {"labels": second},
        "ForPreTraining": {
            "Bert": {"labels": masked, "next_sentence_label": second}, "Albert": {"labels": masked, "sentence_order_label": second},
        }.get(family, {"labels": rng.integers(0, 2, (B, T))}),
        "ForSequenceClassification": {"labels": rng.integers(0, 3, B)},
        "ForTokenClassification": {"labels": np.where(mask == 1, rng.integers(0, 3, (B, T)), -100)},
        "ForQuestionAnswering": {"start_positions": rng.integers(0, T, B), "end_positions": rng.integers(0, T + 2, B)},
    }[head]  # fmt: skip


def _decoder(architecture: str, rng: np.random.Generator) -> Case:
    heads, vocabulary = int(rng.integers(1, 4)), int(rng.integers(20, 34))
    tied = bool(rng.random() < 0.5)
    if architecture.startswith(("GPT2", "OpenAI")):
        family = "OpenAIGPT" if architecture.startswith("OpenAI") else "GPT2"
        config = dict(vocab_size=vocabulary, n_embd=heads * _head_width(rng), n_head=heads, n_layer=2, n_positions=12,
                      tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, **NO_DROPOUT["GPT2"])  # fmt: skip
    else:
        family = next(f for f in ("Llama", "Mistral", "Qwen2", "Qwen3") if architecture.startswith(f))
        groups, width = int(rng.integers(1, 4)), _head_width(rng, even=True)
        config = dict(
            vocab_size=vocabulary, hidden_size=heads * groups * width, num_attention_heads=heads * groups, num_key_value_heads=heads,
            num_hidden_layers=2, intermediate_size=int(rng.integers(7, 20)), max_position_embeddings=32, tie_word_embeddings=tied,
            bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        if family == "Llama":
            config |= dict(attention_bias=tied, mlp_bias=not tied)
            if rng.random() < 0.5:
                config["rope_parameters"] = {
                    "rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8,
                }  # fmt: skip
        if family == "Mistral":
            config["sliding_window"] = int(rng.integers(2, 6))
        if family == "Qwen3":
            config["head_dim"] = _head_width(rng, even=True)
    ids, mask = _ids(rng, vocabulary, str(rng.choice(["none", "left", "right"])))
    inputs = {"input_ids": ids, "attention_mask": mask}
    if architecture.endswith("Classification"):
        config |= {"pad_token_id": 0, "num_labels": 3}  # ids that are not padding begin at 4
        inputs["labels"] = rng.integers(0, 3, len(ids))
        if "Token" in architecture:
            inputs["labels"] = np.where(mask == 1, rng.integers(0, 3, ids.shape), -100)
    elif not architecture.endswith("Model") or "LMHead" in architecture:
        # the first real token after padding on the left would be predicted from padding, where transformers' own attention
        # implementations disagree (a query that may see nothing)
        told = np.concatenate([mask[:, :1], mask[:, :-1]], axis=1)
        inputs["labels"] = np.where((mask == 1) & (told == 1), ids, -100)
    return Case(architecture, f"{family}Config", config, inputs, decoder=True)


def _seq2seq(architecture: str, rng: np.random.Generator) -> Case:
    heads, vocabulary = int(rng.integers(1, 4)), int(rng.integers(20, 34))
    ids, mask = _ids(rng, vocabulary, str(rng.choice(["none", "left", "right"])))
    if architecture.startswith("T5"):
        config = dict(
            vocab_size=vocabulary, d_model=int(rng.integers(7, 14)), d_kv=_head_width(rng), d_ff=int(rng.integers(7, 20)), num_layers=2,
            num_decoder_layers=int(rng.integers(1, 3)), num_heads=heads, relative_attention_num_buckets=8,
            relative_attention_max_distance=int(rng.integers(9, 20)), dropout_rate=0.0, decoder_start_token_id=0,
        )  # fmt: skip
        if rng.random() < 0.5:
            config |= dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    else:
        config = dict(
            vocab_size=vocabulary, d_model=heads * 2 * _head_width(rng), encoder_layers=2, decoder_layers=int(rng.integers(1, 3)),
            encoder_attention_heads=heads, decoder_attention_heads=2 * heads, encoder_ffn_dim=int(rng.integers(7, 20)),
            decoder_ffn_dim=int(rng.integers(7, 20)), max_position_embeddings=12, dropout=0.0, attention_dropout=0.0,
            scale_embedding=bool(rng.random() < 0.5),
        )  # fmt: skip
    inputs = {"input_ids": ids, "attention_mask": mask}
    target = rng.integers(4, vocabulary, (len(ids), int(rng.integers(3, 8))))
    if architecture.endswith("Generation"):
        target[0, -1] = -100
        inputs["labels"] = target
    elif architecture.endswith("Classification"):
        inputs = {"input_ids": ids, "labels": rng.integers(0, 3, len(ids))}
        ids[ids < 4] = 4
        ids[:, -2] = 2  # the end token, whose state is classified
    elif architecture != "T5EncoderModel":
        inputs["decoder_input_ids"] = target
    return Case(architecture, "T5Config" if architecture.startswith("T5") else "BartConfig", config, inputs)
