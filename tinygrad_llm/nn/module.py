"""Module: parameters and the function that uses them.

No registration: every Tensor that is an attribute of a module is a parameter of it, every Module a child, also where they
stand in a list, tuple or dict. Plain ndarrays are constants, and what a `forward` keeps where no parameter was (a cache, a
pattern to look at) is a result. So a layer is an `__init__` that sets attributes and a `forward` that uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor, mark_written
from ..autograd.elsewhere import OF_A_MODULE, no_attribute
from ..autograd.node import HookHandle
from ..autograd.state import WATCHED, module_scope
from ..autograd.state import local as engine


class _Structure:
    """How often any module was changed: what was found out about one holds while this number stays."""

    version = 0


structure = _Structure()


class Keys(NamedTuple):
    """What `load_state_dict` did not find, and what it had no parameter for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and models. Subclasses set attributes in `__init__` and define `forward`."""

    training: bool = True
    _name: str = ""  # the attribute under which the parent holds this module
    _forward_hooks: dict[int, Callable[..., Any]] | None = None
    _results: frozenset[str] = frozenset()  # attributes that hold no parameters though they hold Tensors

    def __getattr__(self, name: str) -> Any:  # called for what is not there
        if hasattr(type(self), name):  # a property that failed: its own error
            return object.__getattribute__(self, name)
        raise no_attribute(self, name, OF_A_MODULE)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a call of the module computes; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if engine.mode == WATCHED or engine.lens is not None:
            for name, child in self.named_children():  # one appended to a list knows none yet
                if child._name != name:
                    object.__setattr__(child, "_name", name)
            with module_scope(self._name, self):
                out = self.forward(*args, **kwargs)
        else:
            out = self.forward(*args, **kwargs)
        if self._forward_hooks:
            for hook in tuple(self._forward_hooks.values()):
                seen = hook(self, args, out)
                out = out if seen is None else seen
        return out

    def __setattr__(self, name: str, value: Any) -> None:
        if "." in name:  # a name of named_children, which would become a second child beside the one in the list
            first, *rest = name.split(".")
            place = first + "".join(f"[{part if part.isdigit() else repr(part)}]" for part in rest)
            raise AttributeError(f"{type(self).__name__}: {name!r} is no attribute; what a list holds is set by .{place} = ...")
        held = vars(self).get(name) if isinstance(value, np.ndarray) else None
        if isinstance(held, Tensor) and held.is_leaf and name not in self._results:
            raise TypeError(
                f"{type(self).__name__}: an array in place of the parameter {name!r} would be neither trained nor saved; write "
                f".{name}.data[...] = array, or .{name} = tg.Tensor(array, requires_grad=True)"
            )
        for path, child in _found(Module, name, value):
            object.__setattr__(child, "_name", path)
        if isinstance(value, (Tensor, list, tuple, dict)) and _is_result(self, name, value) != (name in self._results):
            object.__setattr__(self, "_results", self._results ^ {name})
        object.__setattr__(self, name, value)
        structure.version += 1

    # -- what it consists of -----------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for each direct child; the members of a list are "layers.0", "layers.1", and so on."""
        for name, value in vars(self).copy().items():  # another thread may set an attribute meanwhile
            if name != "_forward_hooks":
                yield from _found(Module, name, value)

    def children(self) -> Iterator[Module]:
        """Each direct child."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) for this module and all below; one held in two places comes twice."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once."""
        seen: set[int] = set()
        for _, module in self.named_modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield module

    def named_parameters(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(path, parameter); a tied one comes once, under the first of its names, unless told otherwise."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for attribute, held in vars(module).copy().items():
                for name, value in _found(Tensor, attribute, held) if attribute not in module._results else ():
                    if not value.is_leaf or (id(value) in seen and remove_duplicate):
                        continue
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self) -> Iterator[Tensor]:
        """Each parameter once."""
        for _, value in self.named_parameters():
            yield value

    def num_parameters(self) -> int:
        """How many numbers the parameters hold, tied ones counted once."""
        return sum(p.size for p in self.parameters())

    # -- modes -------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training mode: dropout is on. Returns self."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        structure.version += 1
        return self

    def eval(self) -> Module:
        """Evaluation mode: dropout is off. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Ask (or stop asking) for the gradients of all parameters. Returns self."""
        for value in self.parameters():
            value.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for value in self.parameters():
            value.grad = None

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call `fn` with each module, children first. Returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def astype(self, dtype: Any) -> Module:
        """Turn every parameter into `dtype`, float32 or float64, in place; gradients are forgotten. Returns self."""
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(
                f"astype: parameters are float32 or float64, not {np.dtype(dtype)}; for products in half the bytes: "
                "tg.autocast('bfloat16') around the call"
            )
        for value in self.parameters():
            wanted, value.grad = value.requires_grad, None
            value.requires_grad_(False)
            value.data = value._data.astype(dtype)
            value.requires_grad_(wanted)
        return self

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, if not None, replaces the output."""
        if self._forward_hooks is None:
            object.__setattr__(self, "_forward_hooks", {})
        structure.version += 1
        return HookHandle(self._forward_hooks, hook)  # type: ignore[arg-type]

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Path -> parameter, without history and not copied; a tied parameter stands under each of its names."""
        return {name: value.detach() for name, value in self.named_parameters(remove_duplicate=False)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Keys:
        """Copy the values of `state` (Tensors or ndarrays) into the parameters, keeping the parameters' dtype.

        Checks every name, shape and dtype before it writes anything. `strict=False` allows missing and left-over names, which are
        returned: (missing_keys, unexpected_keys).
        """
        own = dict(self.named_parameters(remove_duplicate=False))
        missing = [name for name in own if name not in state]
        extra = [name for name in state if name not in own]
        if strict and (missing or extra):
            raise KeyError(f"load_state_dict: missing {_few(missing)}; left over {_few(extra)}")
        pairs = [(n, own[n], v._data if isinstance(v, Tensor) else np.asarray(v)) for n, v in state.items() if n in own]
        wrong = [f"{n}: expected {p.shape}, got {v.shape}" for n, p, v in pairs if p.shape != v.shape]
        if wrong:
            raise ValueError(f"load_state_dict: wrong shapes: {'; '.join(wrong[:5])}")
        odd = [f"{n}: {v.dtype} does not go into {p.dtype}" for n, p, v in pairs if not np.can_cast(v.dtype, p.dtype, "same_kind")]
        if odd:
            raise TypeError(f"load_state_dict: wrong dtypes: {'; '.join(odd[:5])}")
        for _, parameter, value in pairs:
            if parameter._data.flags.writeable:
                parameter._data[...] = value
                mark_written(parameter._data)
            else:  # a skeleton's, which owns no memory yet
                parameter.data = np.array(value, parameter.dtype, order="C")
        return Keys(missing, extra)

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        own = ", ".join(f"{n}={v.shape}" for name, value in vars(self).copy().items() for n, v in _found(Tensor, name, value))
        body = "\n  ".join(lines)
        return f"{type(self).__name__}({own}" + (f"\n  {body}\n)" if lines else ")")


def _found(kind: type, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(path, item) for each `kind` in an attribute: itself, or a member of a list, tuple or dict, however deep."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, (kind, list, tuple, dict)):
                yield from _found(kind, f"{name}.{key}", item)


def _is_result(module: Module, name: str, value: Any) -> bool:
    """Whether a Tensor that asks for no gradient comes from the module's own forward and takes no parameter's place.

    Under no_grad nothing else tells a result from a parameter; a running mean, which `__init__` made, stays one.
    """
    leaves = [t for _, t in _found(Tensor, name, value) if t.is_leaf]
    if any(t.requires_grad for t in leaves):
        return False
    if not leaves or name in module._results or any(t.is_leaf for _, t in _found(Tensor, name, vars(module).get(name))):
        return name in module._results
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is module:
            return True
        frame = frame.f_back
    return False


def _few(names: list[str]) -> str:
    return ("nothing" if not names else ", ".join(names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def is_plain(part: Any, kind: type[Module]) -> bool:
    """Whether calling this part is calling `kind.forward` and nothing else, so that a fused operation may take its place."""
    return type(part) is kind and not part._forward_hooks and "forward" not in vars(part)
