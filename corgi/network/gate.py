"""The equality gate: a network that does not equal onnxruntime is refused, with the numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.errors import GateError, UnsupportedOperator
from corgi.network.head import Activation, CamHead
from corgi.network.reference import FLOAT32_INSIDE

if TYPE_CHECKING:
    from corgi.network.network import Network

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest magnitude of the value or channel compared. onnxruntime
works in float32 (unit roundoff 6e-8) and sums up to some thousands of terms; a wrong attribute moves values
by far more than this."""

_FLOAT32, MOST = 4.0, 0.01
"""In a network of many layers float32 alone is off by more. How much shows where corgi's own trunk runs in
float32: that many times its difference from float64 is allowed, but never more than `MOST`. As far as that,
onnxruntime may differ from itself with and without optimisation: a value may then lie between the two.
"""

_FINE, _INSIDE = 1e-12, 1e-6
"""The same beside an evaluator in float64; and beside one that rounds to float32 on the way."""

_ULP = 2.0**-24
"""What of float32's errors float64 can be off by: its ulp is 2^-29 of float32's, and sums differ in order."""

_NEIGHBOURS = 3
"""Images an ulp away at which float32 is looked at, too."""

_FLOOR = 0.1
"""A channel counts as at least this share of the largest one: what cancels there was once as large."""


def check_equal_to_onnxruntime(network: Network, images: NDArray[np.float32]) -> torch.Tensor:
    """Compare feature map, class scores and CAM head with onnxruntime on images [N, C, H, W].

    Returns:
        The feature map that was compared, in float64: [N, F, h, w].

    Raises:
        GateError: a value differs or is not finite.
    """
    scores, features = network.oracle.run(images)
    with torch.no_grad():
        ours: torch.Tensor = network.trunk(torch.from_numpy(images).to(torch.float64))
        converted = network.module.after(network.head.feature)(ours).numpy().reshape(scores.shape)
        of_head = network.head.scores(ours).numpy()
    errors = functools.cache(lambda: float32_errors(network, images, ours))
    plainly = functools.cache(lambda: network.oracle.run_plainly(images))
    compare(
        network,
        "feature map",
        ours.numpy(),
        features,
        by_channel=True,
        rounding=lambda: errors().flatten(0, 1).numpy(),
        plainly=lambda: plainly()[1],
    )

    @functools.cache
    def of_scores() -> NDArray[np.float64]:
        with torch.no_grad():
            changed: NDArray[np.float64] = network.head.scores((ours + errors()).flatten(0, 1)).numpy()
        changed = changed.reshape(-1, *of_head.shape) - of_head
        return changed

    def agree(what: str, found: NDArray[np.float64], unit: NDArray[np.float64] | float = 1.0) -> None:
        compare(
            network,
            f"class scores of the {what}",
            found / unit,
            scores / unit,
            rounding=lambda: (of_scores() / unit).reshape(-1, *scores.shape[1:]),
            plainly=lambda: plainly()[0] / unit,
        )

    agree("converted network", converted)
    agree("CAM head", of_head)
    if network.head.activation is Activation.NONE and isinstance(network.head, CamHead):
        # Each class beside its own terms: a wrong weight of one must not hide behind the scores of another.
        agree("CAM head, each as a share of its terms,", of_head, network.head.score_terms(ours).numpy())
    return ours


def float32_errors(network: Network, images: NDArray[np.float32], exact: torch.Tensor) -> torch.Tensor:
    """What float32 changes in corgi's own feature map, at images and at neighbours: [draws, N, F, h, w].

    Rounding is one draw of something with long tails: beside a kink a unit's last bits decide what becomes of
    all behind it. Neighbours whose last bits differ are other draws; the largest value tells how far it goes.
    `exact`: the feature map at the images in float64.
    """
    rng = np.random.default_rng(0)
    with torch.no_grad():
        found = [network.trunk32(torch.from_numpy(images)).to(torch.float64) - exact]
        for _ in range(_NEIGHBOURS):
            ulps = rng.choice([-1.0, 1.0], images.shape) * 2.0**-23
            x = torch.from_numpy((images * (1 + ulps)).clip(0, 1).astype(np.float32))
            found.append(network.trunk32(x).to(torch.float64) - network.trunk(x.to(torch.float64)))
    return torch.stack(found)


