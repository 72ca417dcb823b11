"""A network that is misread where no random image comes is refused before a certificate is given."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.budget import OutOfTime, limited
from corgi.certify import bounders as bounders_module
from corgi.certify.explain import explain
from corgi.certify.radii import RadiiOptions, pixel_radii
from corgi.certify.sticker import StickerOptions, sticker_map
from corgi.certify.verify import Bounders, VerifyOptions, verify
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import GateError
from corgi.network import gate, layers
from corgi.network.convert import TorchGraph
from corgi.network.gate import MOST, check_equal_to_onnxruntime, check_equal_to_reference, check_map
from corgi.network.network import Network, load
from corgi.network.oracle import OnnxOracle
from corgi.network.probes import check_at_probes, probes
from corgi.results import Status
from tests.onnx_models import IMAGE, OnnxModel

_BRIGHT = np.full((1, 1, 3, 3), 0.7), np.zeros(1)
"""A filter that makes 0 to 6.3, of random images 3.2 +- 0.6."""

_MIXED = 0.4 * (-1.0) ** np.arange(9).reshape(1, 1, 3, 3), np.full(1, 1.4)
"""One that makes -0.2 to 3.4, of random images 1.6 +- 0.35."""

_SIX = {"min": 0.0, "max": 6.0}


class _PaddedWithZeros(nn.Module):
    """A pool whose padding wins over what is negative."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 2, 2)


_POOL = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4}
_SLOPE = torch.tensor(0.3, dtype=torch.float64).reshape(1, 1, 1)
_SIXTH, _NOTHING = torch.tensor(1 / 6, dtype=torch.float64), torch.tensor(0, dtype=torch.float64)
_MISREAD: dict[str, tuple[tuple[Any, Any], str, dict[str, Any], Callable[[], nn.Module]]] = {
    "a nearer limit": (_BRIGHT, "Clip", _SIX, lambda: layers.Clip(0.0, 5.9)),
    "a further limit": (_BRIGHT, "Clip", _SIX, lambda: layers.Clip(0.0, 6.2)),
    "no limit": (_BRIGHT, "Clip", _SIX, layers.Relu),
    "a limit where there is none": (_BRIGHT, "Relu", {}, lambda: layers.Clip(0.0, 6.0)),
    "no limit below": (_MIXED, "Clip", {"min": 0.1, "max": 6.0}, lambda: layers.Clip(-math.inf, 6.0)),
    "no end": (
        _BRIGHT,
        "HardSigmoid",
        {"alpha": 1 / 6, "beta": 0.0},
        lambda: layers.Affine(_SIXTH, _NOTHING),
    ),
    "another slope": (_MIXED, "LeakyRelu", {"alpha": 0.01}, lambda: layers.PRelu(_SLOPE)),
    "another padding": (_MIXED, "MaxPool", _POOL, _PaddedWithZeros),
}


def network_of(folder: Path, filters: tuple[Any, Any], op: str, attributes: dict[str, Any]) -> Network:
    """A filter, an operator and two channels made of it; opset 10, where limits are attributes."""
    model = OnnxModel((1, 9, 9), opset=10)
    value = model.node("Conv", IMAGE, *map(np.float32, filters))
    value = model.node(op, value, **attributes)
    value = model.node("Conv", value, np.float32([1, 0.5]).reshape(2, 1, 1, 1), np.float32([0, 0.2]))
    return load(model.save(folder, model.head(value, np.float32([[1, -1], [1, 1]]))))


def misread(network: Network, op: str, layer: nn.Module) -> Network:
    """The network with a layer in the place of a node's."""

    def changed(graph: TorchGraph) -> TorchGraph:
        steps = tuple(replace(step, layer=layer) if step.op == op else step for step in graph.steps)
        return TorchGraph(steps, graph.input_name, graph.output_name).eval()

    return replace(network, module=changed(network.module), trunk=changed(network.trunk))


