"""PyTorch's elementwise operations in terms of ours. Each adapter has the signature of the PyTorch function."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import functional as F

from .names import Unsupported, renamed


def scaled(f: Any) -> Any:
    """f(input, other, alpha=1) with alpha on the second operand."""
    return lambda a, b, *, alpha=1: f(a, b if alpha == 1 else tg.multiply(b, alpha))


def div(a: Any, b: Any, *, rounding_mode: Any = None) -> Any:
    quotient = tg.divide(a, b)
    return {None: lambda q: q, "trunc": tg.trunc, "floor": tg.floor}[rounding_mode](quotient)


def div_floor(a: Any, b: Any, *, rounding_mode: Any = None) -> Any:
    return tg.floor_divide(a, b)


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    return tg.clip(x, min, max)


def round_(x: Any, *, decimals: int = 0) -> Any:
    return tg.round(x, decimals=decimals)


def addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + value * a * b


def addcdiv(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + value * (a / b)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    return a + weight * (b - a)


def logit(x: Any, eps: Any = None) -> Any:
    x = x if eps is None else tg.clip(x, eps, 1 - eps)
    return tg.log(x / (1 - x))


def frac(x: Any) -> Any:
    return x - tg.trunc(x)


def nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    return tg.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


def where(x: Any, condition: Any, y: Any) -> Any:
    return tg.where(condition, x, y)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return tg.masked_fill(x, mask, value)


def to_same(x: Any, *args: Any, **kwargs: Any) -> Any:
    kwargs.pop("memory_format", None)
    if args or kwargs:
        raise Unsupported("conversion options")
    return tg.copy(x)


def gelu(x: Any, *, approximate: str = "none") -> Any:
    return F.gelu(x, approximate=approximate)


def prelu(x: Any, weight: Any) -> Any:
    return F.prelu(x, weight if x.ndim else tg.reshape(weight, ()))


def heaviside(a: Any, b: Any) -> Any:
    return tg.heaviside(a, b)


TABLE = {
    "abs": tg.abs, "acos": tg.arccos, "acosh": tg.arccosh, "asin": tg.arcsin, "asinh": tg.arcsinh, "atan": tg.arctan,
    "atanh": tg.arctanh, "atan2": tg.arctan2, "ceil": tg.ceil, "cos": tg.cos, "cosh": tg.cosh, "exp": tg.exp, "exp2": tg.exp2,
    "expm1": tg.expm1, "floor": tg.floor, "trunc": tg.trunc, "frac": frac, "log": tg.log, "log10": tg.log10, "log1p": tg.log1p,
    "log2": tg.log2, "neg": tg.negative, "positive": tg.positive, "reciprocal": tg.reciprocal, "rsqrt": tg.rsqrt,
    "sigmoid": tg.sigmoid, "sign": tg.sign, "sgn": tg.sign, "sin": tg.sin, "sinh": tg.sinh, "sqrt": tg.sqrt,
    "square": tg.square, "tan": tg.tan, "tanh": tg.tanh, "logit": logit, "nan_to_num": nan_to_num, "real": tg.positive,
    "conj": tg.positive, "resolve_conj": tg.positive, "resolve_neg": tg.positive, "conj_physical": tg.positive,
    "deg2rad": lambda x: x * (np.pi / 180), "rad2deg": lambda x: x * (180 / np.pi),
    "round": round_, "round.decimals_0": round_, "round.decimals_3": round_, "round.decimals_neg_3": round_,
    "clone": to_same, "contiguous": to_same,
    "add": scaled(tg.add), "sub": scaled(tg.subtract), "rsub": lambda a, b, *, alpha=1: tg.subtract(b, a if alpha == 1 else tg.multiply(a, alpha)),
    "mul": tg.multiply, "true_divide": tg.divide, "div.no_rounding_mode": div, "div.trunc_rounding": div,
    "div.floor_rounding": div_floor, "floor_divide": tg.floor_divide, "fmod": tg.fmod, "remainder": tg.remainder,
    "pow": tg.power, "float_power": tg.power, "copysign": tg.copysign, "hypot": tg.hypot, "logaddexp": tg.logaddexp,
    "logaddexp2": tg.logaddexp2, "maximum": tg.maximum, "minimum": tg.minimum, "max.binary": tg.maximum,
    "min.binary": tg.minimum, "fmax": tg.fmax, "fmin": tg.fmin, "xlogy": tg.xlogy, "heaviside": heaviside,
    "special.xlog1py": lambda a, b: tg.xlogy(a, b + 1), "special.entr": lambda x: -tg.xlogy(x, x),
    "clamp": clamp, "clamp_max": tg.minimum, "clamp_min": tg.maximum, "lerp": lerp, "addcmul": addcmul, "addcdiv": addcdiv,
    "ldexp": lambda a, b: a * tg.exp2(b), "where": where, "masked_fill": masked_fill,
    "__radd__": lambda a, b: b + a, "__rsub__": lambda a, b: b - a, "__rmul__": lambda a, b: b * a, "__rdiv__": lambda a, b: b / a,
    "__rpow__": lambda a, b: b**a, "__rmod__": lambda a, b: b % a,
    "eq": tg.equal, "ne": tg.not_equal, "lt": tg.less, "le": tg.less_equal, "gt": tg.greater, "ge": tg.greater_equal,
    "logical_and": tg.logical_and, "logical_or": tg.logical_or, "logical_xor": tg.logical_xor, "logical_not": tg.logical_not,
    "isfinite": tg.isfinite, "isinf": tg.isinf, "isnan": tg.isnan, "signbit": tg.signbit, "isclose": tg.isclose,
    "allclose": tg.allclose, "equal": tg.array_equal,
    "isposinf": lambda x: tg.logical_and(tg.isinf(x), x > 0), "isneginf": lambda x: tg.logical_and(tg.isinf(x), x < 0),
    "nn.functional.relu": renamed(F.relu, drop=("inplace",)), "nn.functional.relu6": F.relu6, "nn.functional.gelu": gelu,
    "nn.functional.silu": F.silu, "nn.functional.elu": F.elu, "nn.functional.celu": F.celu, "nn.functional.selu": F.selu,
    "nn.functional.softplus": F.softplus, "nn.functional.logsigmoid": F.logsigmoid, "nn.functional.mish": F.mish,
    "nn.functional.softsign": F.softsign, "nn.functional.tanhshrink": F.tanhshrink, "nn.functional.hardtanh": F.hardtanh,
    "nn.functional.hardsigmoid": F.hardsigmoid, "nn.functional.hardswish": F.hardswish, "nn.functional.hardshrink": F.hardshrink,
    "nn.functional.softshrink": F.softshrink, "nn.functional.leaky_relu": F.leaky_relu, "nn.functional.threshold": F.threshold,
    "nn.functional.prelu": prelu, "nn.functional.glu": renamed(F.glu),
}  # fmt: skip
for name, table in {"erf": "erf", "erfc": "erfc"}.items():
    if hasattr(tg, table):
        TABLE[name] = getattr(tg, table)
