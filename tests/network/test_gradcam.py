"""Grad-CAM with weights fixed at one image, where a network has no CAM head (and where it has one)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from corgi.certify.explain import explain
from corgi.certify.verify import VerifyOptions, verify
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import ModelError, NoCamHead, UsageError
from corgi.network.head import Activation
from corgi.network.network import Network, load
from corgi.reporting.wording import guarantee
from corgi.results import MapKind
from corgi.types import Ball
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.soundness.samples import inside

SHAPE = (2, 9, 9)


def flatten_dense(folder: Path, softmax: bool = False) -> Path:
    """Conv - Relu - MaxPool - Flatten - Gemm - Relu - Gemm: no CAM head."""
    rng, model = np.random.default_rng(4), OnnxModel(SHAPE)
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 4, 2, 2, 2)), name="first")
    value = model.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    value = model.node("Flatten", value)
    value = model.node("Relu", model.node("Gemm", value, float32(rng, 64, 6), float32(rng, 6)))
    value = model.node("Gemm", value, float32(rng, 6, 3), float32(rng, 3))
    return model.save(folder, model.node("Softmax", value, axis=1) if softmax else value)


def gradcam(path: Path, layer: str | None = None) -> Network:
    return load(path, map_kind=MapKind.GRADCAM, layer=layer)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


def test_a_network_without_a_cam_head_offers_the_other_map(tmp_path: Path) -> None:
    with pytest.raises(NoCamHead, match="--map gradcam"):
        load(flatten_dense(tmp_path))


@pytest.mark.parametrize(
    ("layer", "feature", "shape"),
    [(None, "pool_out", (4, 4)), ("first", "first_out", (8, 8)), ("first_out", "first_out", (8, 8))],
)
def test_weights_are_mean_gradients_at_the_image(
    layer: str | None, feature: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    network = gradcam(flatten_dense(tmp_path), layer)
    assert (network.head.feature, network.head.map_shape) == (feature, shape)
    fixed = network.explaining(image(), 1)
    x = torch.from_numpy(image()).double()[None].requires_grad_(True)
    features = network.trunk(x)
    score = network.module(x)[0, 1]
    (gradient,) = torch.autograd.grad(network.head.logits(features)[0, 1], features)
    assert_allclose(float(network.head.logits(features)[0, 1]), float(score), rtol=1e-12)
    assert_allclose(fixed.head.weight[1], gradient[0].mean((1, 2)), rtol=1e-12)
    assert torch.isnan(fixed.head.weight[0]).all()


def test_before_an_image_is_chosen_nothing_is_known(tmp_path: Path) -> None:
    network = gradcam(flatten_dense(tmp_path))
    assert torch.isnan(network.cam(image(), 0)).all()
    bounds = PatchEngine().bind(network, 0, torch.float64).pixels(Ball(torch.from_numpy(image()), 0.01))
    assert (bounds.lower == -torch.inf).all()


def test_fixed_weights_stay(tmp_path: Path) -> None:
    fixed = gradcam(flatten_dense(tmp_path)).explaining(image(), 1)
    assert fixed.explaining(image(1), 1) is fixed


def test_of_a_cam_head_it_is_the_cam_but_for_a_factor(paper_model, paper_image) -> None:
    network = load(paper_model.path, map_kind=MapKind.GRADCAM)
    found, cam = explain(network, paper_image), explain(paper_model, paper_image)
    assert network.head.feature == paper_model.head.feature
    assert found.top.pixels == cam.top.pixels
    assert_allclose(found.cam * network.pixels, cam.cam, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("softmax", [True, False])
def test_the_radius_holds_and_the_claim_names_the_map(softmax: bool, tmp_path: Path) -> None:
    network = gradcam(flatten_dense(tmp_path, softmax))
    assert network.head.activation is (Activation.SOFTMAX if softmax else Activation.NONE)
    result = verify(network, image(), VerifyOptions(k=3))
    assert result.certificate.radius > 0
    assert result.map_kind is MapKind.GRADCAM
    assert "Grad-CAM, its weights fixed at this image" in (guarantee(result) or "")
    fixed = network.explaining(image(), result.class_id)
    images = inside(fixed, Ball(torch.from_numpy(image()), result.certificate.radius), result.class_id, 90, 0)
    cams = fixed.head.cam(fixed.trunk(images), result.class_id).flatten(1)
    kept = cams.topk(3).indices.sort().values
    assert (kept == torch.tensor(sorted(result.top.pixels))).all()
    assert result.attack is not None
    assert result.attack.radius is None or result.attack.radius > result.certificate.radius


def test_layers_that_are_none(tmp_path: Path) -> None:
    path = flatten_dense(tmp_path)
    with pytest.raises(ModelError, match="Those are: conv0_out, first_out, pool_out"):
        gradcam(path, "absent")
    with pytest.raises(UsageError, match="--layer first: only with --map gradcam"):
        load(path, layer="first")


def test_a_branch_around_a_map_rules_it_out(tmp_path: Path) -> None:
    """Of a residual block only the sum is all that reaches the scores."""
    rng, model = np.random.default_rng(5), OnnxModel(SHAPE)
    first = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 4, 2, 1, 1)), name="stem")
    inner = model.node("Relu", model.node("Conv", first, float32(rng, 4, 4, 1, 1)), name="inner")
    total = model.node("Add", first, inner, name="sum")
    value = model.node("Gemm", model.node("Flatten", total), float32(rng, 324, 3))
    path = model.save(tmp_path, value)
    assert gradcam(path).head.feature == "sum_out"
    assert gradcam(path, "stem").head.feature == "stem_out"
    with pytest.raises(ModelError, match="'inner' is no feature map"):
        gradcam(path, "inner")


@pytest.mark.parametrize("behind", ["Identity", "Reshape"])
def test_scores_are_before_an_activation_wherever_it_stands(behind: str, tmp_path: Path) -> None:
    weights = []
    for moved in (False, True):
        rng, model = np.random.default_rng(4), OnnxModel(SHAPE)
        value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 4, 2, 2, 2)))
        value = model.node("Gemm", model.node("Flatten", value), float32(rng, 256, 3))
        value = model.node("Softmax", value, axis=1)
        if moved:
            operands = [np.array([0, 3])] if behind == "Reshape" else []
            value = model.node(behind, value, *operands)
        network = gradcam(model.save(tmp_path, value))
        assert network.head.activation is Activation.SOFTMAX
        weights.append(network.explaining(image(), 1).head.weight[1])
    assert_allclose(*weights)


def test_filters_are_never_an_axis_of_the_image(tmp_path: Path) -> None:
    """A gate [1, 1, 1, C] times [N, H, W, C]: the transposition stays, so no map behind it is offered."""
    rng, model = np.random.default_rng(4), OnnxModel((6, 8, 3))
    value = model.node("Conv", model.node("Transpose", IMAGE, perm=[0, 3, 1, 2]), float32(rng, 4, 3, 1, 1))
    value = model.node("Transpose", model.node("Relu", value, name="right"), perm=[0, 2, 3, 1])
    gate = model.node("Reshape", model.reduce_mean(value, [1, 2], keepdims=0), np.array([1, 1, 1, 4]))
    value = model.node("Relu", model.node("Mul", value, gate))
    path = model.save(tmp_path, model.node("Gemm", model.node("Flatten", value), float32(rng, 192, 3)))
    network = gradcam(path)
    assert (network.head.feature, network.head.filters, network.head.map_shape) == ("right_out", 4, (6, 8))
