"""What a row draws of a result, small enough to keep for every image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corgi.certify.sweep import SweepResult
from corgi.reporting.case import Pictures
from corgi.results import FloatArray, VerifyResult, Witness

LARGEST_SIDE = 256
"""Pixels; a larger input is kept scaled down."""


def pictures_of(result: VerifyResult | SweepResult) -> Pictures:
    """Image, map, and the witness: along a change itself, in a ball what it changed."""
    if isinstance(result, SweepResult):
        found, shown = result.witness, result.explanation
        witness = None if found is None else found.witness
        return _pictures(shown.image, shown.cam, witness, None if witness is None else _png(witness.image))
    witness = None if result.attack is None else result.attack.witness
    image, change = result.image.astype(np.float64), None
    if witness is not None:
        moved = witness.image - image
        change = _png(0.5 + 0.5 * moved / np.abs(moved).max())  # a witness is another image: not all zero
    return _pictures(image, result.cam, witness, change)


def _pictures(
    image: NDArray[Any], cam: FloatArray, witness: Witness | None, change: bytes | None
) -> Pictures:
    return Pictures(_png(image), change, _drawn(cam), None if witness is None else _drawn(witness.cam))


def _drawn(cam: FloatArray) -> NDArray[np.float32]:
    """A map in float32; values beyond its range are drawn at the ends of it."""
    most = float(np.finfo(np.float32).max)
    return np.clip(cam, -most, most).astype(np.float32)


def _png(values: NDArray[Any]) -> bytes:
    """[C, H, W] in [0, 1] as a PNG: colour if it has three channels, else their mean in grey."""
    shown = values.transpose(1, 2, 0) if len(values) == 3 else values.mean(0)
    picture = Image.fromarray(np.ascontiguousarray(np.rint(255 * shown).astype(np.uint8)))
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    target = io.BytesIO()
    picture.save(target, format="PNG", optimize=True)
    return target.getvalue()
