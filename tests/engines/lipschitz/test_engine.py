"""Certificates by Lipschitz constants: sound, the maximum of the theorem, refused where they must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import LipschitzEngine, LipschitzMethod, PatchEngine, Status, VerifyOptions, load, verify
from corgi.attacks.pairs import linear_radius
from corgi.attacks.target import Target
from corgi.certify.verify import Bounders
from corgi.certify.verify import verify as verify_with
from corgi.engines.forms import pairs
from corgi.errors import EngineError
from corgi.properties.topk import stays
from corgi.terms import PatchMethod
from corgi.types import Ball, Interval, Norm
from tests.engines.lipschitz.sampled import gradients, images_of
from tests.engines.trunks import REFUSED, network
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network

every_method = pytest.mark.parametrize("method", list(LipschitzMethod), ids=str)
every_norm = pytest.mark.parametrize("norm", list(Norm), ids=str)


def linear(folder: Path):
    """A map that is one convolution of the image, and an image away from the ends of the pixel box."""
    rng = np.random.default_rng(7)
    model = OnnxModel((2, 6, 6))
    value = model.node("Conv", IMAGE, float32(rng, 3, 2, 2, 2), float32(rng, 3))
    image = (0.4 + 0.2 * rng.random((2, 6, 6))).astype(np.float32)
    return load(model.save(folder, model.head(value, float32(rng, 2, 3)))), image


@every_norm
@pytest.mark.parametrize("method", list(LipschitzMethod)[1:], ids=str)
def test_of_a_linear_map_the_radius_is_exact(method: LipschitzMethod, norm: Norm, tmp_path: Path) -> None:
    """Where the gradient is constant, max min(delta, g / L) is the smallest g / ||gradient||."""
    net, image = linear(tmp_path)
    result = verify(
        net, image, k=4, class_id=0, norm=norm, engine=LipschitzEngine(method), attack=None, tolerance=1e-4
    )
    inside = torch.tensor(result.top.pixels)
    pairs = [(int(i), p) for i in inside for p in range(net.pixels) if p not in result.top.pixels]
    above, below = (torch.tensor(side) for side in zip(*pairs, strict=True))
    found = gradients(net, torch.from_numpy(image).double()[None], above, below)[0]
    cam = torch.from_numpy(result.cam).flatten()
    exact = float(((cam[above] - cam[below]) / norm.dual.sizes(found)).min())
    assert 0.999 * exact <= result.certificate.radius <= exact * (1 + 1e-9)


@every_norm
@every_method
@pytest.mark.parametrize("seed", [401, 403])
def test_differences_move_by_at_most_the_constant(
    seed: int, method: LipschitzMethod, norm: Norm, tmp_path: Path
) -> None:
    """Finite differences between the centre and sampled images, and bounds of all three kinds."""
    rng = np.random.default_rng(seed)
    net = load(random_cam_network(rng, tmp_path, curved=seed == 403))
    ball = Ball(torch.from_numpy(rng.random(net.input_shape, dtype=np.float32)), 0.05, norm)
    bounder = LipschitzEngine(method).bind(net, 0, torch.float64)
    images = images_of(net, ball, 30, seed)
    with torch.no_grad():
        cams = net.head.cam(net.trunk(images), 0).flatten(1)
    slack = 1e-12 * (1 + float(cams.abs().max()))
    for bounds in (bounder.intervals(ball), bounder.pixels(ball)):
        assert (bounds.lower - slack <= cams).all()
        assert (cams <= bounds.upper + slack).all()
    above, below = torch.arange(net.pixels - 1), torch.arange(1, net.pixels)
    margins = cams[:, above] - cams[:, below]
    assert (bounder.differences(ball, above, below) <= margins + slack).all()
    constants = bounder.constants(ball, bounder._layout(pairs(above, below)).patches(bounder._dtype))
    moved = norm.sizes(images - images[0])[1:, None]
    assert ((margins[1:] - margins[0]).abs() <= constants * moved * (1 + 1e-9) + slack).all()


@every_method
def test_a_smaller_ball_is_never_worse(method: LipschitzMethod, tmp_path: Path) -> None:
    """What a larger ball said of pixels holds for the smaller one; asked for again it is the same."""
    rng = np.random.default_rng(3)
    net = load(random_cam_network(rng, tmp_path))
    image = torch.from_numpy(rng.random(net.input_shape, dtype=np.float32))
    bounder = LipschitzEngine(method).bind(net, 0, torch.float64)
    large, small = Ball(image, 0.05), Ball(image, 0.01)
    wide, narrow = bounder.pixels(large), bounder.pixels(small)
    assert (narrow.lower >= wide.lower).all()
    assert (narrow.upper <= wide.upper).all()
    some = bounder.pixels(small, torch.tensor([1]), torch.tensor([2]))
    assert float(some.lower[1]) == float(narrow.lower[1])
    assert float(some.upper[2]) == float(narrow.upper[2])
    assert some.lower[2] == -torch.inf
    assert some.upper[1] == torch.inf
    other = bounder.pixels(Ball(1 - image, 0.01))
    assert not torch.equal(other.lower, narrow.lower)
    # Another image in between, so nothing of the larger ball is known any more.
    torch.testing.assert_close(bounder.pixels(small).lower, narrow.lower, rtol=0.05, atol=0.01)


def radii_of_the_paper_image(network, image, norm: Norm) -> list[float]:
    bounders, radii = Bounders(), []
    for method in list(LipschitzMethod)[: 3 if norm is Norm.LINF else 2]:
        engine = LipschitzEngine(method)
        options = VerifyOptions(k=15, norm=norm, engine=engine, attack=None, exact=None, tolerance=0.2)
        result = verify_with(network, image, options, bounders=bounders)
        assert result.status is Status.CERTIFIED
        assert (result.certificate.engine, result.certificate.method) == ("lipschitz", method.value)
        radii.append(result.certificate.radius)
    return radii


def test_on_the_paper_image_each_method_is_tighter_than_the_last(paper_model, paper_image) -> None:
    """And none is above the exact radius, which lies in [0.0012326, 0.0012382]."""
    norms, intervals, rows = radii_of_the_paper_image(paper_model, paper_image, Norm.LINF)
    assert 0 < 100 * norms < intervals < 0.4 * rows
    assert 0.0008 < rows < 0.0012382


@pytest.mark.parametrize(("norm", "witness"), [(Norm.L2, 0.028), (Norm.L1, 0.23)], ids=str)
def test_on_the_paper_image_no_radius_reaches_a_witness(norm, witness, paper_model, paper_image) -> None:
    """An attack finds an image that breaks the map within the second radius."""
    norms, intervals = radii_of_the_paper_image(paper_model, paper_image, norm)
    assert 0 < 10 * norms < intervals < witness
    engine = PatchEngine(PatchMethod.CROWN_IBP)
    options = VerifyOptions(k=15, norm=norm, eps=witness, engine=engine, exact=None)
    assert verify_with(paper_model, paper_image, options).status is Status.REFUTED


@every_method
def test_a_tie_has_radius_0(method: LipschitzMethod, tmp_path: Path) -> None:
    model = OnnxModel((1, 6, 6))
    path = model.save(tmp_path, model.head(model.node("Relu", IMAGE), np.ones((2, 1))))
    image = np.zeros((1, 6, 6), np.float32)
    result = verify(load(path), image, k=3, engine=LipschitzEngine(method), attack=None)
    assert result.certificate.radius == 0
    assert result.status is Status.UNKNOWN
    assert "tie" in result.reason


@pytest.mark.parametrize("method", list(LipschitzMethod)[1:], ids=str)
@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L1], ids=str)
def test_of_unknown_derivatives_nothing_is_certified(
    method: LipschitzMethod, norm: Norm, tmp_path: Path, monkeypatch
) -> None:
    """NaN rows on the image: no bound but the one by operator norms."""
    net = load(random_cam_network(np.random.default_rng(5), tmp_path))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0))
    by_norms = LipschitzEngine(LipschitzMethod.NORMS).bind(net, 0, torch.float64)
    monkeypatch.setattr(
        "corgi.engines.lipschitz.jacobian.widened",
        lambda lower, upper, error: Interval(lower * torch.nan, upper * torch.nan),
    )
    bounder, ball = LipschitzEngine(method).bind(net, 0, torch.float64), Ball(image, 0.01, norm)
    above, below = torch.tensor([0, 1, 5]), torch.tensor([1, 2, 0])
    assert (bounder.differences(ball, above, below) <= by_norms.differences(ball, above, below)).all()
    lower, expected = bounder.pixels(ball).lower, by_norms.pixels(ball).lower
    # But where no window on the way is live, and the gradient is exactly 0.
    dead = bounder.pixels(ball.with_radius(0.0)).lower - lower < 1e-9
    assert not dead.all()
    torch.testing.assert_close(lower[~dead], expected[~dead], rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", ["softmax", "product", "mean"])
def test_unsupported_networks_are_refused_by_node(case: str, tmp_path: Path) -> None:
    build, parts = REFUSED[case]
    net = network(tmp_path, build)
    with pytest.raises(EngineError) as caught:
        LipschitzEngine().bind(net, 0, torch.float64)
    for part in (str(net.path), "node 'culprit'", *parts):
        assert part in str(caught.value)


def test_no_radius_is_tried_far_beyond_where_a_linear_network_would_break(tmp_path: Path) -> None:
    net, image = linear(tmp_path)
    result = verify(net, image, k=4, class_id=0, engine=LipschitzEngine(), attack=None)
    target = Target(net, 0, result.top, stays(result.top, 4, net.pixels))
    ceiling = linear_radius(target, Ball(torch.from_numpy(image), 0.0))
    assert ceiling is not None
    assert 0.98 * ceiling < result.certificate.radius <= 1.001 * ceiling
    tried = result.certificate.uncertified_radius
    assert tried is None or tried <= 1.01 * ceiling