def check_equal_to_reference(network: Network, image: NDArray[np.float32], ours: torch.Tensor) -> bool:
    """Compare feature map and class scores at an image [C, H, W] with onnx's reference evaluator in float64.

    Where the evaluator itself is further from onnxruntime than any network may be, as it is on some pools and
    resizes, or fails, it is no judge: onnxruntime runs what the user runs, and corgi equals it.

    Args:
        network: to be judged.
        image: float32, in [0, 1].
        ours: its feature map there in float64, [1, F, h, w], equal to onnxruntime's.

    Returns:
        whether the evaluator judged.

    Raises:
        GateError: a value differs by more than float64 explains.
    """
    try:
        scores, features = network.oracle.run_in_float64(image)
    except UnsupportedOperator:
        return False
    errors = functools.cache(lambda: float32_errors(network, image[None], ours)[:, 0].numpy())
    tolerance, share = (_INSIDE, 1.0) if _judged_in_float32(network) else (_FINE, _ULP)
    agree = functools.partial(compare, network, tolerance=tolerance, judge="onnx's reference evaluator")
    try:
        agree("feature map", ours.numpy(), features, by_channel=True, rounding=lambda: share * errors())
        with torch.no_grad():
            behind = torch.from_numpy(features)
            converted = network.module.after(network.head.feature)(behind).numpy().reshape(scores.shape)
            agree("class scores of the converted network", converted, scores)
            agree("class scores of the CAM head", network.head.scores(behind).numpy(), scores)
    except GateError:
        _, theirs = network.oracle.run(image[None])
        try:
            compare(network, "reference", features, theirs, by_channel=True, rounding=errors)
        except GateError:
            return False
        raise
    return True


def only_float32_differs(network: Network, image: NDArray[np.float32]) -> bool:
    """Whether what differs from onnxruntime at an image [C, H, W] is float32 alone, which says nothing there.

    So it is where corgi's own trunk in float32 explains more than the `MOST` that is ever allowed, while
    onnx's reference evaluator agrees in float64: the network was read as it is meant.

    Raises:
        GateError: the evaluator does not agree.
    """
    with torch.no_grad():
        ours: torch.Tensor = network.trunk(torch.from_numpy(image[None]).to(torch.float64))
    errors = float32_errors(network, image[None], ours)[:, 0].numpy()
    explained = _FLOAT32 * _share(errors, ours.numpy(), by_channel=True)
    # What overflows in float32 is no rounding: the file computes no map there. And where the evaluator rounds
    # to float32 on the way, it says as little there as onnxruntime.
    excused = MOST < explained < math.inf and not _judged_in_float32(network)
    return excused and check_equal_to_reference(network, image, ours)


def _judged_in_float32(network: Network) -> bool:
    """Whether onnx's reference evaluator rounds to float32 on the way."""
    return any(node.op_type in FLOAT32_INSIDE for node in network.graph.proto.graph.node)


