"""One buffer for all parameters of a group, so that an update is one kernel call and not one per parameter.

A model of width 128 has some fifty parameters of a few kilobytes; called one by one, the update is all overhead. Every
parameter becomes a view of the buffer. Small parameters lie together and their gradients are gathered into one array;
a parameter of `LARGE` elements or more stays its own segment, because copying its gradient would cost more than a call.
"""

import numpy as np

from kernels.arrays import empty

LARGE = 1 << 16


class Store:
    """Parameters of one dtype as views of `data`, their optimizer `state` by the names of its `buffers`, flat like them, and their
    `steps`; `segments` are the slices that an update passes to the kernel."""

    def __init__(self, parameters, buffers):
        self.parameters = sorted(parameters, key=lambda p: p.size >= LARGE)  # stable: small ones first
        self.dtype = self.parameters[0].dtype
        self.data = empty((sum(p.size for p in self.parameters),), self.dtype)
        self.ranges: list[slice] = []
        self.views: list[np.ndarray] = []
        start = 0
        for p in self.parameters:
            place = slice(start, start + p.size)
            self.data[place] = p._data.reshape(-1)
            p.data = self.data[place].reshape(p.shape)
            self.ranges.append(place)
            self.views.append(p._data)
            start = place.stop
        self.small = sum(p.size < LARGE for p in self.parameters)  # how many come first
        small_size = self.ranges[self.small - 1].stop if self.small else 0
        self.gathered = np.empty(small_size, dtype=self.dtype)
        self.segments = [slice(0, small_size)] if self.small else []
        self.segments += self.ranges[self.small :]
        self.state = {name: empty(self.data.shape, self.dtype, np.zeros) for name in buffers}
        self.steps = [0] * len(self.parameters)

    def forget(self) -> None:
        """The state of parameters that have taken no step yet."""
        self.steps = [0] * len(self.steps)
        for values in self.state.values():
            values.fill(0)

    def in_step(self) -> bool:
        return self.steps.count(self.steps[0]) == len(self.steps)

    def slices(self, flat: np.ndarray) -> list[np.ndarray]:
        return [flat[s] for s in self.segments]

    def gradients(self) -> list[np.ndarray] | None:
        """One flat array per segment, or None where some parameter has no gradient."""
        arrays = []
        for p in self.parameters:
            g = p.grad
            if g is None:
                return None
            arrays.append(g._data.reshape(-1))
        if not self.small:
            return arrays
        np.concatenate(arrays[: self.small], out=self.gathered)
        return [self.gathered, *arrays[self.small :]]

    def adopt(self) -> None:
        """Takes the values of parameters that were given other arrays, and makes them views again."""
        owner = self.data if self.data.base is None else self.data.base
        # a copied optimizer's views are copies too, of which none lies in the buffer
        moved = [i for i, (p, view) in enumerate(zip(self.parameters, self.views)) if p._data is not view or view.base is not owner]
        for p, view in ((self.parameters[i], self.views[i]) for i in moved):
            if p.shape != view.shape:
                raise ValueError(f"a parameter had shape {view.shape} when the optimizer was made and has {p.shape} now; make the "
                                 "optimizer after the change")  # fmt: skip
            if p.dtype != self.dtype:
                raise TypeError(f"a parameter of shape {p.shape} was {self.dtype} when the optimizer was made and is {p.dtype} "
                                "now; make the optimizer after astype")  # fmt: skip
        values = [self.parameters[i]._data.flatten() for i in moved]  # copies: an array may be another part of this very buffer
        for i, value in zip(moved, values):
            p, place = self.parameters[i], self.ranges[i]
            self.data[place] = value
            p.data = self.views[i] = self.data[place].reshape(p.shape)
