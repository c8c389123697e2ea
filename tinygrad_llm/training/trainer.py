"""The training loop.

    trainer = Trainer(model, task, Options(steps=2000), out="runs/mine", tokenizer=tokenizer)
    trainer.run()

One step: draw the micro-batches, backward through each with the whole step's counts, clip, update, move the schedule on. Several
processes may share a step's work (`processes`).
A run is resumed by making the same Trainer and calling `resume(directory)`; it then ends with the bits of a run that was
never interrupted, on the same machine.
"""

import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import optim
from ..autograd import autocast
from ..autograd.random import drawing_from
from . import checkpoint
from .evaluate import evaluate
from .log import LOG, Log
from .options import CHANGEABLE, Options
from .processes import ALONE, Alone, Processes
from .progress import Progress

POSITION = ("step", "smooth", "best", "best_step", "bad_evaluations", "seconds")
UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)
SMOOTHING = 0.98  # of the smoothed loss: an average over about 50 steps


class Trainer:
    """Trains `model` on `task`. out: directory for checkpoints and the log (None: keep nothing).

    processes: those that share the work (None: this one alone). Each of them makes a Trainer and calls `run`, which begins with the
    first one's weights, optimizer, data position and random state; that one alone has an `out`, a progress line and a sampler.
    """

    def __init__(
        self,
        model,
        task,
        options: Options | None = None,
        *,
        out=None,
        tokenizer=None,
        progress: Progress | None = None,
        sampler=None,
        info: dict | None = None,
        processes: Processes | None = None,
    ):
        self.model, self.task, self.options = model, task, options or Options()
        self.processes: Alone | Processes = processes or ALONE
        if self.options.batch < self.processes.count:
            raise ValueError(f"batch: expected at least one example for each of the {self.processes.count} processes, "
                             f"got {self.options.batch}")  # fmt: skip
        if self.processes.number:
            out = progress = sampler = None
        self.out = None if out is None else Path(out)
        self.tokenizer, self.progress, self.sampler, self.info = tokenizer, progress, sampler, info or {}
        self.optimizer = make_optimizer(model, self.options)
        self.schedule = make_schedule(self.optimizer, self.options)
        self.random = np.random.default_rng(self.options.seed)  # its own, for dropout: trainers may take turns, or change threads
        self.step, self.smooth, self.best, self.bad_evaluations = 0, None, None, 0
        self.best_step, self.seconds, self.pace = 0, 0.0, 0.0
        self.stopping, self.log = False, Log(None)

    # -- one step ----------------------------------------------------------------------------------------------------------

    def train_step(self) -> dict:
        """One update. Returns {"loss", "grad_norm", "lr", "tokens", ...}."""
        with drawing_from(self.processes.own(self.random)):
            batches, parts = self.accumulate()
        lr = self.schedule.lr
        norm = self.optimizer.clip_and_step(self.options.clip)
        if not np.isfinite(norm):
            raise FloatingPointError(f"step {self.step + 1}: the gradient is not finite (norm {norm})")
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        loss = sum(self.task.weights[n] * v for n, v in parts.items())
        self.smooth = loss if self.smooth is None else SMOOTHING * self.smooth + (1 - SMOOTHING) * loss
        tokens = sum(int(np.prod(b["input_ids"].shape)) for b in batches)
        extra = parts if len(parts) > 1 else {}
        return {"step": self.step, "loss": loss, "smooth": self.smooth, "lr": lr, "grad_norm": norm, "tokens": tokens, **extra}

    def accumulate(self) -> tuple[list[dict], dict[str, float]]:
        """Draws a step's batches and leaves their gradients, over all processes. Returns the batches and the parts of the loss."""
        batches = [self.task.draw(self.options.batch) for _ in range(self.options.accumulate)]
        counts = [self.task.counts(b) for b in batches]
        totals = {name: sum(c[name] for c in counts) for name in counts[0]}
        parts = dict.fromkeys(self.task.weights, 0.0)
        for batch in map(self.processes.share, batches):
            loss = None
            with autocast(self.options.precision):
                sums = self.task.sums(self.model, batch)
            for name, value in sums.items():
                mean = value * (1.0 / max(totals[name], 1))
                parts[name] += float(mean.item())
                term = mean * self.task.weights[name] if self.task.weights[name] != 1.0 else mean
                loss = term if loss is None else loss + term
            loss.backward()
        self.processes.add_gradients(p for p in self.model.parameters() if p.requires_grad)
        return batches, self.processes.total(parts)

    # -- the run -----------------------------------------------------------------------------------------------------------

    def run(self) -> dict:
        """Trains to the last step, an early stop, Ctrl-C or SIGTERM (then the result says "interrupted")."""
        if self.processes is not ALONE:
            self.restore(*self.processes.from_first((self.state(), self.optimizer.state_dict(), self.model.state_dict())))
        self.log = self.open_log()
        self.model.train()
        self.batches = self.task.evaluation() if self.options.eval_every else []
        with interruptible(self):
            if self.step == 0 and self.options.eval_every:
                self.best = None  # of a run that was stopped here: it is no progress to be as good as itself
                self.evaluate()
            while self.step < self.options.steps and not self.processes.any(self.stopping) and not self.out_of_patience():
                self.timed_step()
                self.at_intervals()
            if self.out is not None:
                self.save()
            self.processes.any(False)  # a signal to one that has ended already would end all, the first one while it saves
        finished = self.step >= self.options.steps or self.out_of_patience()
        if self.progress:
            self.progress.close()
        return {
            "steps": self.step,
            "best_loss": self.best,
            "best_step": self.best_step,
            "seconds": self.seconds,
            "train_loss": self.smooth,
            "interrupted": not finished,
            "stopped_early": self.out_of_patience(),
        }

    def timed_step(self) -> None:
        start = time.perf_counter()
        record = self.train_step()
        took = time.perf_counter() - start
        self.seconds += took
        self.pace = 0.9 * self.pace + 0.1 * took if self.pace else took
        record["tokens_per_s"] = record.pop("tokens") / self.pace
        record["seconds_left"] = (self.options.steps - self.step) * self.pace
        self.log.write({k: v for k, v in record.items() if k not in ("tokens_per_s", "seconds_left")})
        if self.progress:
            self.progress.update(record, last=self.step == self.options.steps)

    def at_intervals(self) -> None:
        """What is due after this step: an evaluation, a checkpoint, a sample."""
        o, last = self.options, self.step == self.options.steps
        if o.eval_every and (self.step % o.eval_every == 0 or last):
            self.evaluate()
        if self.out is not None and o.save_every and self.step % o.save_every == 0 and not last:
            self.save()
        if self.sampler and o.sample_every and (self.step % o.sample_every == 0 or last):
            self.sampler(self)

    def evaluate(self) -> dict:
        """The held-out losses, logged; a model better than all before is saved as OUT/best."""
        result = evaluate(self.task, self.model, self.batches, self.processes)
        better = bool(np.isfinite(result["loss"])) and (self.best is None or result["loss"] < self.best)
        self.bad_evaluations = 0 if better else self.bad_evaluations + 1
        self.log.write({"step": self.step, **{f"eval_{k}": v for k, v in result.items()}})
        if self.progress:
            self.progress.note(f"step {self.step}: evaluation loss {result['loss']:.4f}" + (" (best)" if better else ""))
        if better:
            self.best, self.best_step = result["loss"], self.step
            if self.out is not None and self.step:
                checkpoint.write(self.out / "best", self.fill_model)
        return result

    def out_of_patience(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        return 0 < self.options.patience <= self.bad_evaluations

    def stop(self) -> None:
        """Ends the run after the present step."""
        self.stopping = True

    # -- checkpoints -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """The checkpoint OUT/last; and OUT itself holds the best model so far (the last one, where none was evaluated)."""
        checkpoint.write(self.out / "last", self.fill_checkpoint)
        best = checkpoint.find(self.out / "best") if self.best_step else None  # else it is an earlier run's
        checkpoint.publish(best or self.out / "last", self.out)

    def fill_model(self, directory: Path) -> None:
        self.model.save(directory)
        if self.tokenizer is not None:
            self.tokenizer.save(directory)

    def fill_checkpoint(self, directory: Path) -> None:
        self.fill_model(directory)
        checkpoint.write_state(directory, self.state() | {"info": self.info, "kept": self.kept()}, self.optimizer.state_dict())

    def state(self) -> dict:
        """Where the run stands, but for weights and the optimizer's arrays."""
        return {name: getattr(self, name) for name in POSITION} | {
            "schedule": self.schedule.state_dict(), "data": self.task.state_dict(), "random": self.random.bit_generator.state,
        }  # fmt: skip

    def restore(self, state: dict, optimizer: dict, weights: dict) -> None:
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(state["schedule"] | {"base": self.schedule.base})  # the rate asked for now
        self.task.load_state_dict(state["data"])
        self.random.bit_generator.state = state["random"]
        for name in POSITION:
            setattr(self, name, state[name])

    def kept(self) -> dict:
        """What a resumed run has again: its task's kind and all options but the `CHANGEABLE` ones."""
        return {"task": type(self.task).__name__} | {k: v for k, v in asdict(self.options).items() if k not in CHANGEABLE}

    def resume(self, directory=None) -> dict:
        """Goes on from a checkpoint (default: OUT/last) with that run's model, task and options; rate and steps may differ.

        Returns the `info` of the run that wrote it.
        """
        if directory is None and self.out is None:
            raise ValueError("resume: this trainer has no `out`, where it would look; name the checkpoint: resume(directory)")
        place = Path(directory) if directory is not None else checkpoint.find(self.out / "last")
        if place is None:
            raise FileNotFoundError(f"{self.out}: nothing to resume here; expected a checkpoint in {self.out / 'last'}")
        state, optimizer = checkpoint.read_state(place)
        weights = saved_weights(self.model, place)
        asked = self.kept()
        for name, value in state.get("kept", {"precision": state.get("precision", "float32")}).items():  # once that was all
            if name in asked and asked[name] != value:
                raise ValueError(f"{name}: the run in {place} has {value}, and keeps it; got {asked[name]}")
        self.restore(state, optimizer, weights)
        return state.get("info", {})

    def open_log(self) -> Log:
        if self.out is None:
            return Log(None)
        self.out.mkdir(parents=True, exist_ok=True)
        for name in ("last", "best"):
            checkpoint.tidy(self.out / name)
        return Log(self.out / LOG, self.step or None)


def saved_weights(model, directory: Path) -> dict:
    """A checkpoint's weights, which are those of a model like `model`."""
    from .. import models

    saved = models.load(directory)
    if type(saved) is not type(model):
        raise ValueError(f"{directory}: expected a {type(model).__name__}, found a {type(saved).__name__}")
    return saved.state_dict()


def make_optimizer(model, o: Options):
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = optim.decay_groups(trained, o.weight_decay)
    if o.optimizer == "sgd":
        return optim.SGD(groups, lr=o.lr, momentum=o.beta1)
    kind = optim.AdamW if o.optimizer == "adamw" else optim.Adam
    return kind(groups, lr=o.lr, betas=(o.beta1, o.beta2))


def make_schedule(optimizer, o: Options):
    minimum = {"minimum": o.min_lr} if o.schedule in ("cosine", "linear") else {}
    return getattr(optim, o.schedule)(optimizer, warmup=o.warmup, total=o.steps, **minimum)


class interruptible:
    """While a run goes on, Ctrl-C or SIGTERM ends it after the present step; a second Ctrl-C ends it at once.

    Not a second SIGTERM: `timeout` and schedulers may send several. A signal that is ignored, or that the program has a handler of
    its own for, is left to it.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def __enter__(self):
        here = threading.current_thread() is threading.main_thread()
        free = [n for n in (signal.SIGINT, signal.SIGTERM) if here and signal.getsignal(n) in UNHANDLED]
        self.before = {number: signal.signal(number, self.on_signal) for number in free}

    def on_signal(self, number, frame):
        if self.trainer.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.trainer.stop()

    def __exit__(self, *exc_info):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.trainer.stopping = False  # another `run` goes on
