"""What a failed gradient check says: one exception, with the facts as attributes and a text a person can act on."""

from __future__ import annotations

import numpy as np

#: what can be wrong, in a word; `GradcheckError.kind` is one of these
KINDS = {
    "mismatch": "a gradient that differs from the measured one",
    "missing": "None where the function does depend on the input",
    "nan": "NaN or Inf",
    "shape": "a gradient of another shape than its input",
    "dtype": "a gradient or output of another dtype than its input",
    "count": "another number of gradients than inputs",
    "precision": "float64 that was computed in float32",
    "nondeterministic": "two runs on the same inputs that differ",
    "state": "a result that depends on earlier calls",
    "mutated": "an input, incoming gradient or output overwritten in place",
    "nonlinear": "a backward that is not linear in the incoming gradient",
    "noise": "a function too noisy to be measured",
    "inputs": "inputs that cannot be checked",
    "raised": "a gradient rule that raised an exception",
}


class GradcheckError(AssertionError):
    """A gradient check failed.

    kind        one of `KINDS`
    input       position of the input whose gradient is wrong, None where no single one is
    index       index of the element within that input
    output, output_index   the same for the output
    analytic, numeric, difference   the two values and their distance
    op          name of the operation to blame, where it could be found
    """

    def __init__(
        self, kind: str, message: str, *, input: int | None = None, index: tuple[int, ...] | None = None,
        output: int | None = None, output_index: tuple[int, ...] | None = None, analytic: float | None = None,
        numeric: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        assert kind in KINDS, kind
        self.kind, self.message = kind, message
        self.input, self.index, self.output, self.output_index = input, index, output, output_index
        self.analytic, self.numeric = analytic, numeric
        self.op: str | None = None  # see `blame`

    @property
    def difference(self) -> float | None:
        """|claimed - measured|; None where an error is not of one element."""
        return None if self.analytic is None or self.numeric is None else abs(self.analytic - self.numeric)

    def blame(self, op: str | None, text: str) -> GradcheckError:
        """This error with the op to blame added to its text."""
        self.op = op
        return self.add(text)

    def add(self, text: str) -> GradcheckError:
        """This error with one more line."""
        self.message += f"\n  {text}"
        self.args = (self.message,)
        return self


def place(index: tuple[int, ...]) -> str:
    """An index as one writes it: `[2, 1]`; nothing for a 0-dimensional array."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()


def pattern(analytic: np.ndarray, numeric: np.ndarray) -> str:
    """What the wrong gradient of one input looks like, when it looks like something; else the empty string."""
    a, n = np.asarray(analytic, float), np.asarray(numeric, float)
    scale = np.max(np.abs(n), initial=0.0)
    if not np.isfinite(a).all() or not np.isfinite(n).all():
        return ""
    if scale == 0:
        return "nothing of this input moves this output: does the function use the array that it is given, not one kept elsewhere?"
    close = lambda x, y: x.shape == y.shape and bool(np.all(np.abs(x - y) <= 1e-5 * scale))
    big = np.abs(n) > 1e-3 * scale
    ratios = a[big] / n[big]
    ratio = float(np.median(ratios))
    if np.max(np.abs(a)) == 0:
        return "every element of it is zero"
    spread = min(1e-4 * abs(ratio), 0.1 * abs(ratio - 1))  # of ratios that are not told apart from one another, nor are they 1
    if big.sum() > 1 and np.all(np.abs(ratios - ratio) < spread) and close(a, ratio * n):
        if abs(ratio + 1) < 1e-6:
            return "every element has the wrong sign"
        return f"every element is {ratio:.6g} times what it should be"
    if not close(a, n):  # nearly right: another order or sign would be no nearer
        if a.ndim >= 2 and close(np.swapaxes(a, -1, -2), n):
            return "it is the transpose of what it should be"
        for axis in range(a.ndim):
            if a.shape[axis] > 1 and close(np.flip(a, axis), n):
                return f"it is flipped along axis {axis}"
        if a.size > 1 and close(np.abs(a), np.abs(n)):
            return "some elements have the wrong sign, their size is right"
    wrong = np.abs(a - n) > 1e-4 * np.maximum(np.abs(n), 1e-3 * scale)
    return f"{int(wrong.sum())} of {wrong.size} elements are wrong" if wrong.size > 1 and wrong.any() else ""
