"""Which releases a result was computed with."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel, ConfigDict


class Versions(BaseModel):
    """Releases of what took part in a computation."""

    model_config = ConfigDict(frozen=True)

    corgi: str
    python: str
    torch: str
    onnxruntime: str
    auto_lirpa: str
    numpy: str
    highspy: str


@cache
def installed_versions() -> Versions:
    """The releases installed here; `not installed` for a distribution that has no metadata."""
    return Versions(
        corgi=_release(["corgi"]),
        python=platform.python_version(),
        torch=_release(["torch"]),
        onnxruntime=_release(["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"]),
        auto_lirpa=_release(["auto-LiRPA", "auto_LiRPA"]),
        numpy=_release(["numpy"]),
        highspy=_release(["highspy"]),
    )


def _release(distributions: Iterable[str]) -> str:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"
