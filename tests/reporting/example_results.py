"""Results made by hand: what renderers get, without a network or a search behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from corgi.properties.topk import Topk
from corgi.reporting.versions import Versions
from corgi.results import (
    Decision,
    DeterministicCertificate,
    EmpiricalBound,
    ExactSearch,
    MapKind,
    Status,
    TopK,
    VerifyResult,
    Witness,
)
from corgi.types import Norm

GOLDEN = Path(__file__).parent.parent / "golden"
VERSIONS = Versions(
    corgi="0.1.0",
    python="3.11.0",
    torch="2.6.0",
    onnxruntime="1.20.0",
    auto_lirpa="0.3",
    numpy="2.0.0",
    highspy="1.9.0",
)


NETWORK = SimpleNamespace(
    path=Path("models/sign.onnx"),
    sha256="00" * 32,
    map_kind=MapKind.CAM,
    graph=SimpleNamespace(notes=()),
    class_name=lambda _: "no entry",
)
"""What renderers ask of a network."""


def make_image(channels: int = 3) -> np.ndarray:
    """A red disc with a white bar on a grey ground, 48 x 48."""
    row, column = np.mgrid[0:48, 0:48]
    image = np.full((3, 48, 48), 0.4, dtype=np.float32) + (row / 300).astype(np.float32)
    disc = (row - 24) ** 2 + (column - 24) ** 2 < 20**2
    image[:, disc] = np.array([0.8, 0.1, 0.1], dtype=np.float32)[:, None]
    image[:, (abs(row - 24) < 4) & (abs(column - 24) < 14)] = 0.95
    return image if channels == 3 else image.mean(0, keepdims=True, dtype=np.float32)


def make_cam(shift: float = 0.0, size: int = 24) -> np.ndarray:
    """A hill with a long ridge, so that the largest pixels form a bar; no two values are equal."""
    row, column = np.mgrid[0:size, 0:size].astype(np.float64)
    hill = np.exp(-(((row - size / 2) / 3) ** 2) - ((column - size / 2 - shift) / 6) ** 2)
    return 5 * hill + 1e-3 * np.sin(7 * row + 3 * column)


def top_of(cam: np.ndarray, k: int) -> TopK:
    values = cam.reshape(-1)
    order = np.argsort(-values, kind="stable")
    return TopK(
        k, tuple(int(i) for i in order[:k]), float(values[order[k - 1]] - values[order[k]]), tie=False
    )


def make_result(*, k: int = 15, k2: int | None = None, channels: int = 3) -> VerifyResult:
    """A search that found a positive radius and a witness."""
    k2 = k2 or k
    image, cam, moved = make_image(channels), make_cam(), make_cam(0.6 if k2 == k else 3.0)
    top = top_of(cam, k)
    largest = set(top_of(moved, k2).pixels)
    noise = np.sign(np.sin(np.arange(image.size))).reshape(image.shape).astype(np.float32)
    witness = Witness(
        image=image + np.float32(0.0015625) * noise,
        radius=0.0015625,
        cam=moved,
        lost=tuple(i for i in top.pixels if i not in largest),
        class_id=17,
        margin=0.0123,
    )
    certificate = DeterministicCertificate(
        radius=0.00113456,
        uncertified_radius=0.00114,
        status=Status.CERTIFIED,
        reason="",
        method="crown",
        form="pairwise",
        engine="lirpa (auto_LiRPA 0.3)",
        statement=Topk(k2).statement(k),
        k=k,
        k2=k2,
        norm=Norm.LINF,
        evaluations=9,
        decision=Decision(0.00113456, 1.25e-4, 3.5e-12),
        seconds=12.25,
    )
    attack = EmpiricalBound(witness, "margin PGD", 0.002, False, 1200, 4.5)
    return VerifyResult(
        model=Path("models/sign.onnx"),
        model_sha256="00" * 32,
        image_name="no_entry.png",
        image=image,
        class_id=17,
        class_name="no entry",
        predicted_class=17,
        cam=cam,
        top=top,
        certificate=certificate,
        attack=attack,
        status=Status.CERTIFIED,
        reason="",
        eps=None,
        seed=0,
        seconds=17.0,
    )


def make_unknown(reason: str = "no bound at any radius tried") -> VerifyResult:
    """Nothing certified, and an attack that found nothing."""
    result = make_result()
    certificate = replace(
        result.certificate,
        radius=0.0,
        decision=None,
        status=Status.UNKNOWN,
        reason=reason,
        uncertified_radius=1e-7,
    )
    attack = replace(result.attack, witness=None, searched_up_to=1.0)
    return replace(result, certificate=certificate, attack=attack, status=Status.UNKNOWN, reason=reason)


def make_tie() -> VerifyResult:
    result = make_unknown("tie at rank 15")
    return replace(
        result,
        top=replace(result.top, gap=0.0, tie=True),
        certificate=replace(result.certificate, uncertified_radius=None, evaluations=0),
        attack=None,
    )


def make_refuted() -> VerifyResult:
    result = make_unknown("a witness within the radius asked for")
    return replace(result, status=Status.REFUTED, eps=0.002, attack=make_result().attack)


def make_proved() -> VerifyResult:
    result = make_result()
    certificate = replace(
        result.certificate,
        radius=0.001,
        status=Status.PROVED,
        uncertified_radius=None,
        decision=Decision(0.001, 3e-4, 3.5e-12),
    )
    return replace(result, certificate=certificate, status=Status.PROVED, eps=0.001, attack=None)


def make_l_2() -> VerifyResult:
    result = make_result()
    exact = ExactSearch("lp-tree", 0.005, False, "the time limit was reached")
    certificate = replace(result.certificate, norm=Norm.L2, exact=exact)
    return replace(result, certificate=certificate)


def make_timed_out() -> VerifyResult:
    result = make_result()
    reason = "time limit of 10 s reached"
    certificate = replace(result.certificate, status=Status.TIME_LIMIT, reason=reason)
    return replace(result, certificate=certificate, status=Status.TIME_LIMIT, reason=reason)


RESULTS = {
    "certified": make_result(),
    "relaxed": make_result(k2=25),
    "one_pixel": make_result(k=1),
    "grey": make_result(channels=1),
    "proved": make_proved(),
    "refuted": make_refuted(),
    "unknown": make_unknown(),
    "tie": make_tie(),
    "time_limit": make_timed_out(),
    "l2": make_l_2(),
}
