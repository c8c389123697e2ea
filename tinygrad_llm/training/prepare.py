"""From files to a task: reading, tokenizing, splitting, and the shape of examples that each objective wants."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import text as texts
from ..data import TokenFile, split_ids, split_items, write_tokens
from ..text.corpus import Lines
from .encoder_tasks import ClassificationTask, MaskedTask, OrderTask, PairTask, ReplacedTask
from .families import FRAMES, check_known
from .seq2seq_tasks import InfillingTask, SpanTask, TranslationTask
from .task import CausalTask

#: A text file larger than this is tokenized piece by piece into a file on disk, and read from there.
IN_MEMORY = 64 << 20
TOKENS = "tokens.bin"
HELD_OUT = 0.1

WINDOW_TASKS = {task.objective: task for task in (CausalTask, MaskedTask, ReplacedTask, SpanTask, InfillingTask)}
PAIR_TASKS = {task.objective: task for task in (PairTask, OrderTask)}


@dataclass
class Prepared:
    """A task, the tokenizer it uses, and what is worth saying about the data."""

    task: Any
    tokenizer: Any
    info: dict = field(default_factory=dict)


@dataclass(frozen=True)
class DataChoices:
    """What the user asked for. tokenizer: a kind, or a directory that has one."""

    objective: str
    style: str
    context: int
    tokenizer: str = "chars"
    vocab: int = 1024
    seed: int = 0
    label_smoothing: float = 0.1
    eval_batch: int = 16
    label_names: tuple[str, ...] | None = None  # the classes, in the order that a trained model has them
    whole: bool = False  # evaluate on everything instead of holding a tenth out


def prepare(path, target, choices: DataChoices, *, tokenizer=None, scratch: Path | None = None) -> Prepared:
    """path None: the built-in corpus. target: the file with the translations. scratch: where a token file may go."""
    check_known(choices.objective)
    if choices.objective == "translation":
        return prepare_translation(path, target, choices, tokenizer)
    if target is not None:
        raise ValueError(f"--target is for translation; the objective here is {choices.objective}")
    if choices.objective == "classification":
        return prepare_classification(path, choices, tokenizer)
    if path is not None and scratch is not None and Path(path).is_file() and Path(path).stat().st_size > IN_MEMORY:
        return prepare_large(path, choices, tokenizer, scratch)
    text = texts.builtin_corpus() if path is None else texts.read_text(path)
    tokenizer = tokenizer or make_tokenizer(text, choices)
    if choices.objective in PAIR_TASKS:
        return prepare_pairs(text, choices, tokenizer)
    ids = tokenizer.encode(text)
    train, held = (ids, ids) if choices.whole else split_ids(ids, HELD_OUT)
    task = window_task(train, held, choices, tokenizer)
    return Prepared(task, tokenizer, {"characters": len(text), "tokens": len(ids)})


def make_tokenizer(text, choices: DataChoices):
    """Trained on the text, or read from the directory named instead of a kind; it frames a text as the objective does."""
    tokenizer = chosen_tokenizer(text, choices)
    tokenizer.frame(*FRAMES[choices.objective])
    return tokenizer


def chosen_tokenizer(text, choices: DataChoices):
    if choices.tokenizer not in texts.KINDS and Path(choices.tokenizer).is_dir():
        return texts.load(choices.tokenizer)
    # span corruption of n tokens uses 0.05 n spans and one sentinel more
    sentinels = max(4, choices.context // 16 + 2) if choices.objective == "span_corruption" else 0
    style = "bart" if choices.objective == "text_infilling" else choices.style  # the other encoder-decoders' have no mask
    if choices.objective == "classification" and style == "plain":
        style = "seq2seq"  # GPT classifies <s> text </s> (Radford et al. 2018, section 3.3)
    return texts.train(choices.tokenizer, text, choices.vocab, style=style, sentinels=sentinels)


def task_options(choices: DataChoices, limit: str) -> dict[str, Any]:
    """What every task is told. limit: its argument for how much it is evaluated on, None for everything."""
    return {"seed": choices.seed, "eval_batch": choices.eval_batch} | ({limit: None} if choices.whole else {})


def window_task(train, held, choices: DataChoices, tokenizer):
    kind, options = WINDOW_TASKS[choices.objective], task_options(choices, "eval_windows")
    if kind is CausalTask:
        return CausalTask(train, held, choices.context, **options)
    if kind is InfillingTask:
        options["sentence_ends"] = sentence_ends(tokenizer)
    return kind(train, held, choices.context, tokenizer, **options)


def prepare_large(path, choices: DataChoices, tokenizer, scratch: Path) -> Prepared:
    """A corpus that need not fit in memory: tokens go to OUT/tokens.bin, and are read from there as they are needed."""
    if choices.objective in PAIR_TASKS:
        raise ValueError(
            f"{path}: objective {choices.objective} keeps all sentences in memory and takes at most "
            f"{IN_MEMORY >> 20} MB; use --objective masked, or a part of the file"
        )
    tokenizer = tokenizer or make_tokenizer(Lines(path), choices)
    scratch.mkdir(parents=True, exist_ok=True)
    place = scratch / TOKENS
    total = write_tokens(place, (tokenizer.encode(piece) for piece in Lines(path)), tokenizer.vocab_size)
    task = window_task(*split_ids(TokenFile(place), HELD_OUT), choices, tokenizer)
    return Prepared(task, tokenizer, {"tokens": total})


def prepare_pairs(text: str, choices: DataChoices, tokenizer) -> Prepared:
    encoded = ([tokenizer.encode(s) for s in d] for d in documents(text, least=1 if choices.whole else 4))
    told = ([s for s in d if len(s)] for d in encoded)  # WordPiece has no token for a line of zero-width spaces
    parts = [d for d in told if len(d) >= 2]
    train, held = split(parts, choices, least=2)  # a document, and one to draw a stranger from
    task = PAIR_TASKS[choices.objective](train, held, choices.context, tokenizer, **task_options(choices, "eval_pairs"))
    tokens = sum(len(s) for d in parts for s in d)
    return Prepared(task, tokenizer, {"characters": len(text), "tokens": tokens, "documents": len(parts)})


def split(items: list, choices: DataChoices, least: int = 1):
    """(train, held out), the second with `least` examples or more; the whole twice where it is evaluated on everything."""
    return (items, items) if choices.whole else split_items(items, max(HELD_OUT, least / len(items)), seed=0)


def documents(text: str, longest: int = 30, least: int = 4) -> list[list[str]]:
    """Documents as lists of sentences: paragraphs, joined until they have at least two sentences, cut after `longest`."""
    result: list[list[str]] = []
    current: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        current += [s.strip() for s in re.split(r"(?<=[.!?;:])\s+|\n", paragraph) if s.strip()]
        if len(current) >= 2:
            result += [current[i : i + longest] for i in range(0, len(current), longest)]
            current = []
    usable = [d for d in result if len(d) >= 2]
    if len(usable) < least:
        raise ValueError(f"the text has {len(usable)} paragraphs of two sentences or more; sentence pairs need at least {least}; "
                         "end sentences by full stops or line ends and paragraphs by an empty line, or train with the objective "
                         "masked")  # fmt: skip
    return usable


def sentence_ends(tokenizer) -> list[int]:
    """Ids of the tokens that end a sentence, in vocabularies where . ! ? are tokens of their own."""
    ends = []
    for mark in ".!?\n":
        try:
            ids = tokenizer.encode(mark)
        except ValueError:  # a character model whose text has no such mark
            continue
        if len(ids) == 1 and ids[0] not in tokenizer.special.values():
            ends.append(int(ids[0]))
    return ends


def prepare_translation(path, target, choices: DataChoices, tokenizer) -> Prepared:
    if path is None:
        raise ValueError("translation needs a file of pairs: one SOURCE<tab>TARGET a line, or FILE with --target FILE2")
    pairs = read_pairs(path, target, least=1 if choices.whole else 10)
    tokenizer = tokenizer or make_tokenizer("\n".join(s for pair in pairs for s in pair), choices)
    encoded = [(tokenizer.encode(s), tokenizer.encode(t)) for s, t in pairs]
    train, held = split(encoded, choices)
    options = task_options(choices, "eval_examples")
    task = TranslationTask(train, held, choices.context, tokenizer, label_smoothing=choices.label_smoothing, **options)
    longest = max(max(len(s), len(t)) for s, t in encoded)
    return Prepared(task, tokenizer, {"pairs": len(pairs), "longest": longest})


def read_pairs(path, target=None, least: int = 10) -> list[tuple[str, str]]:
    """(source, target) per line, from one file with a tab or from two files with as many lines."""
    lines = lines_of(path)
    if target is not None:
        others = lines_of(target)
        if len(lines) != len(others):
            raise ValueError(
                f"{path} has {len(lines)} lines and {target} has {len(others)}; they must be translations line by line"
            )
        pairs = list(zip(lines, others))
    else:
        pairs = []
        for number, line in enumerate(lines, 1):
            source, tab, rest = line.partition("\t")
            if line.strip() and not tab:
                raise ValueError(f"{path}, line {number}: expected SOURCE<tab>TARGET; for two files of lines use --target FILE2")
            pairs.append((source, rest.split("\t")[0]))
    pairs = [(s.strip(), t.strip()) for s, t in pairs if s.strip() and t.strip()]
    if len(pairs) < least:
        raise ValueError(f"{path} has {len(pairs)} pairs; at least {least} are needed")
    return pairs


def lines_of(path) -> list[str]:
    """A file's lines. They end at line ends alone: U+2028, U+0085 and others where str.splitlines cuts stand inside of texts."""
    return texts.read_text(path).removesuffix("\n").split("\n")


