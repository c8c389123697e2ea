"""The settings of a run of `train`: what was given, what follows from a checkpoint, and what a resumed run has of its own."""

import argparse
import itertools
import math
from pathlib import Path

from tinygrad_llm.cli._flags import as_flags

#: flag -> (type, default, help). None in the parsed result means "not given", so that a resumed run knows what was asked for.
NUMBERS = {
    "layers": (int, 4, "layers (of encoder and decoder each)"),
    "heads": (int, 4, "attention heads"),
    "width": (int, 128, "columns of the hidden states"),
    "context": (int, 64, "tokens that the model sees at once"),
    "batch": (int, 12, "examples per step"),
    "accumulate": (int, 1, "batches per step"),
    "steps": (int, 2000, "steps"),
    "lr": (float, 1e-3, "learning rate after the warm-up; 0.0001 where --model is a folder"),
    "min-lr": (float, 0.1, "learning rate at the end, as a fraction of --lr"),
    "warmup": (int, 100, "steps of warm-up; of a run that is no longer, a tenth"),
    "beta2": (float, 0.99, "Adam's second decay"),
    "weight-decay": (float, 0.1, "decay of matrices"),
    "clip": (float, 1.0, "limit of the gradient's norm; 0 for none"),
    "dropout": (float, 0.0, "dropout; where --model is a folder, that model's own"),
    "label-smoothing": (float, 0.1, "for translation"),
    "vocab": (int, 1024, "vocabulary of the subword tokenizers"),
    "seed": (int, 1337, "seed of weights, data order and dropout"),
    "eval-every": (int, 250, "steps between evaluations; 0 for never"),
    "save-every": (int, 250, "steps between checkpoints"),
    "sample-every": (int, 500, "steps between samples of the model's writing; 0 for never"),
    "patience": (int, 0, "evaluations without progress before the run stops; 0 for never"),
}
#: What a model that is trained already decides itself.
OWN = ("layers", "heads", "width", "vocab", "tokenizer", "init")
#: The learning rate of such a model: a tenth of a new one's, for it has something to lose.
GENTLE = 1e-4
#: What may differ between a run and its continuation besides the trainer's own options of that kind.
CHANGEABLE = ("out", "resume", "force", "json", "recompute", "file", "target", "command")
#: flag -> (the setting that decides, whether the flag does something with that value of it, the flag's value that asks for nothing)
EFFECTS = {
    "vocab": ("tokenizer", lambda kind: kind not in ("chars", "bytes") and not Path(kind).is_dir(), None),
    "label_smoothing": ("objective", lambda objective: objective == "translation", 0),
    "sample_every": ("objective", lambda objective: objective != "classification", 0),
    "min_lr": ("schedule", lambda schedule: schedule in ("cosine", "linear"), 1),
    "beta2": ("optimizer", lambda optimizer: optimizer != "sgd", None),
}


def given(args) -> dict:
    """What was said on the command line."""
    return {k: v for k, v in vars(args).items() if v is not None and k not in ("debug", "mpi")}


def fresh_settings(args) -> dict:
    """The settings of a new run, checked, with a directory that holds no other."""
    from tinygrad_llm.cli import UsageError

    defaults: dict = {k.replace("-", "_"): d for k, (_, d, _) in NUMBERS.items()}
    defaults |= {"model": "gpt2", "schedule": "cosine", "optimizer": "adamw", "precision": "float32"}
    defaults |= {"no_bias": False, "recompute": False}
    defaults |= dict.fromkeys(("objective", "tokenizer", "init", "file", "target"))
    settings = defaults | given(args) | trained_already(args)
    check_numbers(settings)
    check_effects(given(args), settings)
    for name in ("file", "target"):
        if settings[name] and not Path(settings[name]).exists():
            raise FileNotFoundError(f"{settings[name]}: no such file")
    if not settings.get("start") and settings["width"] % settings["heads"]:  # T5 1.1's small one has 512 and 6
        raise UsageError(f"--width {settings['width']} does not divide by --heads {settings['heads']}")
    if args.out is None:
        stem = Path(args.file).name.split(".")[0] if args.file else "python"
        settings["out"] = str(free_directory(Path("runs"), f"{Path(settings.get('start') or settings['model']).name}-{stem}"))
    else:
        check_directory(Path(args.out), args.force)
        if settings.get("start") and Path(settings["start"]).is_relative_to(Path(args.out).resolve()):
            raise UsageError(f"--out {args.out}: the run would replace the model that it begins with; choose another directory")
    return settings


