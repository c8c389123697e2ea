"""The loop: it learns, accumulates exactly, stops when it should, and resumes bit for bit from any moment."""

import contextlib
import contextvars
import errno
import io
import itertools
import json
import os
import signal
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.small import causal_trainer, prepared, same_bits, weights
from tinygrad_llm import autograd, optim, training
from tinygrad_llm.training import checkpoint
from tinygrad_llm.training import progress as progress_module
from tinygrad_llm.training import trainer as trainer_module
from tinygrad_llm.training.log import Log, is_log, read
from tinygrad_llm.training.report import points_of


def test_it_learns_more_than_token_frequencies():
    trainer = causal_trainer(steps=300, lr=1e-2, eval_every=150, dropout=0.0)
    result = trainer.run()
    assert result["best_loss"] < training.unigram_loss(trainer.task, trainer.task.evaluation()) - 0.5
    assert not result["interrupted"] and result["steps"] == 300
    assert abs(result["train_loss"] - result["best_loss"]) < 0.5, "both are means over tokens"


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "bart", "albert", "electra"])
def test_weights_start_as_wide_as_asked(family, tmp_path):
    """All of a family's matrices but GPT-2's way back to the residual stream, whose deviation is smaller by sqrt(2 layers)."""
    for asked, expected in ((None, (2 / (5 * 16)) ** 0.5), (0.3, 0.3)):
        _, model = prepared(family, tmp_path=tmp_path, init=asked)
        drawn = {n: p.data for n, p in model.named_parameters() if p.data.ndim == 2}
        scale = {n: 2**-0.5 if family == "gpt2" and n.endswith(("o.weight", "down.weight")) else 1.0 for n in drawn}
        for name, array in drawn.items():
            if array.size >= 256:
                assert array.std() == pytest.approx(expected * scale[name], rel=0.25), name


@settings(max_examples=5)
@given(st.integers(2, 4), st.integers(0, 1000))
def test_accumulation_is_exact_for_different_lengths(parts, seed):
    """The gradient of one big batch and that of its parts, whose numbers of labels differ."""
    rng = np.random.default_rng(seed)
    whole = causal_trainer(dropout=0.0)
    ids = rng.integers(0, 20, (parts, 12))
    labels = np.where(rng.random(ids.shape) < rng.random((parts, 1)), ids, -100)
    labels[0, 0] = ids[0, 0]
    gradients = []
    for split in ([slice(None)], [slice(i, i + 1) for i in range(parts)]):
        trainer = causal_trainer(dropout=0.0, clip=0.0, accumulate=len(split), batch=1)
        batches = iter([{"input_ids": ids[s], "labels": labels[s]} for s in split])
        trainer.task.draw = lambda n, batches=batches: next(batches)
        seen = []
        parameters = list(trainer.model.parameters())
        step = trainer.optimizer.clip_and_step

        def noted(limit, step=step, parameters=parameters, seen=seen):
            seen.append([p.grad.data.copy() for p in parameters])
            return step(limit)

        trainer.optimizer.clip_and_step = noted
        record = trainer.train_step()
        gradients.append((seen[0], record["loss"]))
    (big, big_loss), (small, small_loss) = gradients
    assert small_loss == pytest.approx(big_loss, rel=1e-5)
    for a, b in zip(big, small):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert len(big) == len(list(whole.model.parameters()))


def test_trainers_side_by_side_draw_each_its_own(tmp_path):
    """Two that take turns, one that is run by another thread, and one after somebody else's draws: as if each were alone."""
    alone = causal_trainer(seed=3, dropout=0.5)
    alone.run()
    first, second = causal_trainer(seed=3, dropout=0.5, eval_every=0), causal_trainer(seed=4, dropout=0.5, eval_every=0)
    for _ in range(8):
        first.train_step(), second.train_step()
        autograd.generator().random()
    moved = causal_trainer(seed=3, dropout=0.5)
    thread = threading.Thread(target=contextvars.copy_context().run, args=(moved.run,))  # with this test's side of the kernels
    thread.start(), thread.join()
    for trainer in (first, moved):
        assert same_bits(weights(alone.model), weights(trainer.model))


