"""The map of one image averaged over noise: explain, choose the base map, sample, certify."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from corgi.cam.topk import size_of
from corgi.certify.explain import Explanation, explain
from corgi.data.file import write
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.results import ImageArray, MapKind, SmoothResult
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.named import formed_map, kept_of, named_map
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.smooth import begin, smooth
from corgi.smoothing.state import read_state, state_bytes
from corgi.smoothing.tally import Tally, check_continues
from corgi.terms import Claim, MapForm, MapName

_GRADIENTS = (MapName.SALIENCY, MapName.INTEGRATED_GRADIENTS)


def smooth_map(
    network: Network,
    image: ImageArray,
    options: SmoothOptions | None = None,
    *,
    class_id: int | None = None,
    state: Path | None = None,
    image_name: str = "array",
) -> SmoothResult:
    """Certify the map of an image [C, H, W] float32 in [0, 1], averaged over noise.

    Ctrl-C and the time limit certify with the samples drawn until then.

    Args:
        network: the network, of Grad-CAM for that map.
        image: its input.
        options: which map, what to certify and how.
        class_id: class to explain, None for the predicted one.
        state: file (NPZ) of samples to go on from, and to save all in; certificates are of complete rungs
            then, see `corgi.smoothing.smooth.smooth`.
        image_name: where the image came from.

    Raises:
        ImageError, GateError: as `explain`. EngineError: the map is not finite somewhere.
        UsageError: options that do not fit the map, or samples of another question.
    """
    options = options or SmoothOptions()
    of_gradients = options.map in _GRADIENTS
    if of_gradients:
        size_of(options.k, 1)  # refuses "auto" before anything is computed
    if options.map is MapName.GRADCAM and network.map_kind is not MapKind.GRADCAM:
        raise UsageError("--map gradcam: of a network that was loaded for another map")
    explained = explain(network, image, 1 if of_gradients else options.k, class_id)
    options = options if of_gradients else replace(options, k=explained.top.k)
    base = _base(explained, options)
    started = time.monotonic()
    plain = base(torch.from_numpy(explained.image)[None])[0].double().numpy().reshape(base.shape)
    start = None if state is None else _continued(state, begin(base, explained.image, options))
    tally, found = smooth(base, explained.image, options, start)
    if state is not None:
        write("--state", state, state_bytes(tally))
    return SmoothResult(
        model=network.path,
        model_sha256=network.sha256,
        image_name=image_name,
        image=explained.image,
        class_id=explained.class_id,
        class_name=explained.class_name,
        predicted_class=explained.predicted_class,
        base=plain,
        mean=(tally if start is None else tally.at_rung()).mean.reshape(base.shape),
        certificate=found,
        drawn=tally.samples,
        wanted=options.samples,
        seconds=time.monotonic() - started,
        notes=network.graph.notes,
    )


def _base(explained: Explanation, options: SmoothOptions) -> BaseMap:
    base = named_map(explained.network, explained.class_id, options.map)
    if options.claim is Claim.RENYI:
        return base
    kept = size_of(options.k, base.n) if options.tau is None else kept_of(base, options.tau)
    clipped = 0.01 if options.gamma is None else options.gamma
    return formed_map(base, options.form or MapForm.SPARSIFIED, kept, clipped)


def _continued(path: Path, fresh: Tally) -> Tally:
    """The samples saved in a file; none if there is no file yet."""
    if not path.exists():
        return fresh
    saved = read_state(path)
    check_continues(saved, fresh, str(path))
    return saved