def trained_already(args) -> dict:
    """The settings that follow from a --model which is a folder; none where it is a name."""
    from tinygrad_llm.cli import UsageError, option
    from tinygrad_llm.training.starting import folder_of, start_from

    folder = folder_of(args.model)
    if folder is None:
        return {}
    for name in OWN:
        if getattr(args, name) is not None:
            raise UsageError(f"{option(name)}: the model in {args.model} is trained already and has its own")
    with as_flags():
        start = start_from(folder, args.objective, Path(args.model))
    context = min(NUMBERS["context"][1], start.longest) if args.context is None else args.context
    if context > start.longest:
        raise UsageError(f"--context {context}: the model in {args.model} has {start.longest} positions")
    c = start.config
    sizes = {"layers": c.num_hidden_layers, "heads": c.num_attention_heads, "width": c.hidden_size, "context": context}
    chosen = {"lr": GENTLE if args.lr is None else args.lr, "dropout": args.dropout, "objective": start.objective}
    return {"model": start.family, "start": str(folder), **sizes, **chosen}


def check_numbers(settings: dict) -> None:
    from tinygrad_llm.cli import need

    args = argparse.Namespace(**settings)
    least = {"layers": 1, "heads": 1, "width": 1, "context": 8, "batch": 1, "accumulate": 1, "steps": 1, "vocab": 1}
    for name in (n.replace("-", "_") for n in NUMBERS):
        need(args, name, settings[name] is None or not settings[name] < least.get(name, 0), f"at least {least.get(name, 0)}")
    need(args, "dropout", args.dropout is None or args.dropout < 1, "a probability below 1")
    need(args, "label_smoothing", args.label_smoothing < 1, "a share below 1")
    need(args, "init", args.init is None or 0 < args.init < math.inf, "a finite number above 0")


def check_effects(asked: dict, settings: dict) -> None:
    """A usage error for the first flag of those asked for that would do nothing."""
    from tinygrad_llm.cli import UsageError, option
    from tinygrad_llm.training.families import recipe_for

    with as_flags():
        recipe = recipe_for(settings["model"])[1]
    for name, (decides, works, nothing) in EFFECTS.items():
        value = settings.get(decides) or getattr(recipe, decides, None)
        if asked.get(name, nothing) not in (None, nothing) and not works(value):
            raise UsageError(f"{option(name)} does nothing with {option(decides)} {value}; leave it out")


def free_directory(parent: Path, name: str) -> Path:
    """Makes runs/NAME, or runs/NAME-2, ...: nothing that is there is touched, and no other run gets the same one."""
    for n in itertools.count(1):
        place = parent / (name if n == 1 else f"{name}-{n}")
        try:
            place.mkdir(parents=True)
            break
        except FileExistsError:
            pass
    return place


def check_directory(out: Path, force: bool) -> None:
    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.training.claim import untouched
    from tinygrad_llm.training.log import LOG, is_log

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: this is a file, not a directory")
    if out.is_symlink() and not out.exists():
        raise UsageError(f"--out {out}: a link to {out.readlink()}, which is not there; make that directory, or choose another one")
    if not out.exists() or untouched(out):
        return
    if not is_log(out / LOG):
        raise UsageError(f"--out {out}: the directory holds something else than a run; choose another one")
    if not force:
        raise UsageError(f"--out {out}: a run is there already; --resume goes on with it, --force replaces it")


def resumed_settings(args) -> dict:
    """The settings of the run in --out, with what was given now and may differ."""
    from tinygrad_llm.cli import UsageError, option
    from tinygrad_llm.training import checkpoint, options
    from tinygrad_llm.training.families import recipe_for

    if args.out is None:
        raise UsageError("--resume needs the run's directory: --resume DIR")
    place = checkpoint.find(Path(args.out) / "last")
    if place is None:
        raise FileNotFoundError(f"{args.out}: no run to resume here; expected a directory that `tinygrad-llm train --out` made")
    saved = checkpoint.read_info(place).get("info", {}).get("settings")
    if saved is None:
        raise ValueError(f"{args.out}: this run was made in Python, not by `tinygrad-llm train`; Trainer.resume() goes on with it")
    asked, usual = given(args), recipe_for(saved["model"])[1]
    for name, value in asked.items():
        was = getattr(usual, name, None) if saved.get(name) is None else saved[name]
        if name not in (*CHANGEABLE, *options.CHANGEABLE) and value != was:
            raise UsageError(f"{option(name)} {value}: the run in {args.out} was made with {was}, which a resumed run keeps")
    settings = saved | asked
    check_effects(asked, settings)
    for name, words in (("file", "FILE"), ("target", "--target FILE")):
        if settings[name] and not Path(settings[name]).exists():
            hint = "" if name in asked else f"; name the text again:  tinygrad-llm train {words} --resume {args.out}"
            raise FileNotFoundError(f"{settings[name]}: no such file{hint}")
    return settings
