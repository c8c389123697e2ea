"""`tinygrad-llm train [FILE]`: from a text file to a model that writes."""

import contextlib
import errno
import sys
from pathlib import Path

from tinygrad_llm.cli._flags import as_flags
from tinygrad_llm.cli._json import HELP, check_json, write_json
from tinygrad_llm.cli._train_settings import NUMBERS, fresh_settings, resumed_settings

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Kernels that a run asks for last: on a cold start a second process compiles them while the first step's are compiled.
LATER = (
    "attention.warmup_backward", "cross_entropy.warmup", "attention_cached.warmup", "matmul_call.warmup_few_rows", "chain.warmup",
)  # fmt: skip


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "train",
        help="train a model on a text file, or on a built-in corpus",
        description="Trains on FILE (UTF-8 text, also .gz), or on Python's own library where none is given.",
        epilog="Ctrl-C or SIGTERM ends a run after the step it is at and saves it; a second Ctrl-C ends it at once. --resume goes "
        "on from what was saved last, and says so if FILE holds another text than before.",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="text; for translation SOURCE<tab>TARGET lines; for classification LABEL<tab>TEXT"
    )
    parser.add_argument("--target", metavar="FILE", help="for translation: the other language, line by line")
    parser.add_argument(
        "--model",
        metavar="FAMILY-or-DIR",
        help="gpt2 (default), gpt, gpt3, llama, bert, roberta, albert, electra, bart, t5, transformer; or the folder of a run or "
        "checkpoint, whose weights, sizes and tokenizer are the start (./gpt2 where it is called like a family)",
    )
    parser.add_argument(
        "--objective",
        help="the family's own by default: causal, masked, masked+next_sentence, masked+sentence_order, "
        "replaced_token, text_infilling, span_corruption, translation, classification",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="KIND",
        help="chars (default), bytes, bpe, wordpiece, unigram, or a directory that has one",
    )
    for name, (kind, default, text) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=f"{text} (default {default})")
    parser.add_argument(
        "--init",
        type=float,
        metavar="X",
        help="standard deviation of the weights at the start (default sqrt(2 / (5 width)); GPT-2's at its own width is 0.02)",
    )
    parser.add_argument(
        "--schedule", choices=["cosine", "linear", "inverse_sqrt", "constant"], help="of the learning rate (default cosine)"
    )
    parser.add_argument("--optimizer", choices=["adamw", "adam", "sgd"], help="(default adamw)")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        help="of products in forward and backward; weights and optimizer stay float32 (default float32)",
    )
    parser.add_argument("--no-bias", action="store_true", default=None, help="keep all biases at zero, as nanoGPT does")
    parser.add_argument(
        "--recompute",
        action="store_true",
        default=None,
        help="keep the blocks' inputs alone for backward and run each block again: less memory, a third more work, the same bits",
    )
    parser.add_argument("--out", metavar="DIR", help="where checkpoints, log and report go (default: a new directory under runs/)")
    parser.add_argument("--resume", nargs="?", const=True, metavar="DIR", help="go on with the run in DIR, or in --out")
    parser.add_argument("--force", action="store_true", help="replace the run that --out holds")
    parser.add_argument(
        "--mpi", action="store_true", help="share every batch among the processes that `mpirun -n N tinygrad-llm train ...` starts"
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help=HELP)


def run(args) -> int:
    from tinygrad_llm.training.processes import ALONE, Processes

    with Processes() if args.mpi else contextlib.nullcontext(ALONE) as processes:
        if args.mpi and processes.count == 1:
            say("--mpi: this process is alone; `mpirun -n N tinygrad-llm train ... --mpi` starts several")
        return follow(processes) if processes.number else lead(args, processes)


def follow(processes) -> int:
    """What all processes but the first do: they get from it what is trained."""
    from tinygrad_llm.training import Trainer

    try:
        Trainer(*processes.from_first(), processes=processes).run()
    except FloatingPointError:  # the first process has the same gradient, and says so
        return 1
    return 0


