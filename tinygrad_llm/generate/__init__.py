"""Text out of a model: greedy, sampled or by beam search; and filling in masks.

    ids = generate(model, prompt_ids, max_new_tokens=50, do_sample=True, temperature=0.8, top_k=40, rng=rng)

`model.generate(...)` is this function; what a model must offer for it stands in `models/base.py`.
"""

import numpy as np

from ..autograd import generator
from ..autograd.elsewhere import OF_GENERATE
from ..models.inputs import as_array, past_length
from ..nn import evaluating
from .beam import beam_search
from .checkpoint_settings import FOLLOWED, ROLES, followed, told, warn_of_the_rest
from .decoding import Decoder, Seq2Seq
from .fill_mask import fill_mask
from .lookup import lookup
from .sampling import sample
from .settings import Settings

__all__ = ["Settings", "fill_mask", "generate"]


def generate(model, input_ids=None, attention_mask=None, max_new_tokens=20, do_sample=False, temperature=1.0, top_k=None,
             top_p=None, min_p=None, repetition_penalty=1.0, num_beams=1, length_penalty=1.0, eos_token_id=None, rng=None,
             stream=None, **more) -> np.ndarray:
    """Ids as `transformers` returns them, int64: prompt and continuation for decoders, decoder ids for encoder-decoders.

    input_ids (B, T), or (T,) for one prompt; attention_mask 0 where a prompt is padded, a decoder's on the left. Without it a
    decoder's pad tokens are padding, while an encoder reads all tokens, as in the model's call. rng: a np.random.Generator for
    do_sample (default: the one that `tg.manual_seed` seeds). stream: called with each step's tokens (B,). eos_token_id: an id or a
    list of them, [] for a text that nothing ends, None for what the checkpoint says.
    more: inputs_embeds, vectors (B, T, D) in place of input_ids: a decoder's result then has the new ids alone, (B, n);
    decoder_input_ids; logits_processor: functions of (ids (B, T), scores (B, V)) that return the next token's scores, -inf
    for what may not come, applied before temperature and what follows it; stop_strings with tokenizer;
    prompt_lookup_num_tokens=n: greedy decoding of one sequence that guesses n tokens at a time from earlier text; the same
    tokens, in fewer runs of the model; num_return_sequences=n: n drawn continuations of each prompt, or its n best beams, one
    below the other, (B · n, ...); max_length, with the prompt or the decoder's first ids, in place of max_new_tokens;
    past_key_values: a decoder's cache that holds the first positions of the prompts, from an earlier call of the model or of
    generate; it is filled in place, with all but the last of the tokens that are returned. And what a
    checkpoint's generation_config.json (without one: config.json) decides unless it is given here: pad_token_id,
    decoder_start_token_id, forced_bos_token_id, forced_eos_token_id, no_repeat_ngram_size, bad_words_ids, min_length,
    min_new_tokens, suppress_tokens, begin_suppress_tokens, early_stopping, encoder_repetition_penalty and
    encoder_no_repeat_ngram_size (of what the encoder reads, or the prompt), exponential_decay_length_penalty (start, factor),
    renormalize_logits; and for do_sample typical_p, epsilon_cutoff, eta_cutoff.
    """
    if not model.can_generate:
        raise TypeError(f"{type(model).__name__} cannot generate: that takes a decoder with a language model's head")
    embeds = more.pop("inputs_embeds", None)
    source = prompt(input_ids) if embeds is None else vectors(embeds, input_ids)
    ids = source if source.ndim == 2 else np.empty((len(source), 0), np.int64)
    cache = more.pop("past_key_values", None)
    said = told(model)
    chosen = followed(said) | more | ({} if eos_token_id is None else {"eos_token_id": eos_token_id})
    out = decoder_ids(model, chosen, ids)
    unseen = 0 if model.is_encoder_decoder else source.shape[1] - ids.shape[1]
    max_new_tokens = new_tokens(chosen, unseen + out.shape[1], max_new_tokens)
    settings = make_settings(chosen, out.shape[1], unseen, max_new_tokens=max_new_tokens, do_sample=do_sample,
                             temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty,
                             num_beams=num_beams, length_penalty=length_penalty, stream=stream, source=ids)
    if settings.prompt_lookup_num_tokens is not None and len(ids) > 1:
        raise ValueError(f"prompt_lookup_num_tokens: expected one prompt, got {len(ids)}; call generate for each of them")
    if settings.prompt_lookup_num_tokens is not None and source.ndim == 3:
        raise ValueError("prompt_lookup_num_tokens: expected input_ids, among which it looks for guesses, got inputs_embeds")
    mask = prompt_mask(source, attention_mask, model, settings)
    check_cache(cache, model, source.shape[1], settings)
    warn_of_the_rest(said, settings)
    rng = generator(rng)
    with evaluating(model):
        if model.is_encoder_decoder:
            decoding = Seq2Seq(model, source, mask, out, settings.max_new_tokens, settings.copies)
        else:
            rows = np.repeat(np.arange(len(ids)), settings.copies)
            decoding = Decoder(model, source[rows], mask[rows], settings.max_new_tokens, cache)
        begun = out if settings.num_beams > 1 else np.repeat(out, settings.copies, axis=0)
        written = search(settings)(decoding, begun, settings, rng)
    if cache is not None:  # a guess that was wrong may stand there still
        cache.truncate(min(cache.length, unseen + written.shape[1] - 1))
    return written


