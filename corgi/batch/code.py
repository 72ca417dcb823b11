"""Which code computed a row: results of another one are other rows."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import corgi

_TAKES_PART = frozenset({"reporting/document.py", "reporting/sweep.py", "reporting/wording.py"})
"""Of folders that take no part: what makes the documents of rows."""

_LIBRARIES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnx",
    "highspy",
    "clarabel",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
    "auto-LiRPA",
)
"""Distributions that results depend on; one that is not there counts as such."""

_NO_PART = frozenset({"cli", "reporting", "train", "vnnlib", "smoothing", "comparison"})
"""Folders of the package that ask, show, train or answer other questions than `verify`."""


@cache
def code_version() -> str:
    """Release of corgi, digest of the source and libraries results depend on: `0.1.0+3f2a9c0d1e2f4a5b`."""
    package, digest = Path(corgi.__file__).parent, sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name in _TAKES_PART or name.partition("/")[0] not in _NO_PART:
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {_release(library)}\0".encode())
    return f"{corgi.__version__}+{digest.hexdigest()[:16]}"


def _release(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
