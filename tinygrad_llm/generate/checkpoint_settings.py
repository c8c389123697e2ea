"""What a checkpoint says about generation: its generation_config.json alone or, where there is none, its config.json.

Followed are the ids of its special tokens and what has no argument among generate's named ones. Those keep their own defaults.
"""

import warnings

from .settings import Settings

ROLES = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
FOLLOWED = ("forced_bos_token_id", "forced_eos_token_id", "no_repeat_ngram_size", "bad_words_ids", "min_length", "min_new_tokens",
            "suppress_tokens", "early_stopping", "begin_suppress_tokens", "encoder_repetition_penalty",
            "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "renormalize_logits", "typical_p", "epsilon_cutoff",
            "eta_cutoff")  # fmt: skip
#: generate's named arguments that decide greedy and beam output
NAMED = ("num_beams", "num_return_sequences", "repetition_penalty", "length_penalty")
#: what would change the tokens and is not there -> the value, besides None, with which it does nothing
MISSING = {
    "diversity_penalty": 0, "guidance_scale": 1, "num_beam_groups": 1, "penalty_alpha": 0, "sequence_bias": [], "stop_strings": [],
    "token_healing": False, "watermarking_config": {},
}  # fmt: skip
MISSING_SAMPLED = {"top_h": 1}  # with do_sample only


def told(model) -> dict:
    """All that the checkpoint says, under transformers' names."""
    if model.generation_config is not None:
        return model.generation_config
    return {**model.config.extra, **vars(model.config)}


def followed(said: dict) -> dict:
    """What generate takes over."""
    return {name: said[name] for name in (*ROLES, *FOLLOWED) if said.get(name) is not None}


def warn_of_the_rest(said: dict, settings: Settings) -> None:
    """Says what the checkpoint asks for and does not get. A named argument with another value than its default was chosen."""
    named = {name: getattr(Settings, name) for name in NAMED if getattr(settings, name) == getattr(Settings, name)}
    if settings.num_beams == 1:
        named.pop("length_penalty", None)
    missing = MISSING | (MISSING_SAMPLED if settings.do_sample else {})
    if settings.stop_strings:
        missing.pop("stop_strings")
    for idle, why in ((named, "generate takes that from its arguments alone"), (missing, "generate cannot do that")):
        wishes = [f"{name} = {said[name]!r}" for name in idle if said.get(name) is not None and said[name] != idle[name]]
        if wishes:
            warnings.warn(f"the checkpoint asks for {', '.join(wishes)}: {why}", stacklevel=3)
