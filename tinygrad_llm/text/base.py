"""What every tokenizer shares: the roles of special tokens, and how families spell them."""

from typing import Any, Protocol

import numpy as np

#: How each kind of checkpoint spells its special tokens: role -> token, in the order of their ids.
STYLES: dict[str, dict[str, str]] = {
    "plain": {},
    "gpt": {"eos": "<|endoftext|>"},
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "bart": {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"},
    "t5": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
    "seq2seq": {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"},
}

#: The roles of what a family has before a text and after it, by style.
FRAMES: dict[str, tuple[str | None, str | None]] = {
    "bert": ("cls", "sep"), "bart": ("bos", "eos"), "t5": (None, "eos"), "seq2seq": (None, "eos")
}  # fmt: skip

#: Other spellings by which a role is recognised in a vocabulary read from a checkpoint.
KNOWN_SPELLINGS = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<|end_of_text|>", "<|endoftext|>"),
}


class Tokenizer(Protocol):
    """The interface; see the package docstring."""

    kind: str
    vocab_size: int
    special: dict[str, int]

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int64, without special tokens around them."""

    def framed(self, text: str) -> np.ndarray:
        """`encode`, within the special tokens that the files put around a text."""

    def frame(self, first: str | None, last: str | None) -> None:
        """The roles of what `framed` puts before a text and after it from now on, in the files too; None: nothing."""

    def decode(self, ids) -> str:
        """The text of ids, special tokens in their spelling."""

    def save(self, directory) -> None:
        """Write the files that `load` reads into a directory that is there."""


class Hinting:
    """Says of what transformers' tokenizers have, and these have not, how it is written."""

    def __getattr__(self, name: str) -> Any:  # called for what is not there
        from ..autograd.elsewhere import OF_A_TOKENIZER, no_attribute

        raise no_attribute(self, name, OF_A_TOKENIZER)

    def __len__(self) -> int:
        return self.vocab_size

    def __call__(self, *texts: Any, **options: Any) -> Any:
        raise TypeError(
            "a tokenizer is not called: ids = tokenizer.encode(text); of several texts, within their special tokens, "
            "ids, mask = tg.data.pad([tokenizer.framed(text) for text in texts], tokenizer.special['pad'])"
        )


def special_tokens(style: str, sentinels: int = 0) -> dict[str, str]:
    """Role -> token for one style, with `sentinels` span markers (<extra_id_0>, ...) where T5's objective needs them."""
    if style not in STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}; got {style!r}")
    return STYLES[style] | {f"extra_{i}": f"<extra_id_{i}>" for i in range(sentinels)}


def roles_in(vocabulary: dict[str, int]) -> dict[str, int]:
    """The roles that a vocabulary's tokens can play, by their known spellings.

    A missing role borrows its neighbour's token, as the checkpoints do: BART's <s> and </s> serve as [CLS] and [SEP].
    """
    roles = {}
    for role, spellings in KNOWN_SPELLINGS.items():
        found = [vocabulary[s] for s in spellings if s in vocabulary]
        if found:
            roles[role] = found[0]
    count = 0
    while f"<extra_id_{count}>" in vocabulary:
        roles[f"extra_{count}"] = vocabulary[f"<extra_id_{count}>"]
        count += 1
    return with_borrowed_roles(roles)


def sentinels_in(roles: dict[str, int]) -> list[int]:
    """The ids of T5's span markers among a tokenizer's roles, in their order."""
    return [i for role, i in roles.items() if role.startswith("extra_")]


def with_borrowed_roles(roles: dict[str, int]) -> dict[str, int]:
    """Adds cls/sep from bos/eos where a family uses the same token for both."""
    borrowed = {"cls": roles.get("bos"), "sep": roles.get("eos")}
    return roles | {r: i for r, i in borrowed.items() if r not in roles and i is not None}


def check_roles(special: dict[str, int], *roles: str | None) -> None:
    """A role that a tokenizer has no token for frames nothing; one that there is not is a slip of the pen."""
    for role in roles:
        if role is not None and role not in [*special, *KNOWN_SPELLINGS]:
            raise ValueError(f"frame: expected a role, one of {', '.join(KNOWN_SPELLINGS)}, or None; got {role!r:.60}")


def around(special: dict[str, int], first: str | None, last: str | None) -> tuple[list, list]:
    """What stands around one text, $A, and around two, $A and $B, with the tokens that there are: lists of (role or text, type).

    Two texts are framed as the family has it: BERT's second is of another type, and before RoBERTa's </s> stands twice.
    """
    before, after = ([role] if role in special else [] for role in (first, last))
    typed = int(bool(before) and special[before[0]] != special.get("bos"))
    between = after if typed or not before else after * 2
    opened = [(part, 0) for part in (*before, "$A")]
    two = [*opened, *((part, 0) for part in between), *((part, typed) for part in ("$B", *after))]
    return opened + [(part, 0) for part in after], two


def transformers_config(spelt: dict[str, str], typed: bool) -> dict[str, Any]:
    """What tokenizer_config.json says beside a tokenizer.json: special tokens, role -> spelling, and whether two texts have types.

    The class is the general one, because a family's own makes of any vocabulary one of the family's kind.
    """
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", *["token_type_ids"] * typed, "attention_mask"],
            **{f"{role}_token": spelt[role] for role in KNOWN_SPELLINGS if role in spelt}}  # fmt: skip


def encoded(text: str, encoding: str = "utf-8") -> bytes:
    """The bytes of a text; half a surrogate pair, which a command line makes of bytes that are not UTF-8, has none."""
    if not isinstance(text, str):
        got = type(text).__name__
        raise TypeError(f"expected a text (str), got {got}; of several, one at a time: [encode(text) for text in texts]")
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not valid Unicode: half a surrogate pair, U+{ord(text[error.start]):04X}, at character {error.start}; "
            "give the text in UTF-8"
        ) from None