def lead(args, processes) -> int:
    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.training.claim import claimed

    check_json(args.json)
    if args.resume and args.resume is not True:
        if args.out:
            raise UsageError("give the directory once: --resume DIR, or --resume with --out DIR")
        args.out = args.resume
    settings = resumed_settings(args) if args.resume else fresh_settings(args)
    out = Path(settings["out"])
    with claimed(out, made=args.out is None), as_flags((*NUMBERS, "tokenizer")):
        result = train(settings, out, bool(args.resume), processes)
    if args.json:
        write_json(result, args.json)
    return 1 if result["interrupted"] else 0


def train(settings: dict, out: Path, resume: bool, processes) -> dict:
    import kernels
    from tinygrad_llm.training import Trainer, unigram_loss
    from tinygrad_llm.training.progress import Progress

    kernels.compile_beside(*LATER)
    options = make_options(settings)
    prepared, model = build(settings, out, resume)
    check_step(model, options, prepared.task.objective, settings["context"], processes)
    info = remembered(settings, prepared)
    trainer = Trainer(model, prepared.task, options, out=out, tokenizer=prepared.tokenizer, progress=Progress(options.steps),
                      sampler=show_sample, processes=processes, info=info)  # fmt: skip
    if resume:
        before = info | trainer.resume()
        if another_text(before, info):
            say(f"the text is another one than before ({in_words(before['text'])}); the run goes on with what is there now")
    else:  # what --force replaces goes when nothing can be wrong with the new run's data any more
        clear(out)
    say(describe(settings, model, prepared, trainer, out))
    if trainer.step >= options.steps:
        say(f"there is nothing left to do: the run has taken {trainer.step} steps; --steps N goes on to N")
    elif trainer.out_of_patience():
        say(f"there is nothing left to do: {stopped_early(trainer)}; a larger --patience goes on, 0 to the last step")
    processes.from_first((model, prepared.task, options))
    begun = trainer.step
    try:
        result = trainer.run()
        if begun < trainer.step < options.steps and result["stopped_early"]:
            say(stopped_early(trainer))
        result |= {"out": str(out), "parameters": model.num_parameters(), "model": settings["model"],
                   "objective": prepared.task.objective,
                   "unigram_loss": unigram_loss(prepared.task, prepared.task.evaluation())}  # fmt: skip
        try:
            if not result["interrupted"]:
                finish(trainer, result, out)
        except KeyboardInterrupt:  # all steps are done and saved; what is left is the report
            result["interrupted"] = True
        if result["interrupted"]:
            say(f"stopped at step {trainer.step}, saved; go on with:  tinygrad-llm train --resume {out}")
    except OSError as error:
        raise (full_disk(error, out) if error.errno in FULL else error) from error
    except FloatingPointError as error:
        raise diverged(error, out, spoilt=resume and trainer.step == begun) from error
    return result


def stopped_early(trainer) -> str:
    return f"the run stopped at step {trainer.step} for want of progress (--patience {trainer.options.patience})"


def remembered(settings: dict, prepared) -> dict:
    """What the run's checkpoints say of it."""
    info = {"settings": keepable(settings), "objective": prepared.task.objective, "text": sizes_of(prepared),
            "checksums": checksums(settings)}  # fmt: skip
    if "labels" in prepared.info:
        info["labels"] = prepared.info["labels"]
    return info


def clear(out: Path) -> None:
    """Removes what an earlier run left: its checkpoints, and what it reported."""
    from tinygrad_llm.training import checkpoint, report

    checkpoint.clear(out)
    for name in (report.PAGE, report.PICTURE):
        (out / name).unlink(missing_ok=True)


def full_disk(error: OSError, out: Path) -> OSError:
    """The same error, with what to do about it: what was saved before is still good."""
    from tinygrad_llm.training import checkpoint

    saved = checkpoint.find(out / "last") is not None
    further = f"go on with:  tinygrad-llm train --resume {out}" if saved else "start again with --force"
    return OSError(f"{out}: {error.strerror}; nothing more could be saved. Make room, then {further}")