def test_clipping_limits_the_step():
    wild, tame = (
        causal_trainer(dropout=0.0, optimizer="sgd", lr=1.0, warmup=0, weight_decay=0.0, beta1=0.0, clip=c) for c in (0.0, 0.1)
    )
    moves = []
    for trainer in (wild, tame):
        before = weights(trainer.model)
        norm = trainer.train_step()["grad_norm"]
        moves.append(np.sqrt(sum(((p.data - before[n]) ** 2).sum() for n, p in trainer.model.named_parameters())))
    assert norm > 0.1 and moves[0] == pytest.approx(norm, rel=1e-3) and moves[1] == pytest.approx(0.1, rel=1e-3)


def cut_at_five(trainer):
    """The same, run until it is told to stop in its fifth step."""
    original = trainer.train_step
    trainer.train_step = lambda: (original(), trainer.stop() if trainer.step == 5 else None)[0]
    assert trainer.run()["interrupted"]
    return trainer


def test_resuming_continues_bit_for_bit(tmp_path):
    straight = causal_trainer(tmp_path / "a")
    straight.run()
    cut = cut_at_five(causal_trainer(tmp_path / "b"))
    resumed = causal_trainer(tmp_path / "b", seed=0)
    resumed.resume()
    assert resumed.step == 5 and resumed.seconds == cut.seconds
    assert resumed.run()["seconds"] > cut.seconds > 0
    assert same_bits(weights(straight.model), weights(resumed.model))
    for name in ("model.safetensors", "last/optimizer.safetensors", "best/model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read(tmp_path / "a" / "log.jsonl") == read(tmp_path / "b" / "log.jsonl")


def test_a_resumed_run_takes_the_rate_it_is_given(tmp_path):
    causal_trainer(tmp_path, steps=4, lr=1e-2, schedule="constant").run()
    resumed = causal_trainer(tmp_path, steps=6, lr=1e-4, schedule="constant")
    resumed.resume()
    assert resumed.run()["steps"] == 6 and [r["lr"] for r in read(tmp_path / "log.jsonl") if "lr" in r][-2:] == [1e-4, 1e-4]


def test_bfloat16_is_another_run_and_resumes_bit_for_bit(tmp_path):
    straight = causal_trainer(tmp_path / "a", precision="bfloat16")
    straight.run()
    cut_at_five(causal_trainer(tmp_path / "b", precision="bfloat16"))
    with pytest.raises(ValueError, match=r"precision.*bfloat16.*got float32"):
        causal_trainer(tmp_path / "b").resume()
    resumed = causal_trainer(tmp_path / "b", precision="bfloat16")
    resumed.resume()
    resumed.run()
    assert same_bits(weights(straight.model), weights(resumed.model))
    assert read(tmp_path / "a" / "log.jsonl") == read(tmp_path / "b" / "log.jsonl")
    full = causal_trainer(tmp_path / "c")
    full.run()
    assert not same_bits(weights(straight.model), weights(full.model))
    assert straight.best == pytest.approx(full.best, rel=0.02)
    assert all(p.data.dtype == np.float32 for p in straight.model.parameters())


class Killed(BaseException):
    """Stands for the death of the process: nothing catches it."""


def kill_points(monkeypatch, n):
    """The n-th call that touches the disk's names or flushes it never returns."""
    left = [n]

    def dying(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    for name in ("rename", "replace", "fsync", "link"):
        monkeypatch.setattr(checkpoint.os, name, dying(getattr(os, name)))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))
    return left


