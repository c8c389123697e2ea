"""Writing checkpoints in Hugging Face's layout, as `checkpoint` reads them: whole or not at all, one tensor at a time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..nn import init
from . import registry
from .base import Model
from .checkpoint import GENERATION, INDEX, SINGLE, some
from .names import Stored
from .tensor_file import WRITE, Item, width_of, write

SAVED = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")  # what `save` may have written


def save(model: Model, directory: str | Path, dtype: Any = None, shard_bytes: int = 5 * 10**9) -> None:
    """Write config.json and the weights; everything is written beside the target first and renamed into place at the end."""
    model.refuse_if_quantized("save")
    folder = Path(directory)
    name = "bfloat16" if str(dtype) == "bfloat16" else np.dtype(dtype or next(model.parameters()).dtype).name
    if name not in WRITE:
        raise ValueError(f"save: dtype {dtype!r} is not supported; there are {', '.join(WRITE)}")
    folder.mkdir(parents=True, exist_ok=True)
    strangers = warn_of_changes(model, folder)
    with staging_in(folder) as staging:
        (staging / "config.json").write_text(json.dumps(config_dict(model, name), indent=2) + "\n", "utf-8")
        if model.generation_config is not None:
            (staging / GENERATION).write_text(json.dumps(model.generation_config, indent=2) + "\n", "utf-8")
        write_weights(model, staging, name, shard_bytes, strangers)
        (folder / GENERATION).unlink(missing_ok=True)  # another model's, it would decide over this one's config.json
        written = {p.name for p in staging.iterdir()}
        for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".json"):  # weights first, config last
            os.replace(path, folder / path.name)
        for old in folder.iterdir():
            if SAVED.fullmatch(old.name) and old.name not in written:  # what an earlier save in other shards left
                old.unlink()


@contextlib.contextmanager
def staging_in(folder: Path) -> Iterator[Path]:
    """A new folder in it, removed at the end; first what killed processes left of that kind.

    It gets the name by which it may be removed when it is locked already: the lock ends with the process, however that ends.
    """
    for left in folder.glob(".saving-*.tmp"):
        ours = all(SAVED.fullmatch(p.name) or p.name in ("config.json", GENERATION) for p in left.glob("*"))
        if ours and not left.is_symlink() and (handle := lock(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)
    staging = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    if (handle := lock(staging)) is not None:
        staging = staging.rename(staging.with_suffix(".tmp"))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def lock(folder: Path) -> int | None:
    """A handle that holds a folder locked; None where another process does, or the system knows no such locks (Windows)."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            os.close(handle)
    return None


def write_weights(model: Model, folder: Path, dtype: str, shard_bytes: int, strangers: Set[str]) -> None:
    """One file, or shards and their index."""
    items, width = list(stored_items(model, strangers)), width_of(dtype)
    shards = split(items, width, shard_bytes)
    n = len(shards)
    files = [SINGLE] if n == 1 else [f"model-{i + 1:05d}-of-{n:05d}.safetensors" for i in range(n)]
    for file, shard in zip(files, shards):
        write(folder / file, shard, dtype, {"format": "pt"})
    if n > 1:
        total = sum(int(np.prod(shape)) for _, shape, _ in items) * width
        weight_map = {name: file for file, shard in zip(files, shards) for name, _, _ in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def warn_of_changes(model: Model, folder: Path) -> set[str]:
    """Say that `load` will refuse what is saved: parameters that the config does not describe, after surgery on the model.

    Gives the names of those that it does not know at all: an adapter's.
    """
    with init.skeleton():
        described = {name: value.shape for name, value in type(model)(model.config).named_parameters()}
    there = {name: value.shape for name, value in model.named_parameters()}
    differing = sorted(n for n in described | there if described.get(n) != there.get(n))
    if differing:
        warnings.warn(
            f"save: load will refuse {folder}, whose config.json does not describe these parameters of the model: "
            f"{some(differing)}; change model.config to fit them, or read the weights with safetensors",
            stacklevel=4,
        )
    return there.keys() - described.keys()


def config_dict(model: Model, dtype: str) -> dict[str, Any]:
    """The content of config.json."""
    family, _ = registry.place_of(model)
    name = family.architecture_of(model) if family.architecture_of else type(model).__name__
    return {"architectures": [name], **model.config.to_dict(), "dtype": dtype}


def stored_items(model: Model, strangers: Set[str]) -> Iterator[Item]:
    """Every tensor of the published layout: its name, its shape, and how to make it.

    The strangers, which no published model has, are stored under our names as they are; so is what was to be joined with one.
    """
    parameters = dict(model.named_parameters())
    gathered: dict[str, list[tuple[Stored, str]]] = {}
    for ours, place in model.weight_names().items():
        place = Stored(ours) if ours in strangers else place
        gathered.setdefault(place.name, []).append((place, ours))
    for name, members in gathered.items():
        members.sort(key=lambda m: m[0].part)
        place, first = members[0]
        if len(members) < place.parts:
            for _, ours in members:
                yield ours, parameters[ours].shape, lambda value=parameters[ours]: value._data
            continue
        tensors = [parameters[ours] for _, ours in members]
        shape = (parameters[first].shape[0] * place.parts, *parameters[first].shape[1:])
        yield name, shape[::-1] if place.transposed else shape, lambda place=place, tensors=tensors: joined(place, tensors)
    for ours, name in model.buffers.items():
        value = getattr(model, ours)
        yield name, value.shape, lambda value=value: value


def joined(place: Stored, tensors: list[Tensor]) -> np.ndarray:
    """Our parameters, in one array as published."""
    arrays = [value._data for value in tensors]
    whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return whole.T if place.transposed else whole


def split(items: list[Item], width: int, limit: int) -> list[list[Item]]:
    """Shards of at most `limit` bytes each, in order."""
    shards: list[list[Item]] = [[]]
    filled = 0
    for item in items:
        nbytes = int(np.prod(item[1], dtype=np.int64)) * width
        if shards[-1] and filled + nbytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(item)
        filled += nbytes
    return shards
