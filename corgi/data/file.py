"""Which paths are opened at all."""

from __future__ import annotations

import os
from pathlib import Path


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
