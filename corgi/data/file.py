"""Which paths are opened at all, and files that are written whole or not at all."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from corgi.errors import CorgiError, UsageError


def is_regular_file(path: Path) -> bool:
    """Whether a path leads to a regular file.

    A pipe may never say anything and a device never stop, so neither is opened; nor is a name too long to
    be one, or a link to itself.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """The path without links; unlike `Path.resolve` before Python 3.13, a link to itself stays as it is."""
    return Path(os.path.realpath(path))


def read_text(path: Path, most: int, error: Callable[[str], CorgiError]) -> str:
    """The text of a file, unpacked where it is a .gz, without a byte order mark.

    Raises:
        error: it is missing, cannot be read, is no UTF-8 text or has more than `most` bytes.
    """
    if not is_regular_file(path):
        raise error("no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(most + 1)
    except (EOFError, OSError, zlib.error) as caught:
        raise error(f"cannot be read: {getattr(caught, 'strerror', None) or caught}") from caught
    if len(raw) > most:
        raise error(f"more than {most} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as caught:
        raise error(f"byte {caught.start} is no UTF-8 text") from caught


@contextmanager
def whole(option: str, path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends, or, on an error, nothing.

    Raises:
        UsageError: the file system refuses; `option` says which file it is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write(option: str, path: Path, content: bytes) -> None:
    """Write a file whole or, on an error, not at all. See `whole` for errors."""
    with whole(option, path) as temporary:
        temporary.write_bytes(content)