def check_cache(cache, model, length: int, settings: Settings) -> None:
    """A caller's past_key_values must hold a part of the prompts (B, length), and have a row for each continuation."""
    past = past_length(cache)
    if cache is None:
        return
    if model.is_encoder_decoder:
        raise ValueError(f"past_key_values: {type(model).__name__} has an encoder, and each of its texts begins anew")
    if settings.copies > 1:
        raise ValueError("past_key_values: its rows are those of input_ids, each of which is continued once; got num_beams = "
                         f"{settings.num_beams}, num_return_sequences = {settings.num_return_sequences}")  # fmt: skip
    if past >= length:
        raise ValueError(f"past_key_values: it holds {past} positions; expected a prompt of those and more, got {length}")


def search(settings: Settings):
    """The way to the next token that the settings ask for: (decoding, ids, settings, rng) -> ids."""
    if settings.prompt_lookup_num_tokens is not None:
        return lookup
    return sample if settings.num_beams == 1 else beam_search


def new_tokens(chosen: dict, length: int, max_new_tokens: int) -> int:
    """max_new_tokens or, where max_length is given, what that leaves after `length`."""
    total = chosen.pop("max_length", None)
    if total is None:
        return max_new_tokens
    if max_new_tokens != Settings.max_new_tokens:
        raise ValueError(f"max_length {total} and max_new_tokens {max_new_tokens} both say how long the text may be; give one")
    if not isinstance(total, int | np.integer) or total <= length:
        raise ValueError(f"max_length: expected a whole number above {length}, the length of what there is already, got {total!r}")
    return int(total) - length


def make_settings(chosen: dict, length: int, unseen: int, **named) -> Settings:
    """Settings for prompts of so many ids after `unseen` vectors, from the named arguments and what was chosen besides."""
    chosen = {name: value for name, value in chosen.items() if name not in ("bos_token_id", "decoder_start_token_id")}
    apart = ("eos_token_id", "pad_token_id", "min_new_tokens", "stop_strings", "logits_processor")
    eos, pad, least, stops, own = (chosen.pop(name, None) for name in apart)
    known = {*FOLLOWED, "num_return_sequences", "prompt_lookup_num_tokens", "tokenizer"}
    unknown = sorted(set(chosen) - known)
    if unknown:
        names = ", ".join(sorted({*known, *ROLES, "decoder_input_ids", "logits_processor", "max_length", "past_key_values",
                                   "stop_strings"}))  # fmt: skip
        hinted = next((name for name in unknown if name in OF_GENERATE), unknown[0])
        hint = f"here: {OF_GENERATE[hinted]}" if hinted in OF_GENERATE else f"besides the named ones it takes {names}"
        raise TypeError(f"generate: unknown argument {hinted!r}; {hint}")
    for name, value in (("eos_token_id", eos), ("pad_token_id", pad)):
        if value is not None and np.size(value) and np.asarray(value).dtype.kind not in "iu":
            raise TypeError(f"{name}: expected ids, which are whole numbers, got {value!r}")
    eos = () if eos is None else tuple(int(e) for e in np.atleast_1d(eos) if e >= 0)
    if least is not None:  # it replaces min_length, and 0 takes back what the checkpoint says
        chosen["min_length"] = unseen + length + least
    return Settings(eos=eos, pad=int(pad if pad is not None else eos[0] if eos else 0), padding_id=None if pad in eos else pad,
                    begin=length, unseen=unseen, stop_strings=(stops,) if isinstance(stops, str) else tuple(stops or ()),
                    logits_processor=(own,) if callable(own) else tuple(own or ()), **chosen, **named)


