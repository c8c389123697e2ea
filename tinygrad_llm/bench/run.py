"""A question from start to end: contestants set up, validated, timed; one record per case."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.bench import limits
from tinygrad_llm.bench.case import OURS, Case, Options, is_ours
from tinygrad_llm.bench.discover import load_question, missing_package
from tinygrad_llm.bench.race import ValidationError, as_arrays, default_tolerance, validate
from tinygrad_llm.bench.team import Contestant, Failed, Skipped
from tinygrad_llm.bench.timing import Lap, Timing, measure, measure_runs

Say = Callable[[str], None]
Progress = Callable[[str, float], None]
Keep = Callable[[dict[str, Any]], None]


class Question:
    """Runs the cases of one file; keeps a process per contestant alive between cases unless a case asks for fresh ones.

    keep(record) is called with the question's record at its start and after every case, so that a run that is cut off loses
    no case that was measured. `roof` holds the machine's limits, which say which of them binds a case: that one takes turns with
    the contestants (`limits`). Without them no case has a share.
    """

    def __init__(
        self, path: Path, options: Options, against: list[str] | None, say: Say, progress: Progress,
        keep: Keep = lambda record: None, roof: dict[str, Any] | None = None,
    ):  # fmt: skip
        self.path, self.options, self.against, self.say, self.progress = path, options, against, say, progress
        self.keep, self.roof = keep, roof or {}
        self.limits: dict[tuple[int, int], Contestant] = {}  # by resource and threads
        self.module = load_question(path)
        self.team: dict[str, Contestant] = {}
        self.absent: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """The question's record; "failed" holds the reason if a validation, a contestant or the file failed, which stops it."""
        record: dict[str, Any] = {"name": self.path.stem, "doc": first_line(self.module), "cases": [], "failed": None}
        record["absent"] = self.absent
        self.keep(record)
        try:
            for index, case in enumerate(self.cases()):
                if case.fresh:
                    self.dismiss(self.team)
                record["cases"].append(self.run_case(index, case))
                self.keep(record)
                if case.fresh:
                    self.dismiss(self.team)
            if self.options.size and not record["cases"]:  # where --size picks cases by number
                self.say(f"{self.path.stem}: no case for --size {','.join(map(str, self.options.size))}")
        except Exception as error:  # if it is one in the file's own code, its traceback is the reason; other questions go on
            record["failed"] = str(error) if isinstance(error, ValidationError | Failed) else traceback.format_exc()
            self.keep(record)
        except KeyboardInterrupt:
            self.dismiss(self.team, self.limits, at_once=True)
            raise
        finally:
            self.dismiss(self.team, self.limits)
        return record

    def cases(self) -> Iterator[Case]:
        """The file's cases; `Failed` with what to do where it gives something else."""
        names: set[str] = set()
        found, where = self.module.cases(self.options), f"cases(options) in {self.path.name}"
        if not isinstance(found, Iterable):
            raise Failed(f"{where}: expected a function that yields Cases, got {found!r}")
        for case in found:
            if not isinstance(case, Case):
                raise Failed(f"{where}: expected Cases (tinygrad_llm.bench.Case), got {case!r}")
            if not case.contestants:
                raise Failed(f"{where}: case {case.name!r} has no contestant; its set-up is decorated with @case.contestant(name)")
            if case.name in names:
                raise Failed(f"two cases are named {case.name!r}; results are compared by name, so give each its own")
            names.add(case.name)
            yield case
        if not names and not self.options.size:
            raise Failed(f"{where}: expected Cases, one at least, got none")

    def dismiss(self, *teams: dict[Any, Contestant], at_once: bool = False) -> None:
        for team in teams:
            for contestant in team.values():
                contestant.kill() if at_once else contestant.close()
            team.clear()

    def entrants(self, case: Case) -> list[str]:
        """Ours first, then those asked for and installed; an absent one is said once, with its reason."""
        ours = sorted((n for n in case.contestants if is_ours(n)), key=lambda n: n != OURS)
        others = [n for n in case.contestants if not is_ours(n) and (self.against is None or n in self.against)]
        for name in others:
            if name not in self.absent and (why := missing_package(name)):
                self.absent[name] = why
                self.say(f"{self.path.stem}: {name} is skipped: {why}")
        return [n for n in ours + others if n not in self.absent]

    def run_case(self, index: int, case: Case) -> dict[str, Any]:
        case.flops = case.flops() if callable(case.flops) else case.flops
        record: dict[str, Any] = {"name": case.name, "flops": case.flops, "bytes": case.bytes, "threads": case.threads}
        record |= {"unit": case.unit, "work": case.work, "skipped": {}, "contestants": {}, "ratios": {}}
        record |= {"checked": None, "limit": None}
        present = self.set_up(index, case, record["skipped"])
        if not present:
            return record
        with tempfile.TemporaryDirectory() as folder:
            timing, record["checked"] = self.race(case, present, Path(folder))
        for name in present:
            record["contestants"][name] = summary(timing, name) | self.memory(name, case)
        if present[0] == OURS:
            record["limit"] = self.share(case, timing)
            record["ratios"] = {name: asdict(ratio) for name, ratio in timing.ratios.items() if name != limits.LIMIT}
        return record

    def options_of(self, case: Case) -> Options:
        return self.options if case.threads is None else replace(self.options, threads=case.threads)

    def set_up(self, index: int, case: Case, skipped: dict[str, str]) -> list[str]:
        present = []
        options = self.options_of(case)
        for name in self.entrants(case):
            if name not in self.team:
                self.team[name] = Contestant(self.path, name, options)
            try:
                self.team[name].ask("setup", case=index)
                present.append(name)
            except Skipped as reason:
                skipped[name] = str(reason)
                self.say(f"{self.path.stem}, {case.name}: {name} is skipped: {reason}")
        return present

    def race(self, case: Case, present: list[str], folder: Path) -> tuple[Timing, str | None]:
        """Validate, then time. Whole runs are validated by what the timed runs returned."""

        def show(share: float) -> None:
            self.progress(case.name, share)

        outputs: dict[str, list[np.ndarray]] = {}
        if case.runs:
            laps = {name: self.team[name].run(folder, outputs) for name in present}
            timing = measure_runs(laps, case.runs, show)
            return timing, self.check(case, outputs)
        if case.check:
            outputs |= {name: self.team[name].output(folder) for name in present}
        judge = self.check(case, outputs)
        return measure({name: self.team[name].lap() for name in present} | self.limit(case), self.options.seconds, show), judge

    def limit(self, case: Case) -> dict[str, Lap]:
        """The lap of the limit that binds a case, at the case's threads."""
        resource = limits.binding(case, self.roof)
        if resource is None:
            return {}
        options = self.options_of(case)
        key = resource, options.threads
        if key not in self.limits:
            self.limits[key] = Contestant(Path(limits.__file__), limits.LIMIT, options)
            self.limits[key].ask("setup", case=resource)
        return {limits.LIMIT: self.limits[key].lap()}

    def share(self, case: Case, timing: Timing) -> dict[str, Any] | None:
        """What share of the limit we reached: median over rounds of our rate / the limit's, with its interval."""
        resource = limits.binding(case, self.roof)
        if resource is None or limits.LIMIT not in timing.ratios:
            return None
        amount, _, unit = limits.RESOURCES[resource]
        whole = limits.amounts(self.options_of(case))[resource]
        ratio, part = timing.ratios[limits.LIMIT], getattr(case, amount) / whole
        return {"of": amount, "unit": unit, "rate": whole / timing.median(limits.LIMIT) / 1e9, "share": part * ratio.ratio,
                "low": part * ratio.low, "high": part * ratio.high, "rounds": ratio.rounds}  # fmt: skip

    def check(self, case: Case, outputs: dict[str, list[np.ndarray]]) -> str | None:
        """Raise if outputs differ; returns what they were compared with, None if there was nothing to compare with."""
        if not case.check:
            return None
        if case.expected is not None:
            judge = "the expected values"
            want = as_arrays(case.expected(*case.inputs(np.random.default_rng(self.options.seed))))
        else:
            if len(outputs) < 2:
                return None
            judge = next((name for name in outputs if not is_ours(name)), list(outputs)[-1])
            want = outputs[judge]
        tol = default_tolerance(self.options.dtype) if case.tol is None else case.tol
        try:
            validate(outputs, want, judge, tol)
        except ValidationError as why:
            raise ValidationError(f"{case.name}: {why}") from None
        return judge

    def memory(self, name: str, case: Case) -> dict[str, int]:
        """Peak memory is this case's own only when the process is."""
        if not case.fresh:
            return {}
        peak = self.team[name].peak()
        return {"peak_bytes": peak["bytes"], "bytes_before": peak["before"]}


def summary(timing: Timing, name: str) -> dict[str, Any]:
    return {"median": timing.median(name), "best": timing.best(name), "rounds": len(timing.laps[name])}


def first_line(module: Any) -> str:
    return (module.__doc__ or "").strip().split("\n")[0]