def check_map(network: Network, image: NDArray[np.float32], class_id: int, cam: NDArray[np.float64]) -> float:
    """Compare the map [h, w] of a class at an image [C, H, W] with that of onnxruntime's feature map.

    The scale is the map's own range: what decides which pixels are on top must not hide behind a channel, a
    class or an offset that is larger. float32's rounding is given its due, however large a share of a flat
    map it is: the feature map itself was compared channel by channel.

    Returns:
        by how much it differs, as a share of its range. Where that is more than `MOST`, float32 explains it,
        but which pixels are on top was not seen to be the same: no certificate may be given.

    Raises:
        GateError: it differs.
    """
    spread = float(cam.max() - cam.min())
    if spread == 0:
        return math.inf
    reference, _ = network.oracle_cam(image, class_id)
    differs = float(np.abs(cam - reference).max()) / spread
    if differs <= TOLERANCE:
        return differs
    with torch.no_grad():
        ours = network.trunk(torch.from_numpy(image)[None].to(torch.float64))
        errors = float32_errors(network, image[None], ours)
        maps = [network.head.cam(ours + error, class_id)[0] for error in errors]
    own = max(float(np.abs(map_.numpy() - cam).max()) for map_ in maps)
    plain = network.oracle.run_plainly(image[None])[1]
    again = network.head.cam(torch.from_numpy(plain).to(torch.float64), class_id)[0].numpy()
    distance = float(np.abs(cam - cam.clip(np.minimum(reference, again), np.maximum(reference, again))).max())
    allowed = max(TOLERANCE * spread, _FLOAT32 * max(own, float(np.abs(reference - again).max())))
    if not distance <= allowed:
        raise GateError(
            f"{network.path}: the map of class {class_id} differs from onnxruntime by"
            f" {distance / spread:.3g} of its range ({spread:.3g}); allowed is {allowed / spread:.3g}",
            hint="The model is refused because a certificate for it would say nothing of the file you run.",
        )
    return differs


def compare(
    network: Network,
    what: str,
    ours: NDArray[np.float64],
    reference: NDArray[np.floating[Any]],
    *,
    by_channel: bool = False,
    rounding: Callable[[], NDArray[np.float64]] | None = None,
    plainly: Callable[[], NDArray[np.floating[Any]]] | None = None,
    tolerance: float = TOLERANCE,
    judge: str = "onnxruntime",
) -> None:
    """Refuse the network unless two values agree, as a whole or channel by channel (axis 1).

    Args:
        network: whose values they are.
        what: they are, for the message.
        ours: as corgi computes them in float64.
        reference: as the judge does.
        by_channel: whether every channel is compared on its own scale.
        rounding: what float32 changes in them where corgi's own trunk runs in it, by draws along the first
            axis (`float32_errors`), if that can be known; asked only of values that differ by more than
            the tolerance.
        plainly: as onnxruntime computes them without optimisation; asked only of what differs even so.
        tolerance: largest difference allowed whatever float32 does, relative to the largest magnitude.
        judge: who computed the reference.

    Raises:
        GateError: they differ in shape or by more than is allowed, or one is not finite.
    """
    if ours.shape != reference.shape:
        raise GateError(f"{network.path}: {what} has shape {ours.shape}, {judge} says {reference.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        raise GateError(f"{network.path}: {what} is not finite on a valid image")
    share = functools.partial(_share, values=reference, by_channel=by_channel)
    worst, allowed = share(ours - reference), tolerance
    if worst > allowed and rounding is not None and np.isfinite(changed := rounding()).all():
        allowed = min(max(tolerance, _FLOAT32 * share(changed)), MOST)
    if allowed < worst <= MOST and plainly is not None and share(reference - (again := plainly())) <= MOST:
        worst = share(ours - ours.clip(np.minimum(reference, again), np.maximum(reference, again)))
    if worst > allowed:
        raise GateError(
            f"{network.path}: {what} differs from {judge} by {worst:.3g} of its largest value"
            f" ({float(np.abs(reference).max()):.3g}); allowed is {allowed:.3g}",
            hint="The model is refused because a certificate for it would say nothing of the file you run.",
        )


def _share(
    difference: NDArray[np.floating[Any]], values: NDArray[np.floating[Any]], by_channel: bool
) -> float:
    """The largest difference as a share of the largest value, or of its channel's (axis 1)."""
    others = tuple(a for a in range(values.ndim) if a != 1) if by_channel else None
    magnitude = np.abs(values).max(axis=others, keepdims=True)
    scale = np.maximum(magnitude, max(_FLOOR * float(magnitude.max()), float(np.finfo(np.float32).tiny)))
    return float((np.abs(difference) / scale).max())
