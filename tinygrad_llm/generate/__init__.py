"""Text out of a model: greedy, sampled or by beam search; and filling in masks.

    ids = generate(model, prompt_ids, max_new_tokens=50, do_sample=True, temperature=0.8, top_k=40, rng=rng)

`model.generate(...)` is this function; what a model must offer for it stands in `models/base.py`.
"""

import numpy as np

from ..nn import evaluating
from .beam import beam_search
from .decoding import Decoder, Seq2Seq
from .fill_mask import fill_mask
from .lookup import lookup
from .sampling import sample
from .settings import Settings

#: Settings' name -> the config's: only some families have these
FORCED = {"forced_first": "forced_bos", "forced_last": "forced_eos"}

__all__ = ["Settings", "fill_mask", "generate"]


def generate(model, input_ids, attention_mask=None, max_new_tokens=20, do_sample=False, temperature=1.0, top_k=None,
             top_p=None, min_p=None, repetition_penalty=1.0, num_beams=1, length_penalty=1.0, eos_token_id=None, rng=None,
             stream=None, **more) -> np.ndarray:
    """Ids as `transformers` returns them, int64: prompt and continuation for decoders, decoder ids for encoder-decoders.

    input_ids (B, T), or (T,) for one prompt; attention_mask 0 where a prompt is padded, on the left. rng: a
    np.random.Generator for do_sample (default: a fresh one). stream: called with each step's tokens (B,).
    more: pad_token_id, early_stopping, stop_strings with tokenizer, decoder_input_ids, and prompt_lookup_num_tokens=n: greedy
    decoding of one sequence that guesses n tokens at a time from earlier text; the same tokens, in fewer runs of the model.
    """
    ids = prompt(input_ids)
    start = more.pop("decoder_input_ids", None)
    settings = make_settings(model.config, eos_token_id, more, max_new_tokens=max_new_tokens, do_sample=do_sample,
                             temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, stream=stream,
                             repetition_penalty=repetition_penalty, num_beams=num_beams, length_penalty=length_penalty)
    if settings.prompt_lookup_num_tokens is not None and len(ids) > 1:
        raise ValueError(f"prompt_lookup_num_tokens: expected one prompt, got {len(ids)}; call generate for each of them")
    mask = prompt_mask(ids, attention_mask, model, settings)
    rng = np.random.default_rng() if rng is None else rng
    with evaluating(model):
        if model.is_encoder_decoder:
            out = decoder_start(model.config, start, len(ids))
            decoding = Seq2Seq(model, ids, mask, out, settings.max_new_tokens, settings.num_beams)
        else:
            out, rows = ids, np.repeat(np.arange(len(ids)), settings.num_beams)
            decoding = Decoder(model, ids[rows], mask[rows], settings.max_new_tokens)
        return search(settings)(decoding, out, settings, rng)


def search(settings: Settings):
    if settings.prompt_lookup_num_tokens is not None:
        return lookup
    return sample if settings.num_beams == 1 else beam_search


def make_settings(config, eos_token_id, more: dict, **chosen) -> Settings:
    eos = config.eos_token_id if eos_token_id is None else eos_token_id
    eos = () if eos is None else tuple(int(e) for e in np.atleast_1d(eos) if e >= 0)
    pad = more.pop("pad_token_id", None)
    pad = config.pad_token_id if pad is None else pad
    pad = pad if pad is not None else (eos[0] if eos else 0)
    known = {"early_stopping", "prompt_lookup_num_tokens", "stop_strings", "tokenizer"}
    unknown = sorted(set(more) - known)
    if unknown:
        raise TypeError(f"generate: unknown argument {unknown[0]!r}; besides the named ones it takes pad_token_id, "
                        f"decoder_input_ids, {', '.join(sorted(known))}")
    stops = more.pop("stop_strings", None) or ()
    more["stop_strings"] = (stops,) if isinstance(stops, str) else tuple(stops)
    forced = {key: getattr(config, f"{name}_token_id", None) for key, name in FORCED.items()}
    return Settings(eos=eos, pad=int(pad), **forced, **chosen, **more)


def prompt(input_ids) -> np.ndarray:
    ids = np.asarray(getattr(input_ids, "data", input_ids) if not isinstance(input_ids, np.ndarray) else input_ids)
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or ids.size == 0:
        raise ValueError(f"input_ids: expected integers (batch, length), at least one token; got {ids.dtype} {ids.shape}")
    return np.atleast_2d(ids).astype(np.int64)


def prompt_mask(ids: np.ndarray, attention_mask, model, settings: Settings) -> np.ndarray:
    """1 at real tokens; without a mask, pad tokens are padding unless the pad id is also an end token, as in transformers."""
    if attention_mask is None:
        hidden = model.config.pad_token_id is not None and settings.pad not in settings.eos
        return (ids != settings.pad).astype(np.int64) if hidden and (ids != settings.pad).any() else np.ones_like(ids)
    mask = np.atleast_2d(np.asarray(attention_mask)).astype(np.int64)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask: expected the shape of input_ids, {ids.shape}; got {mask.shape}")
    if not model.is_encoder_decoder and not mask[:, -1].all():
        raise ValueError("attention_mask: a prompt ends in padding; decoders continue the last token, so pad on the left")
    return mask


def decoder_start(config, start, batch: int) -> np.ndarray:
    if start is not None:
        return prompt(start)
    token = config.decoder_start_token_id
    if token is None:
        token = config.bos_token_id
    if token is None:
        raise ValueError("the model's config has no decoder_start_token_id; pass decoder_input_ids")
    return np.full((batch, 1), token, dtype=np.int64)
