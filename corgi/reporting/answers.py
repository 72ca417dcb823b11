"""Every answer about the map of one image, as text and document, and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel
from rich.console import RenderableType

from corgi.certify.attack import AttackResult
from corgi.certify.curve import Curve
from corgi.certify.explain import Explanation
from corgi.certify.radii import PixelRadii
from corgi.certify.sweep import SweepResult
from corgi.comparison.rows import Comparison
from corgi.reporting import document, text
from corgi.results import SmoothResult, VerifyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Answer = (
    VerifyResult | Explanation | AttackResult | PixelRadii | Curve | Comparison | SmoothResult | SweepResult
)


def written(answer: Answer, image_name: str) -> tuple[RenderableType, BaseModel]:
    """An answer as text for people and as the document that `--json` writes.

    Raises:
        pydantic.ValidationError: a number of the answer is not finite.
    """
    found: BaseModel
    match answer:
        case VerifyResult():
            found = document.verify_document(answer)
            return text.verify_text(found), found
        case Explanation():
            found = document.cam_document(answer, image_name)
            return text.cam_text(found), found
        case AttackResult():
            found = document.attack_document(answer, image_name)
            return text.attack_text(found), found
        case PixelRadii():
            found = document.radii_document(answer, image_name)
            return text.radii_text(found), found
        case Curve():
            found = document.curve_document(answer, image_name)
            return text.curve_text(found), found
        case Comparison():
            from corgi.reporting.comparison import compare_document, compare_text

            found = compare_document(answer, image_name)
            return compare_text(found), found
        case SmoothResult():
            from corgi.reporting.smoothing import smooth_document, smooth_text

            found = smooth_document(answer)
            return smooth_text(found), found
        case SweepResult():
            from corgi.reporting.sweep import sweep_document, sweep_text

            found = sweep_document(answer, image_name)
            return sweep_text(found), found


def drawn(answer: Answer) -> Figure:
    """The picture of an answer."""
    from corgi.reporting import compare_picture, picture, series_picture, smooth_picture, sweep_picture

    match answer:
        case VerifyResult():
            return picture.verify_picture(answer)
        case Explanation():
            return picture.cam_picture(answer)
        case AttackResult():
            return picture.attack_picture(answer)
        case PixelRadii():
            return series_picture.radii_picture(answer)
        case Curve():
            return series_picture.curve_picture(answer)
        case Comparison():
            return compare_picture.compare_picture(answer)
        case SmoothResult():
            return smooth_picture.smooth_picture(answer)
        case SweepResult():
            return sweep_picture.sweep_picture(answer)
