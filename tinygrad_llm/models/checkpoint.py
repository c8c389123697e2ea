"""Reading checkpoints in Hugging Face's layout: a directory with config.json and model.safetensors, or shards and their index.

It goes: read the config, build the model without memory, lay the file's names and shapes beside the model's, and only
when all of it fits allocate and read. So every mistake is reported at once and before it can cost memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernels.arrays import empty

from ..autograd import generator
from ..nn import init
from . import registry
from .base import Model, fill
from .config import Config, ConfigError
from .names import Stored
from .tensor_file import CheckpointError, Entry, TensorFile, same

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
GENERATION = "generation_config.json"


def load(
    directory: str | Path, *, dtype: Any = None, architecture: str | None = None, rng: np.random.Generator | None = None,
    **overrides: Any,
) -> Model:  # fmt: skip
    """The model in `directory`; a name that is no directory is looked for on the Hub.

    Half-precision weights become float32, exactly, unless `dtype` says otherwise. `architecture` (a class name such as
    "BertForSequenceClassification") puts another head on the checkpoint's base; what the file lacks of the head, or of the
    pooler below it, gets random values. `overrides` change the config, as in `create`: dropout=0.1, num_labels=3 for a new head,
    which with `architecture` takes the place of one that the file has for another number of labels.
    """
    if dtype is not None and (str(dtype) == "bfloat16" or np.dtype(dtype) not in (np.float32, np.float64)):
        raise ValueError(f"load: dtype {dtype!r} is not supported: models compute in float32 or float64")
    folder = locate(directory)
    cls, config = config_in(folder, architecture)
    with init.skeleton():
        model = cls(config.replace(**overrides) if overrides else config)
    if (folder / GENERATION).is_file():
        model.generation_config = read_json(folder / GENERATION)
    entries = open_weights(folder)
    renamed = architecture is not None and not {"num_labels", "id2label", "label2id"}.isdisjoint(overrides)
    plan = match(model, entries, folder, lenient=architecture is not None, resized=renamed)
    read(model, plan, dtype, rng)
    return model.eval()


def locate(directory: str | Path) -> Path:
    """The local folder; downloads a Hub repository's config and weights if `directory` is its name."""
    folder = Path(directory).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise FileNotFoundError(f"{folder}: no config.json there")
    if folder.exists():
        raise NotADirectoryError(f"{folder}: expected a checkpoint's directory, got a file")
    if folder.is_absolute() or str(directory).count("/") > 1 or str(directory).startswith("."):
        raise FileNotFoundError(f"{directory}: no such directory")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise FileNotFoundError(
            f"{directory}: no such directory; to fetch a model of that name from the Hub, pip install 'tinygrad-llm[hub]'"
        ) from None
    try:
        return Path(snapshot_download(str(directory), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # no network, no such repository, a name that cannot be one
        raise FileNotFoundError(f"{directory}: no such directory, and the Hub did not give it: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


def config_in(folder: Path, architecture: str | None = None) -> tuple[type[Model], Config]:
    """The class and the config that a folder's config.json means; where it leaves open what is tied, the weights decide."""
    values, source = read_json(folder / "config.json"), str(folder / "config.json")
    name = architecture or architecture_of(values, source)
    family, cls = registry.by_architecture(name, source if architecture is None else "architecture", values.get("model_type"))
    config = family.config.from_dict({**values, "architectures": [name]}, source)
    if config.tied_unless_unequal and ((folder / SINGLE).is_file() or (folder / INDEX).is_file()):
        entries = open_weights(folder)
        if set(config.tied_unless_unequal) <= set(entries) and not same(*(entries[n] for n in config.tied_unless_unequal)):
            config = config.replace(tie_word_embeddings=False)
    return cls, config


def architecture_of(values: dict[str, Any], source: str) -> str:
    """The class that config.json names, or the base model of its model_type."""
    listed = values.get("architectures")
    if listed:
        if not isinstance(listed, list) or not isinstance(listed[0], str):
            raise ConfigError(f"{source}: architectures: expected a list of class names, got {listed!r}")
        return listed[0]
    if "model_type" not in values:
        raise ConfigError(
            f"{source}: missing architectures (and model_type); supported model types are {', '.join(registry.model_types())}"
        )
    return registry.by_model_type(values["model_type"], source).models["base"].__name__


def open_weights(folder: Path) -> dict[str, Entry]:
    """All tensors of the folder's safetensors files, by published name."""
    if (folder / SINGLE).is_file():
        return TensorFile(folder / SINGLE).entries()
    if not (folder / INDEX).is_file():
        others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".h5", ".msgpack"))
        hint = f"; found {', '.join(others)}: convert it with transformers' save_pretrained" if others else ""
        raise FileNotFoundError(f"{folder}: neither {SINGLE} nor {INDEX}{hint}")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{folder / INDEX}: missing weight_map")
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{folder / INDEX}: weight_map: expected a file's name for {name}, got {file!r}")
    files: dict[str, dict[str, Entry]] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / INDEX} names {name}, which is not in that folder")
        files[name] = TensorFile(folder / name).entries()
    entries = {}
    for name, file in weight_map.items():
        if name not in files[file]:
            raise CheckpointError(f"{folder / INDEX}: {name} should be in {file}, and is not")
        entries[name] = files[file][name]
    return entries


