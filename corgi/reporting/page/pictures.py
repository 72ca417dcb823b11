"""The pictures of cards as data URLs: small PNG files, maps in one scale of colours for image and witness."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corgi.reporting import wording
from corgi.reporting.case import Case, Pictures
from corgi.reporting.document import VerifyDocument
from corgi.reporting.picture import MAP_COLOURS
from corgi.reporting.sweep import SweepDocument
from corgi.results import FloatArray

_COLOURS = (np.asarray(matplotlib.colormaps[MAP_COLOURS](range(255)))[:, :3] * 255).round().astype(np.uint8)
_PALETTE = [*_COLOURS.reshape(-1).tolist(), 160, 160, 160]
_NOTHING = 255
"""The colour, grey, of a map pixel without a value."""


def card_pictures(case: Case, pictures: Pictures | None) -> dict[str, Any]:
    """What the page draws on the card of a case, by name; empty if there is nothing to draw."""
    document = case.document
    if pictures is None or document is None:
        return {}
    maps = [pictures.cam] if pictures.witness_cam is None else [pictures.cam, pictures.witness_cam]
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    found: dict[str, Any] = {
        "image": _url(pictures.image_png),
        "map": _coloured(pictures.cam, low, high),
        "range": [f"{low:.4g}", f"{high:.4g}"],
    }
    if pictures.change_png is not None and pictures.witness_cam is not None:
        found |= {
            "change": _url(pictures.change_png),
            "witnessMap": _coloured(pictures.witness_cam, low, high),
            "gained": _gained(document, pictures.witness_cam),
        }
        if not wording.of_a_set(document):
            found["largest"] = _largest(pictures.witness_cam, document.k)
    if case.radii is not None:
        found["radii"] = _radius_map(np.array(case.radii.certified))
    return found


def _gained(
    document: VerifyDocument | SweepDocument, witness_cam: NDArray[np.floating[Any]]
) -> list[tuple[int, int]]:
    """Pixels among the k2 largest of the witness that are none of the k largest of the image."""
    return [place for place in _largest(witness_cam, document.k2) if place not in document.top_k]


def _largest(cam: NDArray[np.floating[Any]], count: int) -> list[tuple[int, int]]:
    """The largest pixels of a map."""
    order = np.argsort(-cam.reshape(-1), kind="stable")[:count]
    return [(int(i) // cam.shape[1], int(i) % cam.shape[1]) for i in order]


def _radius_map(radii: FloatArray) -> str:
    """Radii by their logarithm; those of 0 are grey."""
    positive = radii > 0
    logarithms = np.log(radii, out=np.full(radii.shape, np.nan), where=positive)
    low, high = (logarithms[positive].min(), logarithms[positive].max()) if positive.any() else (0.0, 1.0)
    return _coloured(logarithms, float(low), float(high))


def _coloured(values: NDArray[np.floating[Any]], low: float, high: float) -> str:
    """A map [h, w] as a picture with a palette; NaN is grey."""
    # In float64, in which the difference of any two values of a float32 map is finite.
    scaled = (values.astype(np.float64) - low) / (high - low if high > low else 1.0) * 254
    index = np.where(np.isnan(scaled), _NOTHING, np.clip(np.nan_to_num(scaled), 0, 254).round())
    return _url(_palette_png(index.astype(np.uint8)))


def _palette_png(index: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(index)
    image.putpalette(_PALETTE)  # makes grey values places in the palette
    target = BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
