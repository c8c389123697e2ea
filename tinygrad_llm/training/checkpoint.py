"""Checkpoints that survive being killed at any moment, and from which a run goes on bit for bit.

A checkpoint is a directory in Hugging Face's layout (config.json, model.safetensors, the tokenizer's files) with two more
files: optimizer.safetensors and training.json (step, schedule, random state, data position, record of the run).

It is written as NAME.tmp, flushed to the disk, renamed to NAME.new (from then on it counts), and put in NAME's place.
Whatever moment the process dies, one complete checkpoint is there, and `find` returns it.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from ..text.files import read_json

STATE = "training.json"
ARRAYS = "optimizer.safetensors"


def write(place: Path, fill) -> None:
    """Replaces the directory `place` by what `fill(directory)` writes."""
    place = Path(place)
    fresh = place.with_name(place.name + ".tmp")
    tidy(place)
    fresh.mkdir(parents=True)
    fill(fresh)
    for file in fresh.iterdir():
        flush(file)
    flush(fresh)
    os.rename(fresh, place.with_name(place.name + ".new"))
    flush(place.parent)
    tidy(place)


def tidy(place: Path) -> None:
    """Finishes a replacement that was cut off half way, and removes what it left."""
    fresh, done, old = (place.with_name(place.name + end) for end in (".tmp", ".new", ".old"))
    if done.is_dir():
        if place.is_dir():
            remove(old)
            os.rename(place, old)
        os.rename(done, place)
    remove(fresh)
    if place.is_dir():
        remove(old)


def find(place: Path) -> Path | None:
    """The newest complete checkpoint under this name, or None."""
    place = Path(place)
    candidates = (place.with_name(place.name + end) for end in (".new", "", ".old"))
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def flush(path: Path) -> None:
    """Waits until the file or directory is on the disk; Windows does so for files alone, and where they may be written."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_state(directory: Path, state: dict, optimizer: dict) -> None:
    """training.json and optimizer.safetensors."""
    from ..models import tensor_file  # it fails by OSError where safetensors has an error of its own for a full disk

    arrays = {f"{name}.{i}": a for name, values in optimizer["state"].items() for i, a in enumerate(values)}
    items = [(name, a.shape, lambda a=a: a) for name, a in arrays.items()]
    tensor_file.write(directory / ARRAYS, items, np.result_type(np.float32, *arrays.values()).name, {})
    record = state | {
        "optimizer": {k: v for k, v in optimizer.items() if k != "state"},
        "buffers": {name: len(values) for name, values in optimizer["state"].items()},
    }
    (directory / STATE).write_text(json.dumps(record), "utf-8")


def read_state(directory: Path) -> tuple[dict, dict]:
    """(state, optimizer state) as write_state got them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    state, path = read_info(directory), Path(directory) / ARRAYS
    try:
        arrays = load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, not a whole safetensors file ({error})") from error
    buffers = state.pop("buffers")
    optimizer = state.pop("optimizer")
    optimizer["state"] = {name: [arrays[f"{name}.{i}"] for i in range(n)] for name, n in buffers.items()}
    return state, optimizer


def read_info(directory: Path) -> dict:
    """training.json alone: all but the optimizer's arrays."""
    path = Path(directory) / STATE
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory}: no {STATE} here, so there is no run to resume; expected a directory that `tinygrad-llm train --out` made"
        )
    return read_json(path)


def run_settings(run: Path) -> dict:
    """What a run of `train` remembers of itself: its objective, context and labels; empty for other checkpoints and runs."""
    for place in (find(run / "last"), run):
        if place is not None and (place / STATE).is_file():
            info = read_info(place).get("info", {})  # of a run that was made in Python what its maker wrote there
            known = info.get("settings", {}) | info
            return {k: known[k] for k in ("objective", "labels", "context") if known.get(k) is not None}
    return {}


def publish(source: Path, target: Path) -> None:
    """Puts a checkpoint's model files into `target` itself too, each by a rename, so that `target` can be loaded as a model."""
    for file in sorted(Path(source).iterdir()):
        if file.name in (STATE, ARRAYS):
            continue
        beside = Path(target) / (file.name + ".tmp")
        beside.unlink(missing_ok=True)
        try:
            os.link(file, beside)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, beside)
        os.replace(beside, Path(target) / file.name)
        beside.unlink(missing_ok=True)  # rename leaves both names where they are links to one file


def clear(out: Path) -> None:
    """Removes a run's checkpoints, and first what was published from them: no part of it outlives the list of its names."""
    places = [out / (name + end) for name in ("best", "last") for end in (".tmp", ".new", "", ".old")]
    for name in {file.name for place in places if place.is_dir() for file in place.iterdir()}:
        for end in ("", ".tmp"):
            (out / (name + end)).unlink(missing_ok=True)
    for place in places:
        remove(place)


def model_directory(directory) -> Path:
    """The directory to load a model from: `directory` itself, or the best or last checkpoint of a run in it."""
    directory = Path(directory)
    if not directory.exists():
        raise FileNotFoundError(f"{directory}: no such directory")
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory}: expected a checkpoint directory, got a file")
    for place in (directory, find(directory / "best"), find(directory / "last")):
        if place is not None and (place / "config.json").is_file():
            return place
    raise FileNotFoundError(f"{directory}: no model here (no config.json); expected a run of `tinygrad-llm train` or a checkpoint")
