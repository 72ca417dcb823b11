"""Which code computed a row: results of another one are other rows."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

import corgi

_NO_PART = frozenset({"cli", "report", "train", "vnnlib", "smoothing", "compare"})
"""Folders of the package that ask, show, train or answer other questions than `verify`."""


@cache
def code_version() -> str:
    """Release of corgi and digest of the source that results depend on, as `0.1.0+3f2a9c0d1e2f4a5b`."""
    package, digest = Path(corgi.__file__).parent, sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _NO_PART:
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return f"{corgi.__version__}+{digest.hexdigest()[:16]}"
