"""Sources of training examples with a position that can be saved."""

import numpy as np

from .._check import as_ids, whole


class Windows:
    """Random windows of one long sequence (an ndarray or a TokenFile), as nanoGPT draws them: (B, length) int64."""

    def __init__(self, ids, length: int, seed: int = 0):
        length = whole("length", length, 1)
        if len(ids) < length:
            raise ValueError(f"the text has {len(ids)} tokens, fewer than one window of {length}; "
                             "use a longer text or a shorter context")
        if as_ids(ids[:1]).ndim != 1:
            raise ValueError(f"ids: expected one long sequence, got shape {np.shape(ids)}")
        self.ids, self.length = ids, length
        self.rng = np.random.default_rng(seed)

    def draw(self, batch: int) -> np.ndarray:
        """The next windows, (batch, length) int64."""
        starts = self.rng.integers(0, len(self.ids) - self.length + 1, size=whole("batch", batch, 0))
        if isinstance(self.ids, np.ndarray):
            return as_ids(self.ids[starts[:, None] + np.arange(self.length)])  # (B, length)
        return as_ids(np.stack([self.ids[s : s + self.length] for s in starts]))

    def state_dict(self) -> dict:
        """Where the random generator stands."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from a saved position."""
        self.rng.bit_generator.state = state["rng"]


class Examples:
    """Separate examples in a new random order every epoch. `items` is any sequence; `draw(n)` gives the next n."""

    def __init__(self, items, seed: int = 0):
        if len(items) == 0:
            raise ValueError("items: expected at least one example, got none")
        self.items = items
        self.rng = np.random.default_rng(seed)
        self.epoch, self.position = 0, 0
        self.draw_order()

    def draw(self, batch: int) -> list:
        """The next examples, a list of them; an epoch's last ones and the next one's first may meet in it."""
        return [self.items[i] for i in self.draw_numbers(batch)]

    def draw_numbers(self, batch: int) -> list[int]:
        """The numbers of the next examples; static masking keys its masks by them."""
        numbers: list[int] = []
        batch = whole("batch", batch, 0)
        while len(numbers) < batch:
            if self.position == len(self.order):
                self.draw_order()
                self.epoch, self.position = self.epoch + 1, 0
            part = self.order[self.position : self.position + batch - len(numbers)]
            numbers += part.tolist()
            self.position += len(part)
        return numbers

    def draw_order(self) -> None:
        self.before = self.rng.bit_generator.state  # as it was: all that `state_dict` need say of this epoch's order
        self.order = self.rng.permutation(len(self.items))

    def state_dict(self) -> dict:
        """Epoch, position, and the generator as it was before this epoch's order."""
        return {"before": self.before, "epoch": self.epoch, "position": self.position, "items": len(self.items)}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from a saved position; ValueError where there are more or fewer examples now."""
        if state["items"] != len(self.items):
            raise ValueError(f"the saved run had {state['items']} examples, this one has {len(self.items)}; "
                             "resume with the same data")
        self.epoch, self.position = state["epoch"], state["position"]
        self.rng.bit_generator.state = state["before"]
        self.draw_order()


def by_length(lengths, batch: int, rng=None, *, pool: int = 50) -> list[np.ndarray]:
    """Batches of example numbers whose lengths are close, so that little is padded.

    The examples are shuffled, sorted by length within pools of `pool` batches, and the batches shuffled again; with
    rng None nothing is shuffled and all is one pool, which is what evaluation wants.
    """
    batch, pool = whole("batch", batch, 1), whole("pool", pool, 1)
    lengths = as_ids(lengths)
    if lengths.ndim != 1:
        raise ValueError(f"lengths: expected one number per example, got shape {lengths.shape}")
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    span = len(order) if rng is None else batch * pool
    batches = []
    for start in range(0, len(order), max(span, 1)):
        part = order[start : start + span]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