Plan = dict[str, tuple[Stored, Entry]]


def match(model: Model, entries: dict[str, Entry], folder: Path, lenient: bool = False, resized: bool = False) -> Plan:
    """Which stored tensor goes into which parameter. Raises one error with all that is missing, left over or of another shape.

    lenient: what is missing of the head may be new. resized: so may what the file has of it for another number of labels.
    """
    named = {_modern(name): name for name in entries}
    names, twins = model.weight_names(), aliases(model)
    labelled = labelled_outputs(model) if resized else {}
    plan: Plan = {}
    missing, used = [], set()
    for ours, place in {**names, **{a: Stored(n) for a, n in model.buffers.items()}}.items():
        either = (place.name, *(alias for alias, twin in twins.items() if twin == ours))  # whichever is stored
        found = next((named[c] for name in either for c in spellings(model, name) if c in named), None)
        if found is None:
            if ours not in model.buffers and not (lenient and _may_be_new(model, ours)):
                missing.append(place.name)
            continue
        used.add(found)
        if labelled.get(ours, entries[found].shape) == entries[found].shape:
            plan[ours] = (place, entries[found])
    left = [n for modern, n in named.items() if n not in used and not _harmless(model, twins, modern)]
    if lenient:  # another model's head stays behind, but what lies among the base's parameters must fit
        roots = {_bare(model, place.name).split(".")[0] for ours, place in names.items() if not _in_head(model, ours)}
        left = [n for n in left if _bare(model, n).split(".")[0] in roots]
    if missing or left:
        parts = [f"{word} {some(n)}" for word, n in (("missing", missing), ("left over", left)) if n]
        raise CheckpointError(f"{folder}: the weights do not fit {type(model).__name__}: {'; '.join(parts)}")
    check_shapes(model, plan, folder)
    check_tied(model, twins, plan, named, entries, folder)
    return plan


