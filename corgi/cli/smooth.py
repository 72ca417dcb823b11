"""`corgi smooth`: a statistical certificate of a map averaged over noise."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.errors import UsageError
from corgi.smoothing.options import SmoothOptions
from corgi.terms import (
    PICTURE_FORMATS,
    Claim,
    Confidence,
    Correction,
    MapForm,
    MapKind,
    MapName,
    Status,
)

if TYPE_CHECKING:
    from corgi.certify.explain import Explanation
    from corgi.smoothing.interface import BaseMap
    from corgi.smoothing.tally import Tally


def parse_norm(text: str) -> float:
    """The d of l_d: `l1`, `l2`, `linf`, or any `l4`.

    Raises:
        UsageError: not of that form, or d < 1.
    """
    try:
        order = float(text.removeprefix("l")) if text.startswith("l") else math.nan
    except ValueError:
        order = math.nan
    if not order >= 1:
        raise UsageError(f"--norm {text}: expected linf, l2, l1 or another l with a number >= 1 behind it")
    return order


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    map_kind: Annotated[MapName, typer.Option("--map", help="The map that is averaged.")] = MapName.CAM,
    form: Annotated[
        MapForm | None,
        typer.Option(
            help="What becomes of its values: scaled to [0, 1], squared, the largest set to 1.",
            show_default="sparsified",
        ),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(
            help="Of sparsified and relaxed: share of values that is kept.", show_default="K values"
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Of relaxed: share of values that become 1.", show_default="0.01")
    ] = None,
    certificate: Annotated[Claim, typer.Option(help="What is certified.")] = Claim.OVERLAP,
    k: common.KOption = "15",
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Find the radius at which so many of the K pixels stay.",
            show_default="the largest",
        ),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(help="Certify for this radius, pixel scale [0, 1].", show_default="the largest"),
    ] = None,
    norm: Annotated[
        str, typer.Option(metavar="linf|l2|l1|lD", help="Of the radius; other than l2 with renyi only.")
    ] = "l2",
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise, pixel scale [0, 1].")
    ] = SmoothOptions.sigma,
    samples: Annotated[int, typer.Option(help="Noisy images, those of --state included.")] = (
        SmoothOptions.samples
    ),
    confidence: Annotated[
        float, typer.Option(help="Probability with which the claim holds, over the noise.")
    ] = 1 - SmoothOptions.failure,
    interval: Annotated[
        Confidence | None,
        typer.Option(help="How intervals are found.", show_default="clopper-pearson; bernstein if not 0/1"),
    ] = None,
    correction: Annotated[
        Correction | None, typer.Option(help="Of pixels: over all of their tests.", show_default="holm")
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(help="renyi: how steeply scores fall per rank.", show_default="10 / center"),
    ] = None,
    center: Annotated[
        int | None, typer.Option(help="renyi: the rank around which scores fall.", show_default="K")
    ] = None,
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="overlap: the weaker index of the paper; renyi: NO guarantee."),
    ] = False,
    class_id: common.ClassOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    batch: Annotated[
        int | None,
        typer.Option(help="Noisy images evaluated at once.", show_default="what 64 MiB hold, at most 16"),
    ] = None,
    time_limit: common.TimeLimitOption = None,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from the samples saved there, and save all; certified at 100, 200, 400 ...",
            metavar="FILE.npz",
        ),
    ] = None,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify the map of IMAGE averaged over noise: which of its largest pixels stay, with high probability.

    By default the largest overlap that the samples show, its radius, and the radius of every smaller overlap;
    all of it holds at once. Ctrl-C and --time-limit certify with the samples drawn until then.

    Exit code: 0 certified, 2 nothing certified, 3 Ctrl-C or time limit, 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_ending("--state", state, ("npz",))
    outputs = {"--json": json, "--picture": picture_file, "--state": state}
    common.check_outputs((model, image), outputs)
    _refuse_unused(certificate, form, tau, gamma, interval, correction)
    if not 0 < confidence < 1:
        raise UsageError(f"--confidence {confidence:g}: expected a probability between 0 and 1, as 0.999")
    asked = SmoothOptions(
        claim=certificate,
        overlap=overlap,
        radius=radius,
        norm=parse_norm(norm),
        sigma=sigma,
        samples=samples,
        failure=1 - confidence,
        confidence=interval,
        correction=SmoothOptions.correction if correction is None else correction,
        eta=eta,
        center=center,
        as_published=as_published,
        seed=seed,
        batch=batch,
    )
    of_gradients = map_kind in (MapName.SALIENCY, MapName.INTEGRATED_GRADIENTS)
    if map_kind is MapName.GRADCAM:
        loading = replace(loading, map_kind=MapKind.GRADCAM)
    import torch

    from corgi.certify.explain import explain
    from corgi.reporting.document import to_json
    from corgi.reporting.smoothing import smooth_document, smooth_text
    from corgi.reporting.versions import installed_versions
    from corgi.results import SmoothResult
    from corgi.smoothing.smooth import begin, smooth
    from corgi.smoothing.state import state_bytes

    with common.working("loading", quiet=quiet, seconds=time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, preprocess)
        ranks = common.parse_k(k)
        if of_gradients and ranks is None:
            raise UsageError(f"--k auto: not with --map {map_kind}", hint="It looks at gaps of the CAM.")
        explanation = explain(network, pixels, 1 if of_gradients else ranks, class_id)
        options = replace(asked, k=explanation.top.k if ranks is None else ranks)
        base = _base(explanation, map_kind, form, tau, gamma, options)
        started = time.monotonic()
        plain = base(torch.from_numpy(pixels)[None])[0].double().numpy().reshape(base.shape)
        start = None
        if state is not None:
            start = _continued(state, begin(base, pixels, options))
        tally, found = smooth(base, pixels, options, start, listener=listener)
        if state is not None:
            common.write("--state", state, state_bytes(tally))
        result = SmoothResult(
            model=network.path,
            model_sha256=network.sha256,
            image_name=str(image),
            image=pixels,
            class_id=explanation.class_id,
            class_name=network.class_name(explanation.class_id),
            predicted_class=explanation.predicted_class,
            base=plain,
            mean=(tally if start is None else tally.at_rung()).mean.reshape(base.shape),
            certificate=found,
            drawn=tally.samples,
            wanted=samples,
            seconds=time.monotonic() - started,
            notes=network.graph.notes,
        )
    document = smooth_document(result, installed_versions())
    common.emit(smooth_text(result), lambda: to_json(document), json, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.smooth_picture import smooth_picture

        common.save_picture(smooth_picture(result), picture_file)
    if result.interrupted:
        return Exit.TIME_LIMIT
    return Exit.OK if found.status is Status.CERTIFIED else Exit.UNKNOWN


def _refuse_unused(
    claim: Claim,
    form: MapForm | None,
    tau: float | None,
    gamma: float | None,
    interval: Confidence | None,
    correction: Correction | None,
) -> None:
    """Refuse options that would change nothing.

    Raises:
        UsageError: one is given.
    """
    keeps = claim is not Claim.RENYI and form in (None, MapForm.SPARSIFIED, MapForm.RELAXED)
    if form is not None and claim is Claim.RENYI:
        raise UsageError(f"--form {form}: renyi certificates score values by rank, whatever their form")
    if tau is not None and not keeps:
        raise UsageError(f"--tau {tau:g}: only of sparsified and relaxed maps")
    if gamma is not None and form is not MapForm.RELAXED:
        raise UsageError(f"--gamma {gamma:g}: only of relaxed maps")
    if interval is not None and claim is Claim.PIXELS:
        raise UsageError(f"--interval {interval}: pixels are tested, not bounded", hint="See --correction.")
    if correction is not None and claim is not Claim.PIXELS:
        raise UsageError(f"--correction {correction}: only of pixel-wise certificates")


def _base(
    explanation: Explanation,
    name: MapName,
    form: MapForm | None,
    tau: float | None,
    gamma: float | None,
    options: SmoothOptions,
) -> BaseMap:
    from corgi.smoothing.maps.named import formed_map, kept_of, named_map

    base = named_map(explanation.network, explanation.class_id, name)
    if options.claim is Claim.RENYI:
        return base
    kept = options.k if tau is None else kept_of(base, tau)
    return formed_map(base, form or MapForm.SPARSIFIED, kept, 0.01 if gamma is None else gamma)


def _continued(path: Path, fresh: Tally) -> Tally:
    """The samples saved in a file; none if there is no file yet."""
    from corgi.smoothing.state import read_state
    from corgi.smoothing.tally import check_continues

    if not path.exists():
        return fresh
    saved = read_state(path)
    check_continues(saved, fresh, str(path))
    return saved
