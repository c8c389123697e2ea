"""One directory, one run: OUT is claimed for as long as a run writes into it."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from .log import LOG
from .prepare import TOKENS

BEFORE = {LOG, TOKENS, TOKENS + ".new"}  # what may be there before a run begins
FAR = (1 << 31) - 2  # the byte that is locked on Windows, where a lock keeps others from writing: beyond every log's end


@contextlib.contextmanager
def claimed(out: Path, made: bool = False) -> Iterator[None]:
    """Holds OUT's log locked. The lock is the system's own: it ends with the process, however that ends.

    An empty log marks OUT as a run's from the start. Where the run began nothing it goes again, with a large text's tokens, and OUT
    too if it was `made` for this run.
    """
    made, log = made or not out.exists(), out / LOG
    out.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        if not lock(file, out):
            raise ValueError(f"{out}: another run is writing here now; wait until it ends, or choose another directory")
        try:
            yield
        finally:
            file.close()  # Windows removes no file that is open
            if untouched(out):
                with contextlib.suppress(PermissionError):  # Windows, where the tokens may still be mapped
                    for name in os.listdir(out):
                        (out / name).unlink()
                    if made:
                        out.rmdir()


def untouched(out: Path) -> bool:
    """Whether a directory holds nothing, or an empty log (and tokens) of a run that was killed while it read its data."""
    if not out.is_dir():
        return False
    names = set(os.listdir(out))
    return not names or (LOG in names and names <= BEFORE and not (out / LOG).stat().st_size)


def lock(file, out: Path) -> bool:
    """False where another process holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file.fileno(), FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some network file systems
        warnings.warn(f"{out}: no locks on this file system ({error.strerror}); start no second run here", stacklevel=2)
    return True
