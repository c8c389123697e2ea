"""Reading the user's text, with errors that say what to do; and the corpus that is on every machine."""

import gzip
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path


def read_text(path, minimum: int = 1) -> str:
    """The whole of a UTF-8 text file, also gzipped (a leading byte order mark is dropped; line ends become \\n)."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give one text file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    with opened(path) as file:
        raw = whole_gzip(file.read, path)
    if not raw.strip():
        raise ValueError(f"{path} is empty; give a text file with something to learn from")
    text = decode(raw, path)
    if len(text) < minimum:
        raise ValueError(f"{path} has {len(text)} characters; at least {minimum} are needed here")
    return text


def opened(path):
    """A file to read bytes from, unpacked where it is called .gz."""
    return gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb")


def whole_gzip(read, path, *args):
    """read(*args) of a file that may be gzipped."""
    try:
        return read(*args)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: named .gz, but not a whole gzip file: {error}") from None


def decode(raw: bytes, path, offset: int = 0) -> str:
    """The text of a file, or of the part of it that begins at `offset`."""
    if b"\x00" in raw[:65536]:
        wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        hint = "it is UTF-16: convert it with  iconv -f UTF-16 -t UTF-8" if wide else "expected UTF-8 text"
        raise ValueError(f"{path} looks like a binary file; {hint}")
    try:
        return raw.decode("utf-8" if offset else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        at = len(raw) - len(error.object) + error.start  # the codec counts from behind a byte order mark
        raise ValueError(
            f"{path} is not UTF-8 (byte {raw[at]:#04x} at offset {offset + at}); "
            "if it is Latin-1, convert it with  iconv -f LATIN1 -t UTF-8"
        ) from None


class Lines:
    """The lines of a file of any size, also gzipped, decoded and checked in pieces of a few megabytes; read anew by each loop."""

    def __init__(self, path):
        self.path = path

    def __iter__(self) -> Iterator[str]:
        offset = 0
        with opened(self.path) as file:
            while lines := whole_gzip(file.readlines, self.path, 4 << 20):
                raw = b"".join(lines)
                yield decode(raw, self.path, offset)
                offset += len(raw)


def builtin_corpus(limit: int = 1_200_000) -> str:
    """Source text of this interpreter's standard library, in alphabetical order, up to `limit` characters.

    Only ASCII files are taken, so that a character model has a small alphabet.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    pieces, total = [], 0
    for path in sorted(folder.glob("*.py")):
        raw = path.read_bytes()
        if raw.isascii() and b"\x00" not in raw and raw.strip():
            pieces.append(raw.decode("ascii").replace("\r\n", "\n"))
            total += len(pieces[-1])
        if total >= limit:
            break
    if not pieces:
        raise FileNotFoundError(f"{folder} has no Python source files to learn from; name a text file to train on")
    return "\n".join(pieces)[:limit]
