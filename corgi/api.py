"""The short calls of the public API; `corgi/__init__.py` exports them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from corgi.certify.verify import VerifyOptions
from corgi.certify.verify import verify as _verify
from corgi.data.image import load_input
from corgi.data.preprocess import Recipe
from corgi.network.network import Network
from corgi.progress import Listener, silent
from corgi.results import ImageArray, VerifyResult


def read_image(path: str | Path, network: Network, preprocess: str | None = None) -> ImageArray:
    """The input of a network that an image file (PNG, JPEG, PPM, NPY) stands for: [C, H, W], float32, [0, 1].

    `preprocess` is a recipe such as "center-crop,resize"; None takes the model's own, if it carries one.

    Raises:
        ImageError: the file cannot be read or does not fit the network; the message says what would.
        UsageError: no such recipe.
    """
    own = None if network.preprocess is None else Recipe.parse(network.preprocess)
    asked = None if preprocess is None else Recipe.parse(preprocess)
    return load_input(Path(path), network.input_shape, asked, own)


def verify(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Any,
) -> VerifyResult:
    """Certify the top-k set of the map of an image [C, H, W], float32 in [0, 1].

    `changes` are fields of `VerifyOptions`, for short calls: `verify(network, image, k=15, eps=0.001)`.
    Radii are in the pixel scale [0, 1] of the network's input. See `corgi.certify.verify.verify` for errors.
    """
    chosen = replace(options or VerifyOptions(), **changes)
    return _verify(network, image, chosen, image_name=image_name, listener=listener)
