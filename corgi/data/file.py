"""Which paths are opened at all, and files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corgi.errors import UsageError


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