def test_killed_at_any_moment_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch):
    """Every call that writes is in turn the last one; then a new process resumes, or starts anew where nothing was saved yet."""
    options = {"steps": 4, "eval_every": 2, "save_every": 1, "batch": 2}
    straight = causal_trainer(tmp_path / "straight", **options)
    with monkeypatch.context() as m:
        left = kill_points(m, 10**6)
        straight.run()
        total = 10**6 - left[0]
    expected = weights(straight.model)
    assert total > 30
    for n in range(0, total, max(1, total // 14)):
        out = tmp_path / f"killed-{n}"
        with monkeypatch.context() as m, pytest.raises(Killed):
            kill_points(m, n)
            causal_trainer(out, **options).run()
        again = causal_trainer(out, **options)
        if checkpoint.find(out / "last") is not None:
            again.resume()
        again.run()
        assert same_bits(expected, weights(again.model)), f"killed at call {n}"
        assert (out / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()
        assert not [p for p in out.rglob("*") if p.name.endswith((".tmp", ".new", ".old"))]


@pytest.mark.parametrize("there", [ends for n in range(5) for ends in itertools.combinations((".tmp", ".new", "", ".old"), n)])
def test_whatever_a_killed_process_left_the_newest_complete_checkpoint_stays(there, tmp_path):
    for use in ("tidy", "write"):
        place = tmp_path / use / "last"
        for end in there:
            left = place.with_name(place.name + end)
            left.mkdir(parents=True)
            (left / "content").write_text(end)
        newest = checkpoint.find(place)
        content = None if newest is None else (newest / "content").read_text()
        if use == "tidy":
            checkpoint.tidy(place)
            found = checkpoint.find(place)
            assert (None if found is None else (found / "content").read_text()) == content != ".tmp"
        else:
            checkpoint.write(place, lambda fresh: (fresh / "content").write_text("fresh"))
            assert (place / "content").read_text() == "fresh"
        rest = list(place.parent.iterdir()) if place.parent.exists() else []
        assert len(rest) == (content is not None or use == "write")


def test_windows_is_asked_to_flush_what_it_can(tmp_path, monkeypatch):
    """A handle that may not write, or a directory's, is an error there."""
    fcntl = pytest.importorskip("fcntl")
    flushed = []

    class Windows:
        name = "nt"

        def __getattr__(self, name):
            return getattr(os, name)

        def fsync(self, handle):
            flushed.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(checkpoint, "os", Windows())
    checkpoint.write(tmp_path / "last", lambda fresh: (fresh / "content").write_text("fresh"))
    assert flushed == [os.O_RDWR]


def test_each_part_of_a_loss_counts_with_its_weight():
    plain, heavy = causal_trainer(dropout=0.0), causal_trainer(dropout=0.0)
    sums, counts = heavy.task.sums, heavy.task.counts
    heavy.task.weights = {"own": 1.0, "other": 50.0}
    heavy.task.sums = lambda model, batch: dict(zip(("own", "other"), (sums(model, batch)["loss"] * k for k in (1, 0.1))))
    heavy.task.counts = lambda batch: dict.fromkeys(heavy.task.weights, counts(batch)["loss"])
    plain.accumulate(), heavy.accumulate()
    for p, q in zip(plain.model.parameters(), heavy.model.parameters()):
        np.testing.assert_allclose(q.grad.data, 6 * p.grad.data, rtol=1e-4, atol=1e-6)
    for trainer in (plain, heavy):
        trainer.optimizer.zero_grad()
    once, record = plain.train_step(), heavy.train_step()
    assert (record["loss"], record["own"], record["other"]) == pytest.approx(tuple(once["loss"] * k for k in (6, 1, 0.1)), rel=1e-5)


def test_what_is_due_at_intervals_is_due_at_the_end_as_well():
    trainer, seen, records = causal_trainer(steps=8, sample_every=3), [], []
    trainer.sampler = lambda trainer: seen.append(trainer.step)
    original = trainer.train_step
    trainer.train_step = lambda: records.append(original()) or records[-1]
    trainer.run()
    assert seen == [3, 6, 8]
    smooth = records[0]["loss"]
    for record in records:
        smooth = trainer_module.SMOOTHING * smooth + (1 - trainer_module.SMOOTHING) * record["loss"]
        assert record["smooth"] == pytest.approx(smooth)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step(number, tmp_path):
    trainer = causal_trainer(tmp_path, steps=50)
    before = signal.getsignal(number)
    original = trainer.train_step
    trainer.train_step = lambda: (original(), signal.raise_signal(number) if trainer.step == 7 else None)[0]
    result = trainer.run()
    assert result["interrupted"] and result["steps"] == 7
    assert json.loads((tmp_path / "last" / "training.json").read_text())["step"] == 7
    assert signal.getsignal(number) is before
    trainer.train_step = original
    assert trainer.run()["steps"] == 50, "another run goes on"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_last_checkpoint_loses_no_step(number, tmp_path, monkeypatch):
    """Outside of the loop it ended the process as it would any other, up to `save_every` steps back."""
    trainer = causal_trainer(tmp_path, steps=5, save_every=0, eval_every=0)
    write = checkpoint.write_state
    monkeypatch.setattr(checkpoint, "write_state", lambda *args: (signal.raise_signal(number), write(*args)))
    result = trainer.run()
    assert not result["interrupted"] and checkpoint.read_info(tmp_path / "last")["step"] == 5


def test_sigterm_may_come_twice_and_ctrl_c_may_not(tmp_path):
    """`timeout` sends it to the process and to its group."""
    for number, ends in ((signal.SIGTERM, False), (signal.SIGINT, True)):
        trainer = causal_trainer(tmp_path / number.name, steps=50)
        original = trainer.train_step
        trainer.train_step = lambda t=trainer, step=original, n=number: [signal.raise_signal(n), step(), signal.raise_signal(n)][1]
        with pytest.raises(KeyboardInterrupt) if ends else contextlib.nullcontext():
            assert trainer.run()["steps"] == 1 and checkpoint.find(tmp_path / number.name / "last")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_program_ignores_or_handles_is_left_to_it(number):
    seen = []
    for handler in (signal.SIG_IGN, lambda *args: seen.append(args[0])):
        trainer = causal_trainer(steps=4)
        original = trainer.train_step
        trainer.train_step = lambda step=original: (step(), signal.raise_signal(number))[0]
        before = signal.signal(number, handler)
        try:
            assert trainer.run()["steps"] == 4
        finally:
            signal.signal(number, before)
    assert seen == [number] * 4


def test_early_stop(monkeypatch):
    trainer = causal_trainer(steps=100, lr=1e-12, warmup=0, eval_every=1, patience=3, dropout=0.0)
    losses = iter([3.0, 2.0, 2.5, 2.0, 2.1, 1.0])
    monkeypatch.setattr(trainer_module, "evaluate", lambda *a: {"loss": next(losses)})
    result = trainer.run()
    assert result["stopped_early"] and not result["interrupted"]
    assert (result["steps"], result["best_step"], result["best_loss"]) == (4, 1, 2.0)


def test_a_loss_that_is_not_finite_is_no_progress_and_null_in_the_log(monkeypatch, tmp_path):
    """JSON has no name for it, and no later loss is less than NaN."""
    trainer = causal_trainer(tmp_path, steps=4, eval_every=1)
    losses = iter([np.nan, np.inf, 3.0, np.nan, 2.0])
    monkeypatch.setattr(trainer_module, "evaluate", lambda *a: {"loss": next(losses)})
    result = trainer.run()
    assert (result["best_step"], result["best_loss"]) == (4, 2.0)
    records = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["eval_loss"] for r in records if "eval_loss" in r] == [None, None, 3.0, None, 2.0]
    assert np.isnan(training.perplexity(np.nan)) and training.perplexity(np.inf) == np.inf
    assert points_of(tmp_path)[1] == [(2, 3.0), (4, 2.0)]


def test_best_is_kept_and_published(tmp_path):
    trainer = causal_trainer(tmp_path, steps=9, eval_every=3, lr=1e-2)
    result = trainer.run()
    evaluations = {r["step"]: r["eval_loss"] for r in read(tmp_path / "log.jsonl") if "eval_loss" in r}
    assert sorted(evaluations) == [0, 3, 6, 9] and min(evaluations, key=evaluations.get) == result["best_step"]
    best = (tmp_path / "best" / "model.safetensors").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == best
    assert checkpoint.model_directory(tmp_path) == tmp_path


def test_the_best_of_an_earlier_run_in_the_same_place_is_not_published(tmp_path):
    causal_trainer(tmp_path, steps=9, eval_every=3, lr=1e-2).run()
    (tmp_path / "best.tmp").mkdir()
    trainer = causal_trainer(tmp_path, steps=2, eval_every=0)
    assert trainer.run()["best_step"] == 0 and not (tmp_path / "best.tmp").exists()
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "last" / "model.safetensors").read_bytes()
    causal_trainer(tmp_path, steps=1, eval_every=1).run()
    assert [r["step"] for r in read(tmp_path / "log.jsonl")] == [0, 1, 1], "nor does its log go on"


def test_stopped_at_the_first_evaluation_and_resumed(tmp_path):
    """Evaluated again, the model is no worse than it was: an early stop does not count that."""
    trainer = causal_trainer(tmp_path, patience=1)
    trainer.stop()
    assert trainer.run()["steps"] == 0
    again = causal_trainer(tmp_path, patience=1, lr=1e-2)
    again.resume()
    assert again.run()["steps"] > 0
    assert [r["step"] for r in read(tmp_path / "log.jsonl")][:2] == [0, 1]


def test_evaluation_leaves_training_alone():
    """A run with evaluations takes the same steps as one without."""
    results = []
    for eval_every in (1, 0):
        trainer = causal_trainer(eval_every=eval_every)
        trainer.run()
        results.append(weights(trainer.model))
    assert same_bits(*results)


def test_a_gradient_that_is_not_finite_ends_the_run():
    trainer = causal_trainer()
    p = next(trainer.model.parameters())
    p.data[0] = np.nan
    with pytest.raises(FloatingPointError, match="step 1: the gradient is not finite"):
        trainer.train_step()


class Terminal(io.StringIO):
    def isatty(self):
        return True


RECORD = {"step": 12000, "loss": 2.0, "smooth": 2.0, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_s": 31200, "seconds_left": 3905}


@pytest.mark.parametrize("columns", [200, 80, 60, 30])
def test_the_progress_line_fits_the_terminal(columns, monkeypatch):
    """A line that wraps is redrawn from its second row, and leaves the first one behind at each step."""
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = training.Progress(20000, stream=Terminal())
    progress.update(RECORD)
    line = progress.stream.getvalue()
    assert line.startswith("\rstep 12000/20000  loss 2.000") and len(line) <= columns
    assert ("1:05:05 left" in line) == (columns > 30) and ("grad" in line) == (columns == 200)


@pytest.mark.parametrize("stream, pause", [(Terminal, 0.1), (io.StringIO, 10.0)])
def test_progress_is_told_now_and_then_and_at_the_end(stream, pause, monkeypatch):
    now = [50.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    progress = training.Progress(5, stream=stream())
    for step, moment in ((1, 0.0), (2, 0.9), (3, 1.1), (4, 2.0), (5, 2.0)):
        now[0] = 50 + moment * pause
        progress.update(RECORD | {"step": step}, last=step == 5)
    assert [word for word in progress.stream.getvalue().split() if "/5" in word] == ["1/5", "3/5", "5/5"]


def test_what_is_told_takes_the_place_of_the_line_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    long, short = (progress_module.format_line(RECORD | {"step": n}, 20000) for n in (12000, 7))
    progress = training.Progress(20000, stream=Terminal())
    progress.update(RECORD, last=True)
    progress.update(RECORD | {"step": 7}, last=True)
    progress.note("a sample")
    progress.close()  # there is no line to end
    progress.update(RECORD, last=True)
    progress.close()
    redrawn = f"\r{long}\r{short}" + " " * (len(long) - len(short))
    assert progress.stream.getvalue() == f"{redrawn}\r{' ' * len(short)}\ra sample\n\r{long}\n"
    plain = training.Progress(20000, stream=io.StringIO())
    plain.note("a sample"), plain.update(RECORD), plain.note("another"), plain.close()
    assert plain.stream.getvalue() == f"a sample\n{long}\nanother\n"


def test_what_nobody_reads_goes_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    training.Progress(5).note("a")
    full = io.StringIO()
    monkeypatch.setattr(full, "write", lambda text: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")), raising=False)
    with pytest.raises(OSError, match="full"):
        progress_module.tell("a", full)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        progress_module.tell("a", stream)
        assert os.write(stream.fileno(), b"b") == 1, "the pipe's end is one of nothing now"


def test_amounts_and_times_are_short():
    words = {999: "999", 1000: "1.0k", 31200: "31.2k", 1e6: "1.0M", 2.5e9: "2.5G"}
    assert {x: progress_module.amount(x) for x in words} == words
    times = {0.4: "0:00", 59.6: "1:00", 65: "1:05", 3599: "59:59", 3600: "1:00:00", 36065: "10:01:05"}
    assert {x: progress_module.clock_time(x) for x in times} == times


@pytest.mark.parametrize("name, kind", [("adamw", optim.AdamW), ("adam", optim.Adam), ("sgd", optim.SGD)])
def test_the_optimizer_is_the_one_asked_for(name, kind):
    optimizer = causal_trainer(optimizer=name, beta1=0.8, beta2=0.95, weight_decay=0.3).optimizer
    assert type(optimizer) is kind and [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0]
    for group in optimizer.param_groups:
        assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.8, 0.95)


def test_resume_refuses_what_is_not_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        causal_trainer(tmp_path).resume()
    with pytest.raises(ValueError, match="no `out`, where it would look"):
        causal_trainer().resume()
    (tmp_path / "last").mkdir()
    with pytest.raises(FileNotFoundError, match="no training.json"):
        causal_trainer(tmp_path).resume()


@pytest.mark.parametrize(
    "other", [{"schedule": "constant"}, {"batch": 5}, {"accumulate": 2}, {"beta2": 0.9}, {"weight_decay": 0.0}, {"clip": 0.0},
              {"seed": 7}, {"optimizer": "adam"}],
)  # fmt: skip
def test_a_resumed_run_keeps_its_options(other, tmp_path):
    causal_trainer(tmp_path, steps=2).run()
    other_run = causal_trainer(tmp_path, **{"steps": 2} | other)
    before = weights(other_run.model)
    name = next(iter(other))
    with pytest.raises(ValueError, match=rf"^{name}: the run in .*last has .*, and keeps it; got {other[name]}$"):
        other_run.resume()
    assert same_bits(before, weights(other_run.model))
    allowed = causal_trainer(tmp_path, steps=4, warmup=1, min_lr=0.5, lr=1e-4, eval_every=1, save_every=1, patience=2)
    allowed.resume()
    assert allowed.run()["steps"] == 4


def test_a_resumed_run_keeps_its_task(tmp_path):
    data, model = prepared("bart", tmp_path=tmp_path)
    options = training.Options(steps=1, batch=2, eval_every=0)
    training.Trainer(model, data.task, options, out=tmp_path / "run", tokenizer=data.tokenizer).run()

    class OtherNoise(training.InfillingTask):
        pass

    task = OtherNoise(np.arange(5, 200) % 20 + 5, np.arange(5, 60) % 20 + 5, 16, data.tokenizer)
    with pytest.raises(ValueError, match="task: the run in .* has InfillingTask, and keeps it; got OtherNoise"):
        training.Trainer(model, task, options, out=tmp_path / "run", tokenizer=data.tokenizer).resume()


def test_options_may_be_numpys_numbers(tmp_path):
    numbers = {"lr": np.float32(1e-3), "beta2": np.float32(0.9), "batch": np.int64(4), "weight_decay": np.float16(0.1)}
    causal_trainer(tmp_path, steps=2, **numbers).run()
    resumed = causal_trainer(tmp_path, steps=3, **numbers)
    resumed.resume()
    assert resumed.run()["steps"] == 3


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    data, model = prepared("bert", tmp_path=tmp_path)
    training.Trainer(model, data.task, training.Options(steps=1, batch=2), out=tmp_path / "run", tokenizer=data.tokenizer).run()
    with pytest.raises(ValueError, match="expected a GPT2LMHeadModel, found a BertForPreTraining"):
        causal_trainer().resume(tmp_path / "run" / "last")


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"lr": 0.0}, {"min_lr": 2.0}, {"schedule": "square"}, {"optimizer": "lion"}, {"clip": -1.0}, {"precision": "half"},
     {"steps": 1.5}, {"eval_every": 2.0}, {"seed": "1"}, {"batch": 0}, {"accumulate": 0}, {"warmup": -1}, {"patience": -1}, {"seed": -1},
     {"clip": np.inf}, {"weight_decay": np.inf}, {"lr": np.inf}, {"beta1": -0.1}, {"beta2": 1.0}, {"min_lr": -0.1}],
)
def test_options_are_checked(bad):
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}: "):
        training.Options(**bad)


