"""The short calls of the public API: what `corgi` on the command line asks, as functions.

Options come as a value, as keywords named like its fields, or both; where a field holds a name (a norm, a
method), its string will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from numpy.typing import NDArray

from corgi.attacks.places import PlacesAttack
from corgi.attacks.search import AttackOptions
from corgi.batch.call import BatchResult
from corgi.batch.call import run_batch as _run_batch
from corgi.batch.items import of_paths
from corgi.batch.question import Question
from corgi.batch.report import TITLE, ReportResult
from corgi.batch.report import report as _report
from corgi.batch.run import Tally
from corgi.batch.store import Item
from corgi.budget import apart, heard
from corgi.certify.attack import AttackResult
from corgi.certify.attack import attack as _attack
from corgi.certify.batch import verify_batch as _verify_batch
from corgi.certify.batch import verify_radii
from corgi.certify.batch import verify_ranks as _verify_ranks
from corgi.certify.curve import Curve, radius_curve
from corgi.certify.methods import build_engine, decides_exactly, engine_of
from corgi.certify.radii import PixelRadii, RadiiOptions, pixel_radii
from corgi.certify.several import verify_properties as _verify_properties
from corgi.certify.shares import RadiiDecided
from corgi.certify.shares import decide_radii as _decide_radii
from corgi.certify.smooth import smooth_map
from corgi.certify.sticker import StickerMap, StickerOptions, sticker_map
from corgi.certify.sweep import SweepOptions, SweepResult
from corgi.certify.sweep import sweep as _sweep
from corgi.certify.verify import VerifyOptions
from corgi.certify.verify import verify as _verify
from corgi.changes.interface import Change
from corgi.changes.wanted import WantedChange
from corgi.comparison.compare import compare as _compare
from corgi.comparison.options import CompareOptions
from corgi.comparison.rows import Comparison
from corgi.data.image import load_input, look_at
from corgi.data.preprocess import Recipe
from corgi.data.region import Region
from corgi.data.region import read_region as _read_region
from corgi.data.where import WantedWhere, where_of
from corgi.data.window import Window
from corgi.decide.ball import ExactOptions
from corgi.decide.parts import Fineness
from corgi.engines.interface import BoundEngine
from corgi.errors import UsageError
from corgi.network.loading import Loading
from corgi.network.network import Network
from corgi.progress import Listener, silent
from corgi.properties.interface import Property
from corgi.results import ImageArray, Place, SmoothResult, VerifyResult, VerifyResults
from corgi.smoothing.options import SmoothOptions, order_of
from corgi.terms import (
    AttackKind,
    Claim,
    Confidence,
    Correction,
    EngineName,
    Form,
    MapForm,
    MapName,
    Method,
    Norm,
    PropertyName,
    Size,
)
from corgi.types import Where
from corgi.wanted import WantedProperty, plain_region

E = TypeVar("E", bound=StrEnum)

_NAMES: dict[str, type[StrEnum]] = {
    "norm": Norm,
    "form": Form,
    "method": Method,
    "kind": AttackKind,
    "claim": Claim,
    "map": MapName,
    "confidence": Confidence,
    "correction": Correction,
}
"""Fields of options that hold a name."""


_NAMES_OF_PROPERTIES = f"Expected property = one of {', '.join(PropertyName)}, or several with + between."


class Asking(TypedDict, total=False):
    """What is asked of the map, if not by a `Property`: names, `pointing+overlap`, and their options.

    A region is map pixels (flat indices), a `Region` (`read_region`), or a text as on the command line; a box
    or a mask then is in pixels of the network's input, and `annotation` needs a picture's file: read it by
    `read_region`. Only `run_batch`, which knows the files, reads any text, anew for each of them.
    """

    property: Property | str | None
    keep: int | None
    region: str | Region | Sequence[int] | None
    threshold: float | None
    iou: float | None
    above: tuple[Place, ...] | None
    below: tuple[Place, ...] | None
    within: float | None


Places = Where | NDArray[Any] | str
"""Which pixels may change: bool or shares of the radius, [H, W] or [C, H, W] of the network's input, or a
text as on the command line, whose boxes and masks then are in pixels of the input."""


class Changes(Asking, total=False):
    """Fields of `VerifyOptions`, and of an engine its name and that of its method, as on the command line.

    Where engine or method is named, margins are decided exactly if the command line would do so, unless
    `exact` is given.
    """

    k: Size
    k2: int | None
    class_id: int | None
    norm: Norm | str
    where: Places | None
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


class AttackChanges(Asking, total=False):
    """Fields of `AttackOptions`, and what is asked of the map."""

    kind: AttackKind | str
    keep_label: bool
    steps: int | None
    restarts: int
    pairs: int
    softplus_beta: float
    tolerance: float
    rounds: int
    seed: int


class RadiiChanges(TypedDict, total=False):
    """Fields of `RadiiOptions`."""

    k: Size
    class_id: int | None
    norm: Norm | str
    outside: int
    engine: BoundEngine
    exact: ExactOptions
    attack: AttackOptions
    time_limit: float | None


class StickerChanges(Asking, total=False):
    """Fields of `StickerOptions`, and what is asked of the map."""

    size: int
    stride: int
    eps: float
    k: Size
    class_id: int | None
    engine: BoundEngine
    exact: ExactOptions | None
    attack: PlacesAttack
    time_limit: float | None
    seed: int


class SweepChanges(Asking, total=False):
    """Fields of `SweepOptions`."""

    sizes: tuple[float, ...] | None
    k: Size
    k2: int | None
    class_id: int | None
    time_limit: float | None
    fineness: Fineness
    eps: float


class CompareChanges(TypedDict, total=False):
    """Fields of `CompareOptions`; a region as `Asking` has it."""

    k: Size
    class_id: int | None
    region: str | Region | Sequence[int] | None
    share: float
    sigma: float
    samples: int
    failure: float
    time_limit: float | None
    seed: int


class SmoothChanges(TypedDict, total=False):
    """Fields of `SmoothOptions`."""

    k: Size
    claim: Claim | str
    map: MapName | str
    form: MapForm | str | None
    tau: float | None
    gamma: float | None
    overlap: int | None
    radius: float | None
    norm: float | Norm | str
    sigma: float
    samples: int
    failure: float
    confidence: Confidence | str | None
    correction: Correction | str | None
    eta: float | None
    center: int | None
    as_published: bool
    seed: int
    batch: int | None
    time_limit: float | None


def _named(name: str, kind: type[E], value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} {value!r}: expected one of {', '.join(kind)}") from None


def _fields(changes: Any, **kinds: type[StrEnum]) -> dict[str, Any]:
    """Changes with names for strings; `kinds`: fields whose names are others than elsewhere.

    Raises:
        UsageError: a name that is none.
    """
    known = _NAMES | kinds
    return {
        field: _named(field, known[field], value) if field in known and isinstance(value, str) else value
        for field, value in changes.items()
    }


def _wanted(asked: dict[str, Any]) -> WantedProperty | None:
    """What is asked of the map by names and options, taken out of `asked`; None where nothing is.

    Raises:
        UsageError: see `WantedProperty`; or options beside a `Property`, which has its own.
    """
    found = asked.get("property")
    given = {name: asked.pop(name) for name in Asking.__annotations__ if name != "property" and name in asked}
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(found, str):
        if given and found is not None:
            raise UsageError(f"{', '.join(given)}: beside a property, which has its own options")
        if given:
            raise UsageError(f"{', '.join(given)}: without a property", hint=_NAMES_OF_PROPERTIES)
        return None
    asked.pop("property")
    wanted = WantedProperty.read(found, **given | {"region": plain_region(given.get("region"))})
    if wanted.plain or PropertyName.TOPK not in wanted.names:
        return wanted
    return replace(wanted, k2=asked.pop("k2", None))


def _property(asked: dict[str, Any], network: Network) -> None:
    """Put a `Property` for names and options, of an image that is the network's input."""
    wanted = _wanted(asked)
    if wanted is not None:
        whole = Window.whole((network.input_shape[1], network.input_shape[2]))
        found = None if wanted.plain else wanted.property(network.head.map_shape, whole)
        asked["property"] = found