def prompt(input_ids, name: str = "input_ids") -> np.ndarray:
    """A caller's ids (B, T), or (T,) for one prompt, as (B, T) int64."""
    ids = as_array(input_ids, name)
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or ids.size == 0:
        raise ValueError(f"{name}: expected integers (batch, length), at least one token; got {ids.dtype} {ids.shape}")
    return np.atleast_2d(ids).astype(np.int64)


def vectors(inputs_embeds, input_ids) -> np.ndarray:
    """A caller's vectors (B, T, D), which take the place of ids."""
    if input_ids is not None:
        raise ValueError("input_ids and inputs_embeds: expected one of them, got both")
    array = as_array(inputs_embeds, "inputs_embeds")
    if array.ndim != 3:
        raise ValueError(f"inputs_embeds: expected shape (batch, positions, width), got {array.shape}")
    return array


def prompt_mask(source: np.ndarray, attention_mask, model, settings: Settings) -> np.ndarray:
    """1 at real tokens. Without a mask, as in transformers, an encoder reads all of them; of a decoder's prompt, pad tokens are
    padding unless the pad id is also an end token."""
    shape = source.shape[:2]
    if attention_mask is None:
        told_apart = source.ndim == 2 and not model.is_encoder_decoder and settings.padding_id is not None
        real = (source != settings.padding_id).astype(np.int64) if told_apart else np.ones(shape, np.int64)
        real[~real.any(axis=1)] = 1  # a prompt of pad tokens alone is read as it stands
        return real
    mask = np.atleast_2d(as_array(attention_mask, "attention_mask"))
    if mask.shape != shape:
        raise ValueError(f"attention_mask: expected the shape of the prompts, {shape}; got {mask.shape}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"attention_mask: expected 0 and 1, 1 = a real token; got values from {mask.min()} to {mask.max()}")
    if not model.is_encoder_decoder and not mask[:, -1].all():
        raise ValueError("attention_mask: a prompt ends in padding; decoders continue the last token, so pad on the left")
    return mask.astype(np.int64)


def decoder_ids(model, chosen: dict, ids: np.ndarray) -> np.ndarray:
    """What the decoder goes on from: the prompt (B, T) or, where that goes to an encoder, the start token and what follows it."""
    given = chosen.pop("decoder_input_ids", None)
    if not model.is_encoder_decoder:
        if given is not None:
            raise ValueError(f"decoder_input_ids: {type(model).__name__} has no encoder; its prompt is input_ids")
        return ids
    token = next((chosen[role] for role in ("decoder_start_token_id", "bos_token_id") if chosen.get(role) is not None), None)
    if token is None:
        raise ValueError("the checkpoint has no decoder_start_token_id; pass it to generate, or add it to the checkpoint's "
                         "generation_config.json (T5 starts from its pad token)")
    if given is None:
        return np.full((len(ids), 1), token, dtype=np.int64)
    given = prompt(given, "decoder_input_ids")
    begun = (given[:, 0] == token).any()
    return given if begun else np.pad(given, ((0, 0), (1, 0)), constant_values=token)  # (B, T) -> (B, 1 + T)
