"""The command line as a whole: codes and messages."""

import os
import select
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

import tinygrad_llm
from tinygrad_llm import cli


@pytest.fixture
def failing(monkeypatch):
    """A command `fail` that raises what the test puts into the list."""
    errors = []

    def add_parser(subparsers):
        subparsers.add_parser("fail").add_argument("--text")

    def run(args):
        for error in errors:
            raise error

    monkeypatch.setattr(cli, "command_modules", lambda: [SimpleNamespace(add_parser=add_parser, run=run)])
    return errors


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("sizes do not fit\nuse other sizes\nthird line"), 1, "tinygrad-llm: sizes do not fit\nuse other sizes\n"),
        (cli.UsageError("--steps: expected at least 1"), 2, "tinygrad-llm: --steps: expected at least 1\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "tinygrad-llm: a.txt: No such file or directory\n"),
        (OSError(28, "No space left on device"), 1, "tinygrad-llm: No space left on device\n"),
        (KeyError("no 'weights' in config.json"), 1, "tinygrad-llm: no 'weights' in config.json\n"),
        (TypeError("boom"), 1, "tinygrad-llm: TypeError: boom\nrun again with --debug to see where\n"),
        (AssertionError(), 1, "tinygrad-llm: AssertionError: no message\nrun again with --debug to see where\n"),
        (KeyboardInterrupt(), 1, "\ninterrupted\n"),
    ],
)
def test_errors_are_short_and_coded(failing, capsys, error, code, message):
    failing.append(error)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == message


def test_of_a_long_warning_the_first_line_is_shown(capsys, monkeypatch):
    """Numba's, of a variable that it cannot read, goes on with a traceback."""
    module = SimpleNamespace(add_parser=lambda sub: sub.add_parser("warn"), run=lambda args: warnings.warn("no number\nTraceback", stacklevel=1))
    monkeypatch.setattr(cli, "command_modules", lambda: [module])
    assert cli.main(["warn"]) == 0
    assert capsys.readouterr().err == "tinygrad-llm: no number\n"


@pytest.mark.parametrize("argv", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_the_traceback(failing, argv):
    failing.append(ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        cli.main(argv)


def test_what_follows_two_dashes_is_no_flag(capsys):
    assert cli.main(["describe", "--", "--debug"]) == 1
    assert "no model named '--debug'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no model named '-x'"):
        cli.main(["--debug", "describe", "--", "-x"])


def test_usage(failing, capsys):
    assert cli.main(["fail"]) == 0
    assert cli.main([]) == 2
    assert cli.main(["fail", "--colour", "red"]) == 2
    assert cli.main(["paint"]) == 2
    assert cli.main(["--help"]) == 0
    assert cli.main(["fail", "--help"]) == 0
    assert "usage: tinygrad-llm" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tinygrad-llm {tinygrad_llm.__version__}\n"


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the system does not tell")
def test_a_pipe_that_nobody_reads_is_known():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        assert not cli.unread(stream)
        os.close(reader)
        assert cli.unread(stream)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("words", [["compare", "bert", "gpt2"], ["describe", "gpt2"], ["--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_takes_nothing(words, unbuffered):
    """It is said by name, and not by Python at its end, with a code of its own."""
    if words == ["--help"] and unbuffered:
        pytest.skip("argparse ignores what goes wrong when it writes")
    command, env = [sys.executable, "-m", "tinygrad_llm", *words], os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=env, text=True)
    assert (done.returncode, done.stderr) == (1, "tinygrad-llm: stdout: No space left on device\n")


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:surrogateescape"}])  # the C locale's
def test_a_terminal_without_a_letter_shows_its_number(env):
    shown = subprocess.run([sys.executable, "-m", "tinygrad_llm", "describe", "gpt2"], capture_output=True, timeout=60,
                           env=os.environ | env)  # fmt: skip
    assert shown.returncode == 0 and rb"\xd7" in shown.stdout and shown.stdout.isascii(), shown.stderr


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the system does not tell")
def test_a_reader_that_is_gone_before_the_first_line():
    reader, writer = os.pipe()
    os.close(reader)
    command, env = [sys.executable, "-m", "tinygrad_llm", "compare", "bert", "gpt2"], os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=env, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_explains_itself(capsys):
    parser, commands = cli.build_parser()
    for name in commands:
        assert cli.main([name, "--help"]) == 0
        assert len(capsys.readouterr().out) > 100