def _where(places: Places | None, network: Network) -> Where | None:
    """What may change of an image that is the network's input.

    Raises:
        UsageError: no such places.
    """
    if places is None or isinstance(places, Where):
        return places
    if isinstance(places, str):
        whole = Window.whole((network.input_shape[1], network.input_shape[2]))
        return WantedWhere(places).read(network.input_shape, whole)
    return where_of(places, network.input_shape, "marked by an array")


def _properties(
    properties: Sequence[Property | str], asked: dict[str, Any], network: Network
) -> list[Property]:
    """Properties with their names built of the options in `asked`, which are taken out of it.

    Raises:
        UsageError: see `WantedProperty.read_each`.
    """
    names = [one for one in properties if isinstance(one, str)]
    options = {name: asked.pop(name) for name in (*Asking.__annotations__, "k2") if name in asked}
    options["region"] = plain_region(options.get("region"))
    each = WantedProperty.read_each(names, **options)
    whole = Window.whole((network.input_shape[1], network.input_shape[2]))
    built = iter([wanted.property(network.head.map_shape, whole) for wanted in each])
    return [next(built) if isinstance(one, str) else one for one in properties]


def _chosen(options: VerifyOptions | None, changes: Changes, network: Network) -> VerifyOptions:
    """Options with changes.

    Raises:
        UsageError: a name that is none, or an engine without the method.
    """
    asked = dict[str, Any](changes)
    _property(asked, network)
    if "where" in asked:
        asked["where"] = _where(asked["where"], network)
    return _changed(options, asked)