def random(network: Network, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((count, *network.input_shape), dtype=np.float32)


@pytest.mark.parametrize("name", _MISREAD)
def test_what_random_images_never_reach_is_found(name: str, tmp_path: Path) -> None:
    filters, op, attributes, wrong = _MISREAD[name]
    network = network_of(tmp_path, filters, op, attributes)
    check_at_probes(network, 0, random(network)[0])
    network = misread(network, op, wrong())
    for image in random(network, 3):
        check_equal_to_onnxruntime(network, image[None])
        check_map(network, image, 0, network.cam(image, 0).numpy())
    with pytest.raises(GateError, match="differs from onnxruntime"):
        check_at_probes(network, 0, random(network)[0])


_ROUNDED: dict[str, tuple[str, dict[str, Any], Callable[[], nn.Module]]] = {
    "a default read as a decimal": ("LeakyRelu", {}, lambda: layers.LeakyRelu(0.01)),
    "a slope read as a decimal": ("LeakyRelu", {"alpha": 0.3}, lambda: layers.LeakyRelu(0.3)),
    "a limit read as a decimal": ("Clip", {"min": 0.0, "max": 0.7}, lambda: layers.Clip(0.0, 0.7)),
}


@pytest.mark.parametrize("name", _ROUNDED)
def test_what_float32_hides_is_found_by_the_reference_evaluator(name: str, tmp_path: Path) -> None:
    op, attributes, wrong = _ROUNDED[name]
    network = network_of(tmp_path, _MIXED, op, attributes)
    check_at_probes(network, 0, random(network)[0])
    network = misread(network, op, wrong())
    for probe in probes(network, 0, random(network)[0]):
        check_equal_to_onnxruntime(network, probe[None])
    with pytest.raises(GateError, match="differs from onnx's reference evaluator"):
        check_at_probes(network, 0, random(network)[0])


def test_an_evaluator_that_is_off_onnxruntime_or_fails_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(tmp_path, _MIXED, "Clip", _SIX)
    image = random(network)[0]
    features = check_equal_to_onnxruntime(network, image[None])
    assert check_equal_to_reference(network, image, features)
    scores, found = network.oracle.run_in_float64(image)
    with monkeypatch.context() as patch:
        patch.setattr(type(network.oracle), "run_in_float64", lambda _, __: (scores, 1.001 * found))
        assert not check_equal_to_reference(network, image, features)
    evaluator = network.oracle._reference

    def fails(_: object, __: object) -> None:
        raise ValueError("shapes")

    monkeypatch.setattr(type(evaluator), "run", fails)
    assert not check_equal_to_reference(network, image, features)


def test_where_float32_says_nothing_float64_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime is off by a fifth: an excuse only where corgi's float32 is as wild and float64 agrees."""
    network = network_of(tmp_path, _MIXED, "Clip", {"min": 0.1, "max": 6.0})
    image, right = random(network)[0], type(network.oracle).run
    wrong = misread(network, "Clip", layers.Clip(-math.inf, 6.0))

    def off(oracle: OnnxOracle, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, features = right(oracle, images)
        return 1.2 * scores, 1.2 * features

    monkeypatch.setattr(type(network.oracle), "run", off)
    with pytest.raises(GateError, match="differs from onnxruntime"):
        check_at_probes(network, 0, image)
    wild = lambda _, __, exact: 0.05 * exact[None]  # noqa: E731 - a stand-in
    monkeypatch.setattr(gate, "float32_errors", wild)
    check_at_probes(network, 0, image)
    with monkeypatch.context() as patch:
        patch.setattr(gate, "FLOAT32_INSIDE", ("Clip",))  # the evaluator rounds, too
        with pytest.raises(GateError):
            check_at_probes(network, 0, image)
    with pytest.raises(GateError):
        check_at_probes(wrong, 0, image)
    for value in (math.inf, math.nan):
        overflowing = lambda _, __, exact, value=value: value * exact[None].abs().clamp(min=1)  # noqa: E731
        monkeypatch.setattr(gate, "float32_errors", overflowing)
        with pytest.raises(GateError):
            check_at_probes(network, 0, image)


def test_the_evaluator_keeps_to_the_time(tmp_path: Path) -> None:
    network = network_of(tmp_path, _MIXED, "Clip", _SIX)
    with limited(time.monotonic() - 1), pytest.raises(OutOfTime):
        network.oracle.run_in_float64(random(network)[0])


def test_probes_are_images_and_the_same_each_time(tmp_path: Path) -> None:
    network = network_of(tmp_path, _BRIGHT, "Clip", _SIX)
    found = probes(network, 1, random(network)[0])
    assert found.dtype == np.float32
    assert found.shape == (6, *network.input_shape)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(found, probes(network, 1, random(network)[0]))


def test_they_come_before_a_certificate_once_a_class_and_not_before_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(tmp_path, _BRIGHT, "Clip", _SIX)
    asked = []
    monkeypatch.setattr(bounders_module, "check_at_probes", lambda _, class_id, __: asked.append(class_id))
    explain(network, random(network)[0], 5)
    assert asked == []
    bounders, engine = Bounders(), PatchEngine()
    for class_id in (0, 1, 0):
        bounders.bind(engine, network, class_id)
    assert asked == [0, 1]
    monkeypatch.undo()
    network = misread(network, "Clip", layers.Relu())
    with pytest.raises(GateError, match="differs from onnxruntime"):
        verify(network, random(network)[0], VerifyOptions(k=5, attack=None, exact=None))
    found = verify(network, random(network)[0], VerifyOptions(k=5, label=True))
    assert found.attack is not None
    assert found.attack.witness is not None  # onnxruntime's own
    assert found.status is Status.UNKNOWN
    assert "differs from onnxruntime" in found.reason
    assert found.certificate.radius == 0
    assert found.label is not None
    assert found.label.radius == 0


def test_a_map_within_rounding_is_shown_and_never_certified(tmp_path: Path) -> None:
    """float32 explains every difference there: nothing was seen to be the same."""
    model = OnnxModel((1, 8, 8))
    filters = np.float32([1, 1 + 2**-22]).reshape(2, 1, 1, 1)
    value = model.node("Relu", model.node("Conv", IMAGE, filters, np.float32([1, 1])))
    network = load(model.save(tmp_path, model.head(value, np.float32([[1, -1], [1, 1]]))))
    image = random(network)[0]
    assert explain(network, image, 5, 1).doubt is None
    explanation = explain(network, image, 5, 0)
    assert explanation.differs > MOST
    assert "float32 rounding" in explanation.doubt
    found = verify(network, image, VerifyOptions(k=5, class_id=0, attack=None, exact=None))
    assert (found.status, found.certificate.radius) == (Status.UNKNOWN, 0)
    assert found.reason == explanation.doubt
    radii = pixel_radii(network, image, RadiiOptions(k=5, class_id=0))
    assert not radii.certified.any()
    assert {one.reason for one in radii.searched} == {explanation.doubt}
    stickers = sticker_map(network, image, StickerOptions(4, 4, k=5, class_id=0))
    assert stickers.reason == explanation.doubt
    assert not stickers.counts[Status.PROVED]
