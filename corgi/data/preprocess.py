"""Pre-processing recipes: what happens to a picture before a network sees it.

A recipe is a comma-separated list of step names, applied from left to right; it travels with a model in
the ONNX metadata key `corgi.preprocess`. `gtsrb` names the pipeline of Gu et al. (their published code):
equalise V in HSV, cut the central square, resize.

Steps see the picture in RGB. The order of channels that a network takes is no step but part of the network,
as its normalisation is (`network/wrap.py`): pictures, witnesses and radii are the same for all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corgi.data.window import Box, Window
from corgi.errors import UsageError

Pixels = NDArray[np.float64]
Step = Callable[[Pixels, tuple[int, int]], Pixels]

METADATA_KEY = "corgi.preprocess"
"""The ONNX `metadata_props` key that holds a model's own recipe."""

NONE = "none"

MOST_STEPS = 16
"""Steps of a recipe: one that a hostile file carries could go on for hours."""


def _equalized(values: Pixels) -> Pixels:
    from skimage import exposure

    equalize: Callable[..., Any] = exposure.equalize_hist  # scikit-image ships no types for it
    return np.asarray(equalize(values))


def _equalize_value(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Histogram equalisation (256 bins) of V in HSV; of the grey value itself on a grey picture."""
    if pixels.shape[2] == 1:
        return _equalized(pixels[:, :, 0])[:, :, np.newaxis]
    from skimage import color

    hsv = color.rgb2hsv(pixels)
    hsv[:, :, 2] = _equalized(hsv[:, :, 2])
    return np.asarray(color.hsv2rgb(hsv))


def _center_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The central square of the shorter side.

    Both halves are floor(side / 2) long, so an odd side loses one pixel: the authors' crop, which
    networks trained on it expect. A side of 1 stays 1.
    """
    top, left, side = _central(*pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _central(height: int, width: int) -> tuple[int, int, int]:
    """First row, first column and side of what `_center_crop` keeps."""
    half = min(height, width) // 2
    return height // 2 - half, width // 2 - half, max(2 * half, 1)


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear resize to the network's size, smoothed first where it shrinks (skimage's default).

    Pixels are squares of the plane: what lies at the share s of the side before does so after (`window`).
    """
    from skimage import transform

    resize: Callable[..., Any] = transform.resize  # scikit-image ships no types for it
    return np.asarray(resize(pixels, size))


def _grey(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Colour to luminance (skimage's weights for linear light, 0.2125 / 0.7154 / 0.0721)."""
    if pixels.shape[2] == 1:
        return pixels
    from skimage import color

    return np.asarray(color.rgb2gray(pixels))[:, :, np.newaxis]


STEPS: Mapping[str, Step] = MappingProxyType(
    {"equalize-value": _equalize_value, "center-crop": _center_crop, "resize": _resize, "grey": _grey}
)
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {NONE: (), "gtsrb": ("equalize-value", "center-crop", "resize")}
)


@dataclass(frozen=True)
class Recipe:
    """A pipeline of named steps; the empty one leaves a picture as it is.

    Attributes:
        steps: names from `STEPS`, in order of application.

    Raises:
        UsageError: a step has another name, or there are more than `MOST_STEPS`.
    """

    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.steps) > MOST_STEPS:
            raise UsageError(f"a recipe of {len(self.steps)} steps, expected at most {MOST_STEPS}")
        for step in self.steps:
            if step not in STEPS:
                known = ", ".join([*STEPS, *ALIASES])
                raise UsageError(
                    f"unknown pre-processing step {step!r}",
                    hint=f"A recipe is a comma-separated list of: {known}."
                    " What the network expects of pixels is no step: --colour-order, --scale, --mean, --std.",
                )

    @staticmethod
    def parse(text: str) -> Recipe:
        """The recipe written as `equalize-value,center-crop,resize`, `gtsrb` or `none`.

        Raises:
            UsageError: a step is unknown or empty, or `none` stands beside other steps.
        """
        names = [name.strip() for name in text.split(",")]
        if NONE in names and len(names) > 1:
            raise UsageError(f"recipe {text!r} combines `none` with other steps", hint="Drop `none`.")
        return Recipe(tuple(step for name in names for step in ALIASES.get(name, (name,))))

    def __str__(self) -> str:
        return ",".join(self.steps) or NONE

    def window(self, picture: tuple[int, int], size: tuple[int, int]) -> Window:
        """The part of a picture that is left, and fills the network's input, after all steps.

        Args:
            picture: height and width of the picture.
            size: of the network's input.
        """
        (height, width), box = picture, Box.whole(picture)
        for step in self.steps:
            if step == "center-crop":
                row, column, side = _central(height, width)
                down, right = (box.bottom - box.top) / height, (box.right - box.left) / width
                top, left = box.top + row * down, box.left + column * right
                box = Box(left, top, left + side * right, top + side * down)
                height = width = side
            elif step == "resize":
                height, width = size
        return Window(picture, box)

    def apply(self, pixels: Pixels, size: tuple[int, int]) -> Pixels:
        """Pixels [H, W, C] in [0, 1] after all steps.

        Args:
            pixels: C is 3 (red, green, blue) or 1 (grey).
            size: height and width of the network input; the `resize` step goes there.
        """
        for step in self.steps:
            pixels = STEPS[step](pixels, size)
        # Rounding in the HSV round trip can leave the box by an ulp; a pixel never may.
        return np.clip(pixels, 0.0, 1.0)


GTSRB = Recipe(ALIASES["gtsrb"])
"""The pre-processing of Gu et al."""
