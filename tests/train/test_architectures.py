import numpy as np
import onnx
import pytest
import torch
from torch import nn

from corgi.train.architectures import BUILDERS, INPUT_SHAPE, Normalise
from corgi.train.export import check_export, write_onnx
from corgi.train.options import ARCHITECTURES, SIDE
from tests.train.networks import lively

MAPS = {"resnet18": (4, 4), "resnet18-8x8": (8, 8), "mobilenet": (8, 8), "squeezenet": (8, 8)}


@pytest.fixture(params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture
def network(name):
    torch.manual_seed(0)
    return lively(BUILDERS[name].build(10, Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))))


def test_the_export_equals_the_network(network, tmp_path):
    images = np.random.default_rng(0).random((3, *INPUT_SHAPE), np.float32)
    write_onnx(network, INPUT_SHAPE, tmp_path / "net.onnx", {})
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    assert "BatchNormalization" not in [node.op_type for node in nodes]
    assert check_export(network, tmp_path / "net.onnx", images) < 1e-5
    assert (tmp_path / "net.onnx").stat().st_size < 4_000_000


def test_the_map_has_its_size(name, network):
    sizes = []
    pooling = next(layer for layer in network if isinstance(layer, nn.AdaptiveAvgPool2d))
    pooling.register_forward_hook(lambda layer, inputs, output: sizes.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        assert network(torch.rand(2, *INPUT_SHAPE)).shape == (2, 10)
    assert sizes == [MAPS[name]]


def test_normalisation():
    images = torch.rand(2, 3, 4, 5)
    normalised = Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))(images)
    assert torch.allclose(normalised[:, 1], (images[:, 1] - 0.4) / 0.3)


def test_the_names_that_can_be_asked_for_are_those_that_can_be_built() -> None:
    assert tuple(BUILDERS) == ARCHITECTURES
    assert INPUT_SHAPE[1:] == (SIDE, SIDE)