def in_order(label: str) -> tuple:
    """Numbers before names, and 2 before 10."""
    return (0, int(label), label) if re.fullmatch(r"[-+]?\d+", label) else (1, 0, label)


def prepare_classification(path, choices: DataChoices, tokenizer) -> Prepared:
    if path is None:
        raise ValueError("classification needs a file with one LABEL<tab>TEXT a line")
    rows = []
    for number, line in enumerate(lines_of(path), 1):
        if line.strip() and "\t" not in line:
            raise ValueError(f"{path}, line {number}: expected LABEL<tab>TEXT")
        if line.strip():
            rows.append(line.split("\t", 1))
    known, first = choices.label_names or (), rows[0][0]
    if len(rows) > 1 and first not in known and sum(label == first for label, _ in rows) == 1:
        rows = rows[1:]  # a first line whose label is never seen again is a header
    names = list(known or sorted({label for label, _ in rows}, key=in_order))
    strange = next((label for label, _ in rows if label not in names), None)
    if strange is not None:
        raise ValueError(f"{path}: label {strange!r} is not one of the model's: {', '.join(names)}")
    if not known and not 2 <= len(names) <= max(2, len(rows) // 2):
        raise ValueError(f"{path}: {len(names)} different labels in {len(rows)} lines; expected LABEL<tab>TEXT with a few labels")
    tokenizer = tokenizer or make_tokenizer("\n".join(t for _, t in rows), choices)
    examples = [(tokenizer.encode(t), names.index(label)) for label, t in rows]
    train, held = split(examples, choices)
    task = ClassificationTask(train, held, choices.context, tokenizer, **task_options(choices, "eval_examples"))
    return Prepared(task, tokenizer, {"examples": len(rows), "labels": names})
