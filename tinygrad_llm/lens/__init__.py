"""Study a model: see every value by name, change one, and watch.

names(model)                       what can be looked at; naming.py says what each is
record(model, "*.attn.pattern")    read values, and with gradients=True their gradients
patch(model, {"blocks.3.attn.z[:, :, 4]": 0.0})    replace values while the model runs
patterns, detect_heads, entropy, distance, rollout    what attention heads do
logit_lens, direct_logit_attribution, activation_patching, attribution_patching    what decides a prediction, and where
trace(), profile()                 every operation, forward and backward: shapes, bytes, time
report(model, input_ids=ids)       the page of `tinygrad-llm inspect`; lens.figures draws its parts for papers

In a module of your own `nn.tap("rows", value)` gives a value a name. If its forward takes something else than `input_ids`, its
attribute `dummy_inputs`, {argument: a small array}, says how names are found: by one call with them.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "naming": ("names", "matching"),
    "look": ("record", "patch", "Values"),
    "heads": ("patterns", "previous_token_scores", "duplicate_token_scores", "induction_scores", "repeated_tokens", "detect_heads",
              "entropy", "distance", "rollout"),
    "read": ("logit_lens", "LogitLens", "direct_logit_attribution", "Attribution", "activation_patching", "attribution_patching",
             "depth"),
    "tape": ("trace", "Tape"),
    "profiler": ("profile", "Profile"),
    "page": ("report",),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}


__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "figures":
        return import_module(f"{__name__}.figures")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "figures"]
