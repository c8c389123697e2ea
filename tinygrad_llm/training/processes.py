"""Several processes, on one machine or many, that train one model together: data parallelism over MPI.

    mpirun -n 4 tinygrad-llm train FILE --mpi

Every process holds the whole model and takes its share of each batch's examples. The parts of the loss are sums divided by the
counts of the whole step (`task`), so the gradient of the batch is the sum of the processes' gradients, exact for sequences of
different lengths:

    ∂loss/∂w = Σ_processes ∂(Σ_own examples loss / Σ_all examples count)/∂w

All of them then take the same update. They begin with the first one's weights, data and random state, so only the first one needs
the files; it alone evaluates out loud, writes and keeps checkpoints.
"""

import atexit
from collections.abc import Iterable

import numpy as np


class Alone:
    """One process: nothing to share and nobody to ask."""

    number, count = 0, 1

    def from_first(self, value=None):
        return value

    def share(self, batch: dict) -> dict:
        return batch

    def own(self, random: np.random.Generator) -> np.random.Generator:
        return random

    def total(self, sums: dict) -> dict:
        return sums

    def any(self, flag: bool) -> bool:
        return flag

    def add_gradients(self, parameters: Iterable) -> None:
        """There is only one; the parameters are not even looked for."""


ALONE = Alone()


class Processes:
    """All processes that `mpirun` started, or those of an MPI communicator; this is process `number` of `count`."""

    def __init__(self, world=None):
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError(f"training in several processes needs mpi4py and an MPI library ({error}): "
                              "pip install 'tinygrad-llm[mpi]'") from None  # fmt: skip
        self.mpi, self.world = MPI, world or MPI.COMM_WORLD
        self.number, self.count = self.world.Get_rank(), self.world.Get_size()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None and self.count > 1:  # the others would wait for this one for ever; first it may still say what is wrong
            atexit.register(self.world.Abort, getattr(error, "exit_code", 1))

    def from_first(self, value=None):
        """What the first process has, in all of them."""
        return self.world.bcast(value)

    def share(self, batch: dict) -> dict:
        """This process's examples of a batch."""
        examples = len(batch["input_ids"])
        start, stop = (n * examples // self.count for n in (self.number, self.number + 1))
        return {name: values[start:stop] for name, values in batch.items()}

    def own(self, random: np.random.Generator) -> np.random.Generator:
        """A generator of this process's own, from one that all processes share and that moves on alike in all of them."""
        return np.random.default_rng([int(random.integers(1 << 62)), self.number])

    def total(self, sums: dict) -> dict:
        """The sums of all processes, by name."""
        return dict(zip(sums, self.world.allreduce(np.array(list(sums.values()), np.float64)).tolist()))

    def any(self, flag: bool) -> bool:
        """Whether it is so in some process."""
        return bool(self.world.allreduce(bool(flag), op=self.mpi.LOR))

    def add_gradients(self, parameters: Iterable) -> None:
        """Each gradient becomes the sum over all processes. One that a process has none of counts as zero there."""
        parameters = list(parameters)
        used = np.array([p.grad is not None for p in parameters])
        self.world.Allreduce(self.mpi.IN_PLACE, used, op=self.mpi.LOR)
        for p in (p for p, some in zip(parameters, used) if some):
            total = np.zeros(p.shape, p.dtype) if p.grad is None else np.array(p.grad.data, order="C")
            self.world.Allreduce(self.mpi.IN_PLACE, total)
            p.grad = total