def _changed(options: VerifyOptions | None, changes: Any) -> VerifyOptions:
    """The same with changes that hold a `Property` or nothing of it."""
    options, asked = options or VerifyOptions(), _fields(changes)
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


def read_region(
    text: str, network: Network, picture: str | Path | None = None, preprocess: str | None = None
) -> Region:
    """The pixels of a network's map that a text names, as `--region` does: `X1,Y1,X2,Y2`, FILE, `annotation`.

    `picture`: the image file whose pixels the text speaks of; None for the network's input. `preprocess` is
    the recipe it is read by, None for the model's own.

    Raises:
        UsageError, ImageError, DataError: see `corgi.data.region.read_region`.
    """
    shape = network.head.map_shape
    if picture is None:
        return _read_region(text, Window.whole((network.input_shape[1], network.input_shape[2])), shape)
    own = None if network.preprocess is None else Recipe.parse(network.preprocess)
    asked = None if preprocess is None else Recipe.parse(preprocess)
    seen = look_at(Path(picture), network.input_shape, asked, own)
    return _read_region(text, seen.window, shape, Path(picture))


@apart
def verify(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Unpack[Changes],
) -> VerifyResult:
    """Certify the top-k set of the map of an image [C, H, W], float32 in [0, 1], or another property.

    `changes`, for short calls: `verify(network, image, k=15, norm="l2", method="crown")`; see `Changes`;
    `verify(network, image, property="pointing", region="10,10,40,40")` asks of the map what `Asking` names.
    Radii are in the pixel scale [0, 1] of the network's input. See `corgi.certify.verify.verify` for errors.
    """
    chosen = _chosen(options, changes, network)
    with heard(listener):
        return _verify(network, image, chosen, image_name=image_name)


@apart
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
    chosen = _chosen(options, changes, network)
    called = [f"array {i}" for i in range(len(images))] if names is None else names
    with heard(listener):
        if radii is None:
            return _verify_batch(network, images, chosen, called)
        return verify_radii(network, images, radii, chosen, called)


@apart
def decide_radii(
    network: Network,
    image: ImageArray,
    radii: Sequence[float],
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Unpack[Changes],
) -> RadiiDecided:
    """Decide radii around an image [C, H, W]: of each whether the property is proved, refuted or open.

    One search brackets them all; what it leaves open is decided one by one. The time limit is that of all
    together. See `corgi.certify.shares.decide_radii` for errors.
    """
    chosen = _chosen(options, changes, network)
    with heard(listener):
        return _decide_radii(network, image, chosen, radii, image_name=image_name)


@apart
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
    chosen = _chosen(options, changes, network)
    with heard(listener):
        return _verify_ranks(network, image, ranks, chosen, image_name)


@apart
def verify_properties(
    network: Network,
    image: ImageArray,
    properties: Sequence[Property | str],
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Unpack[Changes],
) -> VerifyResults:
    """One result for each property of the map of an image [C, H, W]: bounds of one serve the others.

    `properties`, values or names; of names each takes those of the options that it has:
    `verify_properties(network, image, ["pointing", "overlap"], region="10,10,40,40", keep=12)`. The time
    limit is that of all together. See `corgi.certify.several.verify_properties` for errors.
    """
    asked = dict[str, Any](changes)
    if "property" in asked:
        raise UsageError("property beside properties", hint="Name it among them.")
    found = _properties(properties, asked, network)
    asked["where"] = _where(asked.get("where", options and options.where), network)
    chosen = _changed(options, asked)
    with heard(listener):
        return _verify_properties(network, image, found, chosen, image_name=image_name)