def some(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    return f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"


def aliases(model: Model) -> dict[str, str]:
    """`model.tied`, less the names that are parameters of their own because the config does not tie them."""
    own = {place.name for place in model.weight_names().values()}
    return {alias: ours for alias, ours in model.tied.items() if alias not in own}


def spellings(model: Model, name: str) -> Iterator[str]:
    """The names under which a checkpoint may hold it: as published, without the base model's prefix, with it."""
    yield name
    prefix = model.base_prefix + "."
    if name.startswith(prefix):
        yield name[len(prefix) :]
    elif not model.holds_base() and model.base_prefix:
        yield prefix + name


def _modern(name: str) -> str:
    """BERT's first checkpoints call a norm's weight and bias gamma and beta."""
    return re.sub(r"(?<=[nN]orm\.)gamma$", "weight", re.sub(r"(?<=[nN]orm\.)beta$", "bias", name))


def _in_head(model: Model, ours: str) -> bool:
    return model.holds_base() and not ours.startswith(model.base_prefix + ".")


def _may_be_new(model: Model, ours: str) -> bool:
    """A head's parameter, or the pooler's: masked language models have none."""
    return _in_head(model, ours) or _bare(model, ours).startswith("pooler.")


def _bare(model: Model, name: str) -> str:
    """The name below the base model."""
    return name.removeprefix(model.base_prefix + ".")


def _harmless(model: Model, twins: dict[str, str], name: str) -> bool:
    """A stored tensor that repeats a tied parameter, or that the family says it does not need."""
    repeats = any(alias in (name, _bare(model, name), f"{model.base_prefix}.{name}") for alias in twins)
    return repeats or any(re.fullmatch(p, name) for p in (*model.unused, r".*position_ids", r".*rotary_emb\.inv_freq"))


def check_tied(
    model: Model, twins: dict[str, str], plan: Plan, named: dict[str, str], entries: dict[str, Entry], folder: Path
) -> None:
    """Raise if a tensor that is one with a parameter in this model, and that is stored nevertheless, is not equal to it."""
    taken = {entry.name for _, entry in plan.values()}
    for alias, ours in twins.items():
        found = next((named[c] for c in spellings(model, alias) if c in named), None)
        if found is None or found in taken or ours not in plan:
            continue
        twin = plan[ours][1]
        if not same(entries[found], twin):
            raise CheckpointError(
                f"{folder}: {found} differs from {twin.name}, but {type(model).__name__} with tie_word_embeddings = "
                f"{model.config.tie_word_embeddings} has one matrix for both"
            )


def check_shapes(model: Model, plan: Plan, folder: Path) -> None:
    """Raise if a stored tensor does not have the shape that the config gives the parameter."""
    parameters = dict(model.named_parameters())
    for ours, (place, entry) in plan.items():
        if entry.dtype not in ("F64", "F32", "F16", "BF16"):
            raise CheckpointError(f"{folder / entry.file.path.name}: {entry.name} has dtype {entry.dtype}, expected floats")
        shape = getattr(model, ours).shape if ours in model.buffers else parameters[ours].shape
        wanted = (shape[0] * place.parts, *shape[1:])
        wanted = wanted[::-1] if place.transposed else wanted
        if entry.shape != wanted:
            labelled = ours in labelled_outputs(model)
            new = f"; architecture={type(model).__name__!r} and num_labels=... make a new head" if labelled else ""
            raise CheckpointError(
                f"{folder / entry.file.path.name}: {entry.name} has shape {entry.shape}, the config asks for {wanted}{new}"
            )


def labelled_outputs(model: Model) -> dict[str, tuple[int, ...]]:
    """The head's parameters that have a row for each label, with their shapes."""
    n = model.config.num_labels
    return {name: p.shape for name, p in model.named_parameters() if _in_head(model, name) and p.shape[:1] == (n,)}


def read(model: Model, plan: Plan, dtype: Any, rng: np.random.Generator | None) -> None:
    """Allocate each parameter and copy its values in; those not in the plan get their family's random values."""
    if dtype is None:
        dtype = np.float64 if any(e.dtype == "F64" for _, e in plan.values()) else np.float32
    model.check_room(dtype)
    for name, value in model.named_parameters():
        array = empty(value.shape, dtype)
        if name in plan:
            _copy(array, *plan[name])
        else:
            model.initialiser(name)(array, generator(rng))
        fill(value, array)
    for name in model.buffers:
        array = np.zeros(getattr(model, name).shape, dtype)
        if name in plan:
            _copy(array, *plan[name])
        setattr(model, name, array)


def _copy(array: np.ndarray, place: Stored, entry: Entry) -> None:
    n = array.shape[0] if array.ndim else 1
    rows = None if place.parts == 1 else (place.part * n, (place.part + 1) * n)
    entry.copy_to(array, place.transposed, rows)
