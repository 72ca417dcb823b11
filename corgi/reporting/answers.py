"""Every answer about the map of one image, as text and document, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.console import RenderableType

from corgi.certify.attack import AttackResult
from corgi.certify.curve import Curve
from corgi.certify.explain import Explanation
from corgi.certify.radii import PixelRadii
from corgi.certify.sticker import StickerMap
from corgi.certify.sweep import SweepResult
from corgi.comparison.rows import Comparison
from corgi.results import SmoothResult, VerifyResult, VerifyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Answer = (
    VerifyResult
    | VerifyResults
    | Explanation
    | AttackResult
    | PixelRadii
    | Curve
    | StickerMap
    | Comparison
    | SmoothResult
    | SweepResult
)


_KINDS: Mapping[type[Any], tuple[str, str, str, str]] = MappingProxyType(
    {
        VerifyResult: ("verify", "document", "text", "picture"),
        VerifyResults: ("properties", "document", "text", "picture"),
        Explanation: ("cam", "document", "text", "picture"),
        AttackResult: ("attack", "document", "text", "picture"),
        PixelRadii: ("radii", "document", "text", "series_picture"),
        Curve: ("curve", "document", "text", "series_picture"),
        StickerMap: ("sticker", "sticker", "sticker", "sticker_picture"),
        SweepResult: ("sweep", "sweep", "sweep", "sweep_picture"),
        Comparison: ("compare", "comparison", "comparison", "compare_picture"),
        SmoothResult: ("smooth", "smoothing", "smoothing", "smooth_picture"),
    }
)
"""Of each kind of answer its name, and the modules of `NAME_document`, `NAME_text` and `NAME_picture`, which
are loaded when they are asked for."""

_KNOW_THEIR_IMAGE = VerifyResult, VerifyResults, SmoothResult


def written(answer: Answer, image_name: str) -> tuple[RenderableType, BaseModel]:
    """An answer as text for people and as the document that `--json` writes.

    Raises:
        pydantic.ValidationError: a number of the answer is not finite.
    """
    name, documents, texts, _ = _KINDS[type(answer)]
    named = () if isinstance(answer, _KNOW_THEIR_IMAGE) else (image_name,)
    found: BaseModel = _of(documents, f"{name}_document")(answer, *named)
    text: RenderableType = _of(texts, f"{name}_text")(found)
    return text, found


def drawn(answer: Answer) -> Figure:
    """The picture of an answer."""
    name, *_, pictures = _KINDS[type(answer)]
    figure: Figure = _of(pictures, f"{name}_picture")(answer)
    return figure


def _of(module: str, name: str) -> Any:
    return getattr(import_module(f"corgi.reporting.{module}"), name)