@apart
def attack(
    network: Network,
    image: ImageArray,
    options: AttackOptions | None = None,
    *,
    k: Size = None,
    k2: int | None = None,
    class_id: int | None = None,
    norm: Norm | str = Norm.LINF,
    where: Places | None = None,
    eps: float | None = None,
    time_limit: float | None = None,
    listener: Listener = silent,
    **changes: Unpack[AttackChanges],
) -> AttackResult:
    """Look for the closest image whose map has other largest pixels: an upper bound, no guarantee.

    Radii are in the pixel scale [0, 1]; with `eps` only that radius is attacked. After
    `time_limit` seconds the best until then is the answer. See `corgi.certify.attack.attack`, also for
    errors.
    """
    asked = dict[str, Any](changes) | {"k2": k2}
    _property(asked, network)
    k2, wanted = asked.pop("k2", None), asked.pop("property", None)
    chosen = replace(options or AttackOptions(), **_fields(asked))
    norm = _named("norm", Norm, norm)
    with heard(listener):
        return _attack(
            network,
            image,
            chosen,
            k=k,
            k2=k2,
            property=wanted,
            class_id=class_id,
            norm=norm,
            where=_where(where, network),
            eps=eps,
            time_limit=time_limit,
        )


@apart
def radii(
    network: Network,
    image: ImageArray,
    options: RadiiOptions | None = None,
    *,
    listener: Listener = silent,
    **changes: Unpack[RadiiChanges],
) -> PixelRadii:
    """For every pixel of an image's map the radius within which it stays on its side of rank k.

    See `corgi.certify.radii.pixel_radii` for errors.
    """
    with heard(listener):
        return pixel_radii(network, image, replace(options or RadiiOptions(), **_fields(changes)))


@apart
def curve(
    network: Network,
    image: ImageArray,
    ks: Sequence[int],
    k2s: Sequence[int] = (),
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Unpack[Changes],
) -> Curve:
    """Radii of an image's map for every k of `ks`, and for the options' k with every k2 of `k2s`.

    See `corgi.certify.verify.verify` for errors.
    """
    chosen = _chosen(options, changes, network)
    with heard(listener):
        return radius_curve(network, image, ks, k2s, chosen, image_name=image_name)


@apart
def sticker(
    network: Network,
    image: ImageArray,
    options: StickerOptions | None = None,
    *,
    listener: Listener = silent,
    **changes: Unpack[StickerChanges],
) -> StickerMap:
    """Decide at every place of an image [C, H, W] whether a sticker there breaks the property of its map.

    See `corgi.certify.sticker.sticker_map` for errors.
    """
    asked = dict[str, Any](changes)
    _property(asked, network)
    with heard(listener):
        return sticker_map(network, image, replace(options or StickerOptions(), **asked))


def sweep(
    network: Network,
    image: ImageArray,
    change: Change | str,
    options: SweepOptions | None = None,
    *,
    listener: Listener = silent,
    **changes: Unpack[SweepChanges],
) -> SweepResult:
    """Where a property of an image's map [C, H, W] holds along a change: `sweep(network, image, "fog")`.

    A change is a name as on the command line, `brightness+contrast`, `haze:FILE`, or a `Change`; images it
    names are read as `read_image` does, and a region is in pixels of the network's input. `sizes`: how far
    its parameters run; `eps`: of a ball around each image. See `corgi.certify.sweep.sweep` for errors.
    """
    asked = dict[str, Any](changes)
    _property(asked, network)
    if isinstance(change, str):
        whole = Window.whole(network.input_shape[1:])
        change = WantedChange(change).read(network.input_shape, whole, None, partial(_input_of, network))
    with heard(listener):
        return _sweep(network, image, change, replace(options or SweepOptions(), **_fields(asked)))


def _input_of(network: Network, path: Path) -> ImageArray:
    return read_image(path, network)


