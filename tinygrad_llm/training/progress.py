"""The progress line: one line that is redrawn on a terminal, a plain line now and then elsewhere."""

import errno
import os
import shutil
import sys
import time

SECONDS_BETWEEN_LINES = 10.0  # not on a terminal
SECONDS_BETWEEN_DRAWS = 0.1  # on a terminal


class Progress:
    """`update` per step; `note` for text of its own (a sample, an evaluation). Writes to stderr unless told otherwise."""

    def __init__(self, total: int, stream=None):
        self.total, self.stream = total, stream or sys.stderr  # None where stderr is closed
        self.live = bool(getattr(self.stream, "isatty", lambda: False)())
        self.drawn = -1e9
        self.width = 0

    def update(self, record: dict, last: bool = False) -> None:
        """Shows a step's record, if it is time to; the last one in any case."""
        now = time.perf_counter()
        pause = SECONDS_BETWEEN_DRAWS if self.live else SECONDS_BETWEEN_LINES
        if not last and now - self.drawn < pause:
            return
        self.drawn = now
        line = format_line(record, self.total)
        if self.live:
            line = fit(line, shutil.get_terminal_size().columns - 1)
            tell("\r" + line.ljust(self.width), self.stream)
            self.width = len(line)
        else:
            tell(line + "\n", self.stream)

    def note(self, text: str) -> None:
        """Text on lines of its own."""
        if self.live and self.width:
            tell("\r" + " " * self.width + "\r", self.stream)
            self.width = 0
        tell(text + "\n", self.stream)

    def close(self) -> None:
        """Ends the line."""
        if self.live and self.width:
            tell("\n", self.stream)
            self.width = 0


def tell(text: str, stream) -> None:
    """Writes at once. Once the reader of a pipe is gone (EINVAL on Windows), what is written goes nowhere: training goes on."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fit(line: str, columns: int) -> str:
    """The line without gradient, rate and speed as far as needed: a terminal breaks a longer one, and redraws its last row."""
    fields = line.split("  ")
    for least in ("grad", "lr", "tokens/s"):
        if len("  ".join(fields)) > columns:
            fields = [f for f in fields if least not in f]
    return "  ".join(fields)[:columns]


def format_line(r: dict, total: int) -> str:
    """step 120/2000  loss 2.481 (smooth 2.510)  lr 9.9e-04  grad 0.61  31.2k tokens/s  1:05 left"""
    return (
        f"step {r['step']}/{total}  loss {r['loss']:.3f} (smooth {r['smooth']:.3f})  lr {r['lr']:.1e}  "
        f"grad {r['grad_norm']:.2f}  {amount(r['tokens_per_s'])} tokens/s  {clock_time(r['seconds_left'])} left"
    )


def amount(x: float) -> str:
    """31200 -> "31.2k"."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= limit:
            return f"{x / limit:.1f}{unit}"
    return f"{x:.0f}"


def clock_time(seconds: float) -> str:
    """65 -> "1:05"."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"
