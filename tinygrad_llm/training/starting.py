"""Runs that begin with trained weights: the folder of a checkpoint stands where a family's name would.

Sizes, vocabulary and tokenizer are the checkpoint's. Trained is the head that it has, or another one on the same base, with new
weights: a masked language model becomes a classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import models, text
from ..models import registry
from ..models.base import longest
from .checkpoint import model_directory, run_settings
from .families import FRAMES, HEADS, RECIPES, check_objective, objectives_of, usual_objective
from .whole_file import class_names


def folder_of(name: str | None) -> Path | None:
    """The checkpoint that a --model means, or None where it is a name; a folder called like one is written ./gpt2."""
    if name is None or name in RECIPES or registry.is_name(name) or not Path(name).is_dir():
        return None
    return model_directory(name).resolve()


@dataclass(frozen=True)
class Start:
    """A checkpoint, and what it is trained on. architecture: the class that gets its base; None where it keeps its head."""

    folder: Path
    family: str
    objective: str
    architecture: str | None
    config: Any
    longest: int

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes of a classifier that goes on as one."""
        names = class_names(self.config) if self.architecture is None else None
        return tuple(names) if names else None

    def tokenizer(self) -> Any:
        """The checkpoint's. Its words must be in the vocabulary; a special token, such as padding added later, need not."""
        tokenizer, known = text.load(self.folder), self.config.vocab_size
        if not set(range(known, tokenizer.vocab_size)) <= set(tokenizer.special.values()):
            raise ValueError(f"{self.folder}: its tokenizer has {tokenizer.vocab_size} tokens, and the model knows {known}")
        if self.objective == "classification" or not len(tokenizer.framed("")):  # a language model's frame is not a classifier's
            tokenizer.frame(*FRAMES[self.objective])
        return tokenizer

    def model(self, labels: int = 0, dropout: float | None = None, rng: Any = None, pad_id: int | None = None) -> Any:
        """The model, with the checkpoint's dropout unless one is given. labels: the classes in the data, 0 where there are none.

        pad_id: what their texts are padded with. A language model's config often names none, and transformers then takes its
        classifier one text at a time.
        """
        changes = {} if dropout is None else {"dropout": dropout}
        if labels and self.architecture is not None:
            changes["num_labels"] = labels
            if self.config.pad_token_id is None and pad_id is not None:
                changes["pad_token_id"] = pad_id
        elif labels and labels != self.config.num_labels:
            raise ValueError(f"{self.folder}: its head knows {self.config.num_labels} classes, and the file has {labels} labels")
        return models.load(self.folder, architecture=self.architecture, rng=rng, **changes)


def start_from(folder: Path, asked: str | None, run: Path | None = None) -> Start:
    """The objective is the one asked for, else that of the `run` which made the checkpoint, else what its head is for."""
    model = registry.skeleton_of(str(folder))
    family, head = registry.place_of(model)
    made_for = run_settings(run).get("objective") if run else None
    objective = asked or made_for or usual_objective(model) or RECIPES[family.name].objective
    check_objective(objective, family.name, family.models)
    kept = objective in objectives_of(head, type(model))
    if HEADS[objective] == "joint" and not kept:
        raise ValueError(f"--objective {objective}: {folder} has no generator; it can be trained on masked or classification")
    architecture = None if kept else family.models[HEADS[objective]].__name__
    return Start(folder, family.name, objective, architecture, model.config, longest(model))
