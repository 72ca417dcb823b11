"""The short calls of the public API; `corgi/__init__.py` exports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from corgi.attacks.search import AttackOptions
from corgi.certify.batch import verify_batch as _verify_batch
from corgi.certify.batch import verify_radii
from corgi.certify.batch import verify_ranks as _verify_ranks
from corgi.certify.exact import ExactOptions
from corgi.certify.methods import build_engine, decides_exactly, engine_of
from corgi.certify.verify import VerifyOptions
from corgi.certify.verify import verify as _verify
from corgi.data.image import load_input
from corgi.data.preprocess import Recipe
from corgi.engines.interface import BoundEngine
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.progress import Listener, silent
from corgi.results import ImageArray, VerifyResult
from corgi.terms import EngineName, Form, Method, Norm

E = TypeVar("E", bound=StrEnum)


class Changes(TypedDict, total=False):
    """Fields of `VerifyOptions`, and of an engine its name and that of its method, as on the command line.

    Where engine or method is named, margins are decided exactly if the command line would do so, unless
    `exact` is given.
    """

    k: int | None
    k2: int | None
    class_id: int | None
    norm: Norm | str
    eps: float | None
    engine: BoundEngine | EngineName | str
    method: Method | str
    form: Form | str
    attack: AttackOptions | None
    exact: ExactOptions | None
    tolerance: float
    max_evaluations: int
    time_limit: float | None
    label: bool


def _chosen(options: VerifyOptions | None, changes: Changes) -> VerifyOptions:
    """Options with changes.

    Raises:
        UsageError: a name that is none, or an engine without the method.
    """
    options, asked = options or VerifyOptions(), dict[str, Any](changes)
    for name, kind in (("norm", Norm), ("form", Form), ("method", Method)):
        if name in asked:
            asked[name] = _named(name, kind, asked[name])
    method, engine = asked.pop("method", None), asked.get("engine")
    if method is None and not isinstance(engine, str):
        return replace(options, **asked)
    if engine is not None and not isinstance(engine, str):
        raise UsageError(f"method {method} beside an engine", hint="Name the engine, or give it its method.")
    named = None if engine is None else _named("engine", EngineName, engine)
    form = asked.get("form", options.form)
    asked["engine"] = build_engine(*engine_of(named, method, form))
    exact = (options.exact or ExactOptions()) if decides_exactly(named, method, form) else None
    return replace(options, **{"exact": exact} | asked)


def _named(name: str, kind: type[E], value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} {value!r}: expected one of {', '.join(kind)}") from None


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
    **changes: Unpack[Changes],
) -> VerifyResult:
    """Certify the top-k set of the map of an image [C, H, W], float32 in [0, 1].

    `changes`, for short calls: `verify(network, image, k=15, norm="l2", method="crown")`; see `Changes`.
    Radii are in the pixel scale [0, 1] of the network's input. See `corgi.certify.verify.verify` for errors.
    """
    chosen = _chosen(options, changes)
    return _verify(network, image, chosen, image_name=image_name, listener=listener)


def verify_batch(
    network: Network,
    images: Sequence[ImageArray],
    options: VerifyOptions | None = None,
    *,
    radii: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    listener: Listener = silent,
    **changes: Unpack[Changes],
) -> tuple[VerifyResult, ...] | tuple[tuple[VerifyResult, ...], ...]:
    """Certify the maps of several images [C, H, W] in one call.

    Without `radii`, one result an image, as `verify` gives it. With `radii`, every radius is decided for
    every image, results [images][radii]; the patch engine bounds many balls in one pass. Radii are in the
    pixel scale [0, 1]. See `corgi.certify.verify.verify` for errors.
    """
    chosen = _chosen(options, changes)
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
    **changes: Unpack[Changes],
) -> tuple[VerifyResult, ...]:
    """One result for each (k, k2) of one image [C, H, W]: the curve of radii against k or k2.

    Bounds computed for one rank serve the others. See `corgi.certify.verify.verify` for errors.
    """
    chosen = _chosen(options, changes)
    return _verify_ranks(network, image, ranks, chosen, image_name, listener)
