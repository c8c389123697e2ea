"""einsum: any expression, with ellipsis, repeated letters and an implicit output."""

from __future__ import annotations

import math
import string

import numpy as np

from .op import op
from .ops_common import along, derived, value
from .ops_index import scatter_to_zeros
from .ops_shape import as_tensor

OPTIMIZE_ABOVE = 4096  # multiply-adds from which looking for a good order of products pays


@op(name="einsum")
def _einsum(*operands, subscripts):
    """y[output letters] = Σ over the other letters of the product of the operands; subscripts "ij,jk->ik", no ellipsis"""
    return _contract(subscripts, *operands), (operands, subscripts)

@_einsum.grad
def _(g, operands, subscripts, *, needs):
    """Each operand's gradient is an einsum of g with the other operands, spread over letters that stood in it alone."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    sizes = _sizes(terms, [x.shape for x in operands])
    return tuple(
        _operand_gradient(g, operands, terms, output, sizes, i) if wanted else None for i, wanted in enumerate(needs)
    )


def _operand_gradient(g, operands, terms, output, sizes, i):
    others = [x for j, x in enumerate(operands) if j != i]
    other_terms = [t for j, t in enumerate(terms) if j != i]
    letters = list(dict.fromkeys(terms[i]))
    known = set(output).union(*other_terms)
    reached = "".join(c for c in letters if c in known)
    d = _contract(",".join([output, *other_terms]) + "->" + reached, g, *others)
    d = d.reshape(tuple(d.shape[reached.index(c)] if c in known else 1 for c in letters))
    d = np.broadcast_to(d, tuple(sizes[c] for c in letters))
    if len(letters) == len(terms[i]):
        return d
    places = np.ix_(*(np.arange(sizes[c]) for c in letters))  # a letter that stands twice: only the diagonal
    index = tuple(places[letters.index(c)] for c in terms[i])
    return along(scatter_to_zeros, d, shape=tuple(sizes[c] for c in terms[i]), index=index)


def _contract(subscripts, *operands):
    """np.einsum, by matrix products where there is work enough."""
    sizes = _sizes(subscripts.split("->")[0].split(","), [x.shape for x in operands])
    work = math.prod(sizes.values())
    return np.einsum(subscripts, *operands, optimize=work > OPTIMIZE_ABOVE)


def _sizes(terms, shapes):
    sizes = {}
    for term, shape in zip(terms, shapes):
        for c, n in zip(term, shape):
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    return sizes


@derived(np.einsum)
def einsum(subscripts, *operands, optimize=None):
    """np.einsum, by letters ("bij,bjk->bik", "...ij->...ji", "ii") or by lists (a, [0, 1], b, [1, 2], [0, 2])."""
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    first = next((x for x in operands if hasattr(x, "dtype")), None)
    operands = tuple(as_tensor(x, first) if isinstance(x, (bool, int, float)) else x for x in operands)
    ndims = [np.ndim(value(x)) for x in operands]
    return _einsum(*operands, subscripts=explicit(subscripts, ndims))


def _from_lists(args):
    """The form with lists of integers, in letters."""
    alphabet = string.ascii_letters
    for a in (a for axes in (*args[1::2], args[-1] if len(args) % 2 else ()) for a in axes if a is not Ellipsis):
        if not 0 <= a < len(alphabet):
            raise ValueError(f"einsum: expected axes of 0 to {len(alphabet) - 1}, got {a}")
    def spell(axes): return "".join("..." if a is Ellipsis else alphabet[a] for a in axes)
    terms = [spell(axes) for axes in args[1::2]]
    text = ",".join(terms) + ("->" + spell(args[-1]) if len(args) % 2 else "")
    return text, args[: len(args) // 2 * 2 : 2]


def explicit(subscripts: str, ndims: list[int]) -> str:
    """The expression with its output written out and the ellipsis spelled in letters: "...i->..." becomes "Ai->A"."""
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(ndims)}")
    if not set(text) <= set(string.ascii_letters + ".,->"):
        raise ValueError(f"einsum: {subscripts!r} holds something that is neither letter, comma, arrow nor ellipsis")
    free = [c for c in string.ascii_uppercase + string.ascii_lowercase if c not in text]
    hidden = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims)]
    for term, n, left in zip(terms, ndims, hidden):
        if left < 0 or (left and "..." not in term):
            raise ValueError(f"einsum: {term!r} names {n - left} axes, its operand has {n}")
    most = max([h for t, h in zip(terms, hidden) if "..." in t], default=0)
    if most > len(free):
        raise ValueError(f"einsum: {subscripts!r} needs more letters than there are")
    dots = "".join(free[:most])
    spelled = [t.replace("...", dots[most - h :]) for t, h in zip(terms, hidden)]
    if arrow:
        output = output.replace("...", dots)
    else:
        counts = "".join(t.replace("...", "") for t in terms)
        output = dots + "".join(sorted(c for c in set(counts) if counts.count(c) == 1))
    if len(set(output)) != len(output):
        raise ValueError(f"einsum: a letter stands twice in the output {output!r}")
    missing = set(output) - set("".join(spelled))
    if missing:
        raise ValueError(f"einsum: the output of {subscripts!r} names {sorted(missing)}, which no operand has")
    return ",".join(spelled) + "->" + output