def diverged(error: FloatingPointError, out: Path, spoilt: bool) -> FloatingPointError:
    """The same error, with what to do about it. spoilt: the checkpoint that the run began with allows not one step."""
    from tinygrad_llm.training import checkpoint

    place = checkpoint.find(out / "last")
    if place is None or spoilt:
        why = "nothing was saved before" if place is None else "the checkpoint before it is spoilt already"
        return FloatingPointError(f"{error}; {why}. Start again with a smaller --lr and --force")
    step = checkpoint.read_info(place)["step"]
    return FloatingPointError(f"{error}. Go on from step {step} with a smaller rate:  tinygrad-llm train --resume {out} --lr X")


def build(settings: dict, out: Path, resume: bool):
    """(prepared data, model)."""
    from tinygrad_llm import models
    from tinygrad_llm.training import checkpoint
    from tinygrad_llm.training.families import check_objective, recipe_for
    from tinygrad_llm.training.starting import start_from

    family, recipe = recipe_for(settings["model"])
    objective = settings["objective"] or recipe.objective
    check_objective(objective, family, models.families[family].models)
    start = None
    if settings.get("start"):
        start = start_from(checkpoint.find(out / "last") if resume else Path(settings["start"]), objective)
    prepared = read_data(settings, recipe, objective, start, out, resume)
    return prepared, make_model(settings, recipe, objective, start, prepared)


def read_data(settings: dict, recipe, objective: str, start, out: Path, resume: bool):
    """The texts as a task, with the tokenizer of the checkpoint that the run begins with or goes on from, else a new one."""
    from tinygrad_llm import text
    from tinygrad_llm.training import checkpoint
    from tinygrad_llm.training.families import FRAMES
    from tinygrad_llm.training.prepare import DataChoices, prepare

    choices = DataChoices(
        objective=objective,
        style=recipe.style,
        context=settings["context"],
        tokenizer=settings["tokenizer"] or recipe.tokenizer,
        vocab=settings["vocab"],
        seed=settings["seed"],
        label_smoothing=settings["label_smoothing"],
        label_names=start and start.label_names,
    )
    tokenizer = start.tokenizer() if start else None
    if resume and not start:
        tokenizer = text.load(checkpoint.find(out / "last"))
        tokenizer.frame(*FRAMES[objective])  # older runs' files say nothing of it
    return prepare(settings["file"], settings["target"], choices, tokenizer=tokenizer, scratch=out)


def make_model(settings: dict, recipe, objective: str, start, prepared):
    """The checkpoint's model where there is a start, else a small one of the recipe's family, for the data's labels."""
    import numpy as np

    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.training.encoder_tasks import padding
    from tinygrad_llm.training.families import small_model

    rng, labels = np.random.default_rng(settings["seed"]), prepared.info.get("labels", ())
    if start:
        model = start.model(len(labels), settings["dropout"], rng, padding(prepared.tokenizer.special))
    else:
        sizes = {k: settings[k] for k in ("layers", "heads", "width", "context", "dropout")}
        model = small_model(
            recipe, objective, prepared.tokenizer, labels=len(labels) or 2, init=settings.get("init"), rng=rng, **sizes
        )
    if labels:
        model.config.id2label = dict(enumerate(labels))
    model.recompute = settings.get("recompute", False)
    if settings["no_bias"]:
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        if not biases:
            raise UsageError(f"--no-bias does nothing with --model {settings['model']}, which has none; leave it out")
        for p in biases:
            p.requires_grad_(False)
    return model