@apart
def compare(
    network: Network,
    image: ImageArray,
    options: CompareOptions | None = None,
    *,
    listener: Listener = silent,
    **changes: Unpack[CompareChanges],
) -> Comparison:
    """Every kind of certificate for the map of an image [C, H, W], side by side.

    See `corgi.comparison.compare.compare` for errors.
    """
    asked = _fields(changes)
    if asked.get("region") is not None:
        wanted = WantedProperty((PropertyName.POINTING,), region=plain_region(asked["region"]))
        whole = Window.whole((network.input_shape[1], network.input_shape[2]))
        found = wanted.property(network.head.map_shape, whole)
        asked["region"] = found.statement(1).region
    with heard(listener):
        return _compare(network, image, replace(options or CompareOptions(), **asked))


@apart
def smooth(
    network: Network,
    image: ImageArray,
    options: SmoothOptions | None = None,
    *,
    class_id: int | None = None,
    state: str | Path | None = None,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Unpack[SmoothChanges],
) -> SmoothResult:
    """Certify, with high probability, the map of an image [C, H, W] averaged over noise.

    Radii are in the pixel scale [0, 1]; `norm` is the d of l_d or its name, as "l4". `state` is a file of
    samples to go on from and to save all in. See `corgi.certify.smooth.smooth_map` for errors, and
    `corgi.smoothing.smooth.smooth` for base maps of your own.
    """
    asked = dict[str, Any](changes)
    if isinstance(norm := asked.pop("norm", None), str):
        norm = order_of(norm)
    asked = _fields(asked, form=MapForm) | ({} if norm is None else {"norm": norm})
    with heard(listener):
        return smooth_map(
            network,
            image,
            replace(options or SmoothOptions(), **asked),
            class_id=class_id,
            state=None if state is None else Path(state),
            image_name=image_name,
        )


@apart
def run_batch(
    model: str | Path,
    images: Iterable[str | Path | Item],
    store: str | Path = "runs.sqlite",
    options: VerifyOptions | None = None,
    *,
    radii: Sequence[float] = (),
    change: str | None = None,
    sizes: Sequence[float] | None = None,
    loading: Loading | None = None,
    preprocess: str | None = None,
    retry: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    on_progress: Callable[[Tally], None] = lambda _: None,
    **changes: Unpack[Changes],
) -> BatchResult:
    """Certify the maps of many images, one row each in a store; rows that are there are not computed again.

    `images` are files, folders with all below them, or items of `corgi.batch.items`. Workers are started
    processes, so a script calls this below `if __name__ == "__main__":`. Rows written before an error or
    Ctrl-C stay. `radii`, in the pixel scale, are decided besides the search (`decide_radii`). With `change`,
    as it is written on the command line, each row is the answer of `sweep` about `sizes` of it. See
    `corgi.batch.call.run_batch` for arguments and errors.
    """
    given = list(images)
    items = [one for one in given if isinstance(one, Item)]
    items += of_paths(Path(one) for one in given if not isinstance(one, Item)).items
    asked = dict[str, Any](changes)
    wanted, where = _wanted(asked) or WantedProperty(), asked.get("where")
    if isinstance(where, str):
        where = WantedWhere(asked.pop("where"))
    elif where is not None and not isinstance(where, Where):
        raise UsageError("where: an array is of one input's shape", hint="Expected a text, or a `Where`.")
    else:
        where = None
    chosen = _changed(options, asked)
    along = None if change is None else WantedChange(change)
    question = Question(
        chosen,
        loading or Loading(),
        preprocess,
        wanted,
        tuple(radii),
        where,
        along,
        None if sizes is None else tuple(sizes),
    )
    return _run_batch(
        Path(model),
        items,
        Path(store),
        question,
        retry=retry,
        workers=workers,
        ray=ray,
        command="corgi.run_batch",
        on_progress=on_progress,
    )


@apart
def report(
    stores: str | Path | Sequence[str | Path],
    *,
    title: str = TITLE,
    radii: Sequence[str | Path] = (),
    page: bool = True,
    listener: Listener = silent,
) -> ReportResult:
    """Report on the rows of stores that `run_batch` wrote: figures, Markdown, a page and its document.

    `radii` are files of `corgi radii --json`. Without `page` there are figures and Markdown alone. See
    `corgi.batch.report.report` for errors.
    """
    paths = [stores] if isinstance(stores, (str, Path)) else stores
    with heard(listener):
        return _report(
            [Path(path) for path in paths],
            title=title,
            radii=[Path(path) for path in radii],
            with_page=page,
            with_document=page,
            command="corgi.report",
        )