@pytest.mark.parametrize("edge", [{"min_lr": 0.0}, {"min_lr": 1.0}, {"beta1": 0.0}, {"beta2": 0.0}, {"clip": 0.0}, {"warmup": 0}, {"seed": 0}])
def test_options_may_lie_at_the_ends_of_their_ranges(edge):
    (name, value), = edge.items()
    assert getattr(training.Options(**edge), name) == value


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b'{"step": 2}', b"\x00\x00\x00", b"\xff\xfe\n"])
def test_a_log_survives_a_torn_line(tmp_path, torn):
    path, whole = tmp_path / "log.jsonl", b'{"step": 1, "loss": 2.0}\n'
    path.write_bytes(whole + torn)
    assert read(path) == [{"step": 1, "loss": 2.0}] and is_log(path)
    Log(path, resume_at=9)
    assert path.read_bytes() == whole, "what is read is what a resumed run keeps"


def test_a_resumed_log_forgets_the_steps_that_were_lost(tmp_path):
    path, lines = tmp_path / "log.jsonl", [{"began": 1}, *({"step": step} for step in range(4))]
    Log(path, resume_at=2)
    assert read(path) == []
    for line in lines:
        Log(path, resume_at=9).write(line)
    assert read(path) == lines
    Log(path, resume_at=2)
    assert read(path) == lines[:4]
    Log(path)
    assert path.read_bytes() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_resumed_log_outlives_a_full_disk(tmp_path):
    """What stays is not written anew: that would fit no more, or be cut off by a kill."""
    import resource

    path, lines = tmp_path / "log.jsonl", [{"step": step} for step in range(100)]
    for line in lines:
        Log(path, resume_at=100).write(line)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        log = Log(path, resume_at=80)
        with pytest.raises(OSError, match="too large"):
            log.write({"step": 81})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read(path) == lines[:81]


@pytest.mark.parametrize(("content", "expected"), [
    (b"", True), (b'{"step": 1}\n', True), (b'{"step": 1}\n{"st', True), (b'{"ste', False), (b'{"epoch": 1}\n', False), (b"[1]\n", False),
    (b"3\n", False), (b'"step"\n', False),
    (b'{"step": 1}\n{"epoch": 1}\n', False), (b"\xff\xfe", False), (None, False),
])  # fmt: skip
def test_a_log_is_told_from_other_files_of_its_name(tmp_path, content, expected):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert is_log(path) == expected and not is_log(tmp_path)
