"""Every picture of a map that has nothing to show is drawn all the same."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_results import NETWORK, make_image, make_result, make_tie, make_unknown
from matplotlib.figure import Figure
from PIL import Image

from corgi.batch.pictures import pictures_of
from corgi.certify.attack import AttackResult
from corgi.certify.curve import Curve, CurvePoint
from corgi.certify.explain import Explanation
from corgi.certify.radii import PixelRadii, PixelRadius
from corgi.comparison.rows import Comparison, Guarantee, Row
from corgi.properties import Topk
from corgi.reporting.compare_picture import compare_picture
from corgi.reporting.page.pictures import _coloured, _radius_map
from corgi.reporting.picture import attack_picture, cam_picture, draw_map, verify_picture
from corgi.reporting.series_picture import curve_picture, radii_picture
from corgi.reporting.smooth_picture import smooth_picture
from corgi.results import (
    Claim,
    Sampling,
    SmoothResult,
    StatisticalCertificate,
    Status,
    TopK,
    VerifyResult,
)
from corgi.types import Norm

SIDES = np.arange(36, dtype=np.float64).reshape(6, 6)
MAPS = {
    "zero": np.zeros((6, 6)),
    "negative zero": -np.zeros((6, 6)),
    "constant": np.full((6, 6), 3.25),
    "one pixel": np.array([[2.0]]),
    "one pixel, zero": np.array([[0.0]]),
    "one row": SIDES[:1],
    "negative": -1 - SIDES,
    "largest floats": (SIDES - 18) * 9e306,
    "all the largest float": np.full((6, 6), np.finfo(np.float64).max),
    "smallest floats": SIDES * 5e-324,
    "hardly different": 1e6 * (1 + SIDES * 2.0**-52),
    "equal ranks": np.floor(SIDES / 12),
}
DRAWN = ("zero", "one pixel", "largest floats", "smallest floats", "hardly different")
"""Of these every picture is drawn whole; the others go through what all pictures draw maps with."""

RADII = {"none": 0.0, "some": 0.01, "smallest": 5e-324, "all": 1.0}


def drawn(figure: Figure) -> None:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=20)
    assert Image.open(target).width == 240


def top_of(cam: np.ndarray) -> TopK:
    k = (cam.size + 1) // 2
    order = np.argsort(-cam.reshape(-1), kind="stable")
    return TopK(k, tuple(int(i) for i in order[:k]), 0.0, tie=True)


def explained(cam: np.ndarray) -> Explanation:
    return Explanation(17, 17, cam, top_of(cam), 0.0, NETWORK, make_image())


def result_of(cam: np.ndarray) -> VerifyResult:
    result = make_result()
    witness = replace(result.attack.witness, cam=cam, lost=(0,))
    return replace(result, cam=cam, top=top_of(cam), attack=replace(result.attack, witness=witness))


def smoothed(cam: np.ndarray) -> SmoothResult:
    sampling = Sampling("cam", cam.shape, "Gaussian", 0.1, 0, 10, 27, "hoeffding", "", 0.001, 0.001)
    certificate = StatisticalCertificate(
        Claim.OVERLAP, Status.UNKNOWN, "nothing holds", 0.0, 2.0, top_of(cam).k, top_of(cam).pixels, sampling
    )
    return SmoothResult(
        Path("m.onnx"), "00", "i", make_image(), 17, None, 17, cam, cam, certificate, 10, 10, 1.0
    )


def compared(cam: np.ndarray) -> Comparison:
    rows = tuple(
        Row("exact", "the map", cam, top_of(cam).pixels, guarantee, Norm.LINF, (), "none", 1.0)
        for guarantee in Guarantee
    )
    pointing = tuple(replace(row, pixels=(0,)) for row in rows)
    return Comparison(explained(cam), rows, 0.8, 1e-3, False, 1.0, pointing)


PICTURES: dict[str, Callable[[np.ndarray], Figure]] = {
    "cam": lambda cam: cam_picture(explained(cam)),
    "attack": lambda cam: attack_picture(
        AttackResult(explained(cam), result_of(cam).attack, Topk(20), Norm.LINF, None, 0, False)
    ),
    "verify": lambda cam: verify_picture(result_of(cam)),
    "smooth": lambda cam: smooth_picture(smoothed(cam)),
    "compare": lambda cam: compare_picture(compared(cam)),
    "radii": lambda cam: radii_picture(
        PixelRadii(explained(cam), np.zeros(cam.shape), (), False, 1.0, Norm.LINF)
    ),
}


@pytest.mark.parametrize("cam", [MAPS[name] for name in DRAWN], ids=DRAWN)
@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_draws_every_map(draw: Callable[[np.ndarray], Figure], cam: np.ndarray) -> None:
    with np.errstate(all="raise", under="ignore"):
        drawn(draw(cam))


def test_a_panel_draws_every_map() -> None:
    figure = Figure(figsize=(12, 2))
    for axes, cam in zip(figure.subplots(1, len(MAPS)), MAPS.values(), strict=True):
        draw_map(axes, cam, "map")
    drawn(figure)
    titles = dict(zip(MAPS, (axes.get_title() for axes in figure.axes), strict=False))
    assert titles["zero"] == "map\nall values are 0"
    assert titles["constant"] == "map\nall values are 3.25"
    assert "in units of" in titles["largest floats"]
    assert titles["negative"] == "map"


# At 20 dpi there is no room for axes beside their labels, and matplotlib says so.
@pytest.mark.filterwarnings("ignore:constrained_layout not applied:UserWarning")
@pytest.mark.parametrize("radius", RADII.values(), ids=RADII)
@pytest.mark.parametrize("attacked", [None, 5e-324])
def test_radii_of_any_size_are_drawn(radius: float, attacked: float | None) -> None:
    cam = MAPS["equal ranks"]
    searched = (PixelRadius(0, 1, radius, attacked, ""), PixelRadius(1, 2, 0.0, None, "tie"))
    radii = PixelRadii(explained(cam), np.full(cam.shape, radius), searched, False, 1.0, Norm.LINF)
    drawn(radii_picture(radii))
    result = result_of(cam)
    certificate = replace(result.certificate, radius=radius)
    attack = replace(result.attack, witness=None)
    if attacked is not None:
        attack = replace(attack, witness=replace(result.attack.witness, radius=attacked))
    result = replace(result, certificate=certificate, attack=attack)
    drawn(verify_picture(result))
    points = (CurvePoint(1, 1, 0.0, radius, result), CurvePoint(2, 2, 0.0, radius, result))
    for by_k, by_k2 in ((points, points[:1]), ((), ())):
        drawn(curve_picture(Curve(explained(cam), by_k, by_k2, False, 1.0, Norm.LINF)))


@pytest.mark.parametrize("result", [make_tie(), make_unknown()], ids=["tie", "unknown"])
def test_answers_without_a_radius_are_drawn(result: VerifyResult) -> None:
    drawn(verify_picture(replace(result, cam=MAPS["zero"], top=top_of(MAPS["zero"]))))


@pytest.mark.parametrize("cam", MAPS.values(), ids=MAPS)
def test_cards_draw_every_map(cam: np.ndarray) -> None:
    with np.errstate(all="raise", under="ignore"):
        kept = pictures_of(result_of(cam))
        urls = _coloured(kept.cam, float(kept.cam.min()), float(kept.cam.max())), _radius_map(np.abs(cam))
    assert np.isfinite(kept.cam).all()
    for url in urls:
        png = base64.b64decode(url.partition(",")[2])
        assert Image.open(io.BytesIO(png)).size == cam.shape[::-1]
