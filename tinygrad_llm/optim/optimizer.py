"""What the optimizers share: groups with their own options, flat storage, and state that can be saved."""

from collections.abc import Iterable

import numpy as np

import kernels

from .._check import need
from ..autograd import Tensor, mark_written
from ..autograd.elsewhere import OF_AN_OPTIMIZER, no_attribute
from .flat import Store


def clip_scale(norm: float, max_norm: float) -> float:
    """min(1, max_norm / (norm + 1e-6)); a norm that is NaN gives NaN, as in PyTorch."""
    need("max_norm", max_norm, lambda x: x >= 0, "a number of at least 0")
    scale = max_norm / (norm + 1e-6)
    return 1.0 if scale >= 1.0 else float(scale)


def decay_groups(named_parameters, weight_decay: float) -> list[dict]:
    """Two groups: matrices and embeddings decay; biases and norm weights (one axis or none) do not, as in GPT-2 and BERT."""
    named = list(named_parameters)
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in named):
        raise TypeError("named_parameters: expected pairs of a name and a Tensor, such as model.named_parameters()")
    parameters = [p for _, p in named]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


class Optimizer:
    """Base class. `params`: Tensors, or dicts {"params": [...], option: value} that override the defaults.

    A subclass names its state buffers in `buffers`, zeros at first, and updates in `update`. A parameter without a gradient is
    left alone, and its own step count with it, as in PyTorch.

    What `update` gets are flat arrays, in each of which several parameters may lie: right for what is done element by element.
    An update that needs a parameter's shape or norm (Muon, LAMB) says `by_parameter = True`: each comes alone, in its own shape.
    """

    buffers: tuple[str, ...] = ()
    by_parameter = False

    def __init__(self, params, defaults: dict):
        self.defaults, self.param_groups, self.storage = defaults, [], []
        params = as_list(params)
        for group in params if params and isinstance(params[0], dict) else [{"params": params}]:
            self.add_param_group(group)
        if not self.stores():
            raise ValueError("params: nothing to train; expected Tensors that require a gradient, got none")

    def __getattr__(self, name: str):  # called for what is not there
        if hasattr(type(self), name):  # a property that failed: its own error
            return object.__getattribute__(self, name)
        raise no_attribute(self, name, OF_AN_OPTIMIZER)

    def add_param_group(self, group: dict) -> None:
        """One more group {"params": [...], option: value}; the defaults hold for options that it does not name."""
        if "params" not in group:
            raise ValueError(f"params: a group needs 'params' beside its options, got {', '.join(map(repr, group)) or 'nothing'}")
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise ValueError(f"params: unknown option {unknown[0]!r} in a group; expected some of {', '.join(self.defaults)}")
        group = dict(self.defaults, **group)
        group["params"] = unique(as_list(group["params"]))
        check_options(group)
        if "betas" in group:
            group["betas"] = tuple(group["betas"])
        held = {id(p) for g in self.param_groups for p in g["params"]}
        again = [p for p in group["params"] if id(p) in held]
        if again:
            raise ValueError(f"params: a parameter of shape {again[0].shape} is in more than one group")
        self.param_groups.append(group)
        self.storage.append([])
        self.take_in()

    def take_in(self, also=()) -> None:
        """Makes room for parameters that have none yet: those of a new group, those that did not require a gradient before, and
        `also` those that do not."""
        if len(self.param_groups) != len(self.storage):
            raise ValueError(f"param_groups: expected the {len(self.storage)} groups that were given, got "
                             f"{len(self.param_groups)}; add one with add_param_group")  # fmt: skip
        wanted = {id(p) for p in also}
        for group, stores in zip(self.param_groups, self.storage):
            held = {id(p) for store in stores for p in store.parameters}
            new = [p for p in group["params"] if (p.requires_grad or id(p) in wanted) and id(p) not in held]
            stores += [Store(part, self.buffers) for part in by_dtype(new)]

    # -- the step --------------------------------------------------------------------------------------------------------

    def step(self, grad_scale: float = 1.0) -> None:
        """One update from the gradients, each multiplied by grad_scale (an average, say, without a pass of its own)."""
        try:
            scale = float(grad_scale)
        except TypeError as error:  # before anything changes; None would be NaN
            raise TypeError(f"step: expected a number as grad_scale, got a {type(grad_scale).__name__}; a closure is called by "
                            "hand: loss = closure(), then step()") from error  # fmt: skip
        self.apply(self.collect(), scale)

    def clip_and_step(self, max_norm: float) -> float:
        """`clip_grad_norm_` and `step` in one: gradients are gathered once, and scaled on their way into the update.

        Returns the norm before clipping. max_norm 0 clips nothing; a norm that is not finite changes nothing.
        """
        collected = self.collect()
        flat = [a for arrays in collected for a in arrays or ()]
        apart = [p.grad._data for store, arrays in zip(self.stores(), collected) if arrays is None
                 for p in store.parameters if p.grad is not None]  # fmt: skip
        norm = kernels.grad_norm(flat + apart)
        if np.isfinite(norm):
            self.apply(collected, clip_scale(norm, max_norm) if max_norm else 1.0)
        return norm

    def stores(self) -> list:
        return [store for stores in self.storage for store in stores]

    def collect(self) -> list:
        """Per store its gradients as one flat array per segment; None where the parameters must be updated one by one."""
        self.take_in()
        for store in self.stores():
            store.adopt()
        return [store.gradients() if store.in_step() and not self.by_parameter else None for store in self.stores()]

    def apply(self, collected: list, grad_scale: float) -> None:
        """One update of every store by what `collect` gave of it."""
        remaining = iter(collected)
        for group, stores in zip(self.param_groups, self.storage):
            scale = -grad_scale if group.get("maximize") else grad_scale
            for store, gradients in zip(stores, remaining):
                if gradients is None:
                    self.step_apart(store, group, scale)
                else:
                    store.steps = [store.steps[0] + 1] * len(store.steps)
                    state = [store.slices(store.state[name]) for name in self.buffers]
                    self.update(store.slices(store.data), gradients, state, group, store.steps[0], scale)
                mark_written(store.data)

    def step_apart(self, store, group, grad_scale) -> None:
        """Parameter by parameter: the update asks for it, some have no gradient, or they differ in their number of steps."""
        for i, (p, place) in enumerate(zip(store.parameters, store.ranges)):
            if p.grad is None:
                continue
            store.steps[i] += 1
            shape = p.shape if self.by_parameter else (-1,)
            state = [[store.state[name][place].reshape(shape)] for name in self.buffers]
            data, gradient = store.data[place].reshape(shape), p.grad._data.reshape(shape)
            self.update([data], [gradient], state, group, store.steps[i], grad_scale)

    def update(self, params, grads, state, group, step, grad_scale) -> None:
        """Changes `params` and `state` in place: lists of arrays as long as `grads`, `state` one list for each of `buffers`.

        `group` holds the options, `step` counts from 1; the gradients, which are not to be written to, count `grad_scale` times.
        """
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients; with `set_to_none` False those that there are become zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else Tensor(np.zeros_like(p._data))

    # -- saving ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict:
        """{"groups": [options], "held": [whether each of a group's parameters has state], "steps": [...], "state": {name: [one
        array for each that has]}}, parameters in group order."""
        options = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        places = self.places()
        where = [places[id(p)] for g in self.param_groups for p in g["params"] if id(p) in places]
        return {
            "groups": options,
            "held": self.held(),
            "steps": [store.steps[i] for store, i in where],
            "state": {name: [store.state[name][store.ranges[i]].reshape(store.parameters[i].shape).copy() for store, i in where]
                      for name in self.buffers},
        }

    def load_state_dict(self, saved: dict) -> None:
        """Checks everything before it writes anything. Who has state afterwards had it in `saved`, whatever is frozen now."""
        if not {"groups", "steps", "state"} <= set(saved):
            raise ValueError("optimizer state: expected the keys 'groups', 'steps' and 'state' of this library's state_dict, "
                             f"got {', '.join(map(repr, saved)) or 'none'}")  # fmt: skip
        held = saved.get("held", self.held())
        sizes, found = [len(g["params"]) for g in self.param_groups], [len(flags) for flags in held]
        if found != sizes or len(saved["groups"]) != len(sizes):
            raise ValueError(f"optimizer state: expected groups of {sizes} parameters, got groups of {found} parameters")
        owners = [p for g, flags in zip(self.param_groups, held) for p, has in zip(g["params"], flags) if has]
        if len(saved["steps"]) != len(owners):
            raise ValueError(f"optimizer state: expected that of {len(owners)} parameters, got that of {len(saved['steps'])}")
        for name in self.buffers:
            if name not in saved["state"]:
                raise ValueError(f"optimizer state: {name!r} is missing; was it saved by another kind of optimizer?")
            for p, value in zip(owners, saved["state"][name], strict=True):
                if np.shape(value) != p.shape:
                    raise ValueError(f"optimizer state {name!r}: expected shape {p.shape}, got {np.shape(value)}")
        self.take_in(owners)
        for store in self.stores():
            store.forget()
        places = self.places()
        for j, (store, i) in enumerate(places[id(p)] for p in owners):
            store.steps[i] = int(saved["steps"][j])
            for name in self.buffers:
                store.state[name][store.ranges[i]] = np.asarray(saved["state"][name][j]).reshape(-1)
        for group, options in zip(self.param_groups, saved["groups"]):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})

    def held(self) -> list[list[bool]]:
        """Which parameters of each group have state."""
        places = self.places()
        return [[id(p) in places for p in g["params"]] for g in self.param_groups]

    def places(self) -> dict:
        """Of each parameter that has state, by its id: (store, number within it)."""
        self.take_in()
        return {id(p): (store, i) for store in self.stores() for i, p in enumerate(store.parameters)}


