"""The short calls of the public API; `corgi/__init__.py` exports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corgi.certify.batch import verify_batch as _verify_batch
from corgi.certify.batch import verify_radii
from corgi.certify.batch import verify_ranks as _verify_ranks
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


def verify_batch(
    network: Network,
    images: Sequence[ImageArray],
    options: VerifyOptions | None = None,
    *,
    radii: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    listener: Listener = silent,
    **changes: Any,
) -> tuple[VerifyResult, ...] | tuple[tuple[VerifyResult, ...], ...]:
    """Certify the maps of several images [C, H, W] in one call.

    Without `radii`, one result an image, as `verify` gives it. With `radii`, every radius is decided for
    every image, results [images][radii]; the patch engine bounds many balls in one pass. Radii are in the
    pixel scale [0, 1]. See `corgi.certify.verify.verify` for errors.
    """
    chosen = replace(options or VerifyOptions(), **changes)
    called = [f"array {i}" for i in range(len(images))] if names is None else names
    if radii is None:
        return _verify_batch(network, images, chosen, called, listener)
    return verify_radii(network, images, radii, chosen, called, listener)


def verify_ranks(
    network: Network,
    image: ImageArray,
    ranks: Sequence[tuple[int, int]],
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Any,
) -> tuple[VerifyResult, ...]:
    """One result for each (k, k2) of one image [C, H, W]: the curve of radii against k or k2.

    Bounds computed for one rank serve the others. See `corgi.certify.verify.verify` for errors.
    """
    chosen = replace(options or VerifyOptions(), **changes)
    return _verify_ranks(network, image, ranks, chosen, image_name, listener)
