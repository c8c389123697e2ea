"""A task: where batches come from, and what their loss is.

The loss has parts (BERT's masked tokens and next sentences; ELECTRA's generator and discriminator), each a SUM over what
it counts. Dividing by the counts of the whole step, and not of each micro-batch, is what makes gradient accumulation
exact for sequences of different lengths:

    loss = Σ_parts weight · Σ_micro-batches sum / Σ_micro-batches count
"""

import numpy as np

from .._check import as_ids, whole
from ..autograd import functional as F
from ..data import IGNORE, Examples, Windows


class Task:
    """Base class. `head` is the model head that it trains; `weights` names the loss's parts with their weights,
    the one that predicts tokens first; `frame` the roles of the tokens before a text and after it."""

    objective = ""
    head = ""
    frame: tuple[str | None, str | None] = (None, None)
    weights: dict[str, float] = {"loss": 1.0}
    keys = ("input_ids", "attention_mask", "token_type_ids")  # what of a batch the model's call takes

    def draw(self, batch: int) -> dict[str, np.ndarray]:
        """The next training batch."""
        raise NotImplementedError

    def evaluation(self) -> list[dict[str, np.ndarray]]:
        """The held-out batches, always the same ones."""
        raise NotImplementedError

    def counts(self, batch) -> dict[str, int]:
        """How many predictions each part of the loss has in this batch."""
        return {name: count_labels(labels) for name, labels in self.targets(batch).items()}

    def targets(self, batch) -> dict[str, np.ndarray]:
        """What each part of the loss predicts; -100 does not count."""
        return {"loss": batch["labels"]}

    def sums(self, model, batch) -> dict:
        """The parts of the loss, each a scalar Tensor, summed over its predictions."""
        return {"loss": label_loss(self.logits(model, batch), batch["labels"])}

    def logits(self, model, batch):
        """Scores whose last axis runs over what a label can be."""
        return model(**{k: batch[k] for k in self.keys if k in batch}).logits

    def state_dict(self) -> dict:
        """Where the next batch comes from, for a checkpoint."""
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        """Goes on from there."""
        raise NotImplementedError


class WindowTask(Task):
    """A task on windows of one long text. A subclass turns windows (B, length) into a batch in `make`."""

    shortest = 1  # window to learn from

    def __init__(self, train, held, length: int, *, seed: int = 0, eval_windows: int | None = 64, eval_batch: int = 16):
        if whole("context", length) < self.shortest:
            raise ValueError(f"context: too short, for its windows would have {length} tokens; expected at least {self.shortest}")
        if eval_windows is None:  # all of a text, which may be shorter than a window
            length = max(1, min(length, len(held)))
        self.source = Windows(train, length, seed)
        self.noise = np.random.default_rng([seed, 1])
        self.windows = spread_windows(held, length, eval_windows)
        self.eval_batch = whole("eval_batch", eval_batch, 1)

    def make(self, windows: np.ndarray, rng) -> dict[str, np.ndarray]:
        """A batch of windows (B, length); rng: for what the objective draws."""
        raise NotImplementedError

    def draw(self, batch: int):
        return self.make(self.source.draw(batch), self.noise)

    def evaluation(self):
        rng, step = np.random.default_rng(0), self.eval_batch
        return [self.make(self.windows[i : i + step], rng) for i in range(0, len(self.windows), step)]

    def state_dict(self) -> dict:
        return {"source": self.source.state_dict(), "noise": self.noise.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        self.source.load_state_dict(state["source"])
        self.noise.bit_generator.state = state["noise"]


class ExampleTask(Task):
    """A task on separate examples, such as pairs of sentences. A subclass turns a list of them into a batch in `make`."""

    def __init__(self, train, held, *, seed: int = 0, eval_examples: int | None = 512, eval_batch: int = 32):
        self.source = Examples(train, seed)
        self.held = held if eval_examples is None else held[: whole("eval_examples", eval_examples, 1)]
        self.eval_batch = whole("eval_batch", eval_batch, 1)

    def make(self, examples: list) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def draw(self, batch: int):
        return self.make(self.source.draw(batch))

    def state_dict(self) -> dict:
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.source.load_state_dict(state)


class CausalTask(WindowTask):
    """Next token. A window has one token more than the context, so that every position predicts."""

    objective = "causal"
    head = "causal_lm"
    shortest = 2

    def __init__(self, train, held, context: int, **options):
        super().__init__(train, held, context + 1, **options)

    def make(self, windows, rng):
        return {"input_ids": windows[:, :-1], "labels": windows[:, 1:]}


def spread_windows(ids, length: int, count: int | None) -> np.ndarray:
    """(n, length): up to `count` windows, evenly spread and, where there is room, not overlapping. None: enough to cover all."""
    if len(ids) < length:
        raise ValueError(
            f"the held-out part has {len(ids)} tokens, fewer than one window of {length}; use a longer text or a shorter context"
        )
    room = len(ids) - length
    n = -(-len(ids) // length) if count is None else min(whole("eval_windows", count, 1), len(ids) // length)
    starts = np.linspace(0, room, n).astype(np.int64)
    return np.stack([as_ids(ids[s : s + length]) for s in starts])


def slices(batch: dict[str, np.ndarray], step: int) -> list[dict[str, np.ndarray]]:
    """A batch cut into batches of `step` examples."""
    n = len(batch["input_ids"])
    return [{k: v[i : i + step] for k, v in batch.items()} for i in range(0, n, step)]


def count_labels(labels: np.ndarray) -> int:
    return int(np.count_nonzero(labels != IGNORE))


def label_loss(logits, labels, smoothing: float = 0.0):
    """Σ cross-entropy of logits (..., V) at labels (...); -100 does not count."""
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