def as_list(params) -> list:
    if not isinstance(params, Iterable):
        raise TypeError(f"params: expected leaf Tensors, such as model.parameters(), got a {type(params).__name__}")
    return [params] if isinstance(params, Tensor) else list(params)


def unique(parameters) -> list:
    """Each parameter once: a tied one is met under two names."""
    for p in parameters:
        if not isinstance(p, Tensor) or not p.is_leaf:
            what = f"the result of an operation, of shape {p.shape}" if isinstance(p, Tensor) else f"a {type(p).__name__}"
            raise TypeError(f"params: expected leaf Tensors, such as model.parameters(), got {what}")
    return list({id(p): p for p in parameters}.values())


def by_dtype(parameters) -> list[list]:
    kinds: dict = {}
    for p in parameters:
        kinds.setdefault(p.dtype, []).append(p)
    return list(kinds.values())


def check_options(group: dict) -> None:
    for name in ("lr", "weight_decay", "eps", "momentum", "dampening"):
        if name in group:
            need(name, group[name], lambda x: 0.0 <= x < np.inf, "a finite number of at least 0")
    if "betas" in group:
        need("betas", group["betas"], lambda betas: len(betas) == 2 and all(0.0 <= b < 1.0 for b in betas), "two numbers in [0, 1)")