def check_step(model, options, objective: str, context: int, processes) -> None:
    """MemoryError if a training step certainly takes more than there is: examples count as one token where the text decides their
    length, and where blocks run again."""
    from tinygrad_llm.models.memory import step_memory
    from tinygrad_llm.models.memory_limit import check_room
    from tinygrad_llm.training.prepare import WINDOW_TASKS

    batch = -(-options.batch // processes.count)
    context = context if objective in WINDOW_TASKS and not model.recompute else 1
    found = step_memory(model, batch, context, target=context // 8 + 1)  # of span corruption; no objective has fewer
    spared = found.moments // 2 if options.optimizer == "sgd" else 0
    check_room(f"a step of {batch} x {context} tokens", found.peak - spared)


def make_options(settings: dict):
    from dataclasses import fields

    from tinygrad_llm.training import Options

    return Options(**{f.name: settings[f.name] for f in fields(Options) if f.name in settings})


def keepable(settings: dict) -> dict:
    """What a checkpoint remembers; paths are made absolute, so that a run can be resumed from anywhere."""
    kept = {k: v for k, v in settings.items() if k not in ("resume", "force", "json", "command", "out")}
    return kept | {k: str(Path(kept[k]).resolve()) for k in ("file", "target") if kept.get(k)}


def describe(settings, model, prepared, trainer, out: Path) -> str:
    size = in_words(sizes_of(prepared))
    start = f", begun with {settings['start']}" if settings.get("start") else ""
    start += f", from step {trainer.step}" if trainer.step else ""
    start += f", {trainer.processes.count} processes" if trainer.processes.count > 1 else ""
    return (
        f"{settings['model']}, {model.num_parameters():,} parameters, {prepared.task.objective}; "
        f"{settings['file'] or 'source text of the Python standard library'}: {size}, vocabulary {prepared.tokenizer.vocab_size}\n"
        f"{settings['steps']} steps{start}; everything goes to {out}"
    )


def checksums(settings: dict) -> list[int | None]:
    """CRC-32 of each text that the run learns from, unpacked; None for a pipe, which was read already."""
    import zlib

    from tinygrad_llm.text.corpus import opened

    found: list[int | None] = []
    for path in (settings["file"], settings["target"]):
        total = None
        if path and Path(path).is_file():
            total = 0
            with opened(path) as file:
                while block := file.read(1 << 20):
                    total = zlib.crc32(block, total)
        found.append(total)
    return found


def another_text(before: dict, now: dict) -> bool:
    """Whether two records of a run tell of different texts."""
    pairs = zip(before["checksums"], now["checksums"])
    return before["text"] != now["text"] or any(a != b for a, b in pairs if None not in (a, b))


def sizes_of(prepared) -> dict[str, int]:
    """How much of what there is to learn from."""
    return {k: v for k, v in prepared.info.items() if isinstance(v, int)}


def in_words(sizes: dict[str, int]) -> str:
    return ", ".join(f"{v:,} {k}" for k, v in sizes.items())


def show_sample(trainer) -> None:
    from tinygrad_llm.training.samples import sample

    text = sample(trainer.model, trainer.task, trainer.tokenizer, seed=trainer.step)
    if text and trainer.progress:
        trainer.progress.note("\n".join("    " + line for line in text.splitlines()))


def finish(trainer, result: dict, out: Path) -> None:
    """The report, and where everything is."""
    from tinygrad_llm.training.progress import clock_time
    from tinygrad_llm.training.report import write_plot, write_report
    from tinygrad_llm.training.samples import sample

    text = sample(trainer.model, trainer.task, trainer.tokenizer, tokens=400)
    facts = {"model": f"{result['model']}, {result['parameters']:,} parameters", "objective": result["objective"],
             "steps": result["steps"], "time": clock_time(result["seconds"])}  # fmt: skip
    best = ""
    if result["best_loss"] is not None:
        found = facts["best loss on held-out text"] = f"{result['best_loss']:.4f} at step {result['best_step']}"
        best = f"best loss {found}; "
        if not result["best_step"]:  # then there is no best checkpoint, and OUT holds the last one
            best = f"no evaluation was better than {result['best_loss']:.4f} before the first step, try a smaller --lr; last "
    facts["loss of a guess by frequency alone"] = f"{result['unigram_loss']:.4f}"
    report = write_report(out, f"{result['model']} after {result['steps']} steps", facts, text)
    write_plot(out)
    say(f"done in {clock_time(result['seconds'])}; {best}model: {out}; report: {report}")


def say(text: str) -> None:
    from tinygrad_llm.training.progress import tell

    tell(text + "\n", sys.stderr)
