"""Group normalisation as exporters write it is one layer; other chains of the same operators stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corgi.network import layers
from tests.network.test_operators import agrees, save
from tests.onnx_models import OnnxModel, float32


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_reshaped_instance_normalisation(groups: int, tmp_path: Path) -> None:
    scale, shift = float32(np.random.default_rng(groups), 2, groups)

    def build(model: OnnxModel, value: str) -> str:
        rows = model.node("Reshape", value, np.array([0, groups, -1]))
        rows = model.node("InstanceNormalization", rows, scale, shift, epsilon=0.1)
        return model.node("Reshape", rows, np.array([0, 4, 8, 8]))

    network = agrees(save(OnnxModel((2, 8, 8), 17), tmp_path, build))
    (found,) = [s.layer for s in network.module.steps if isinstance(s.layer, layers.Standardise)]
    assert (found.groups, found.axes) == (groups, (1, 2, 3))
    assert not any(isinstance(s.layer, layers.Reshape) for s in network.trunk.steps)


@pytest.mark.parametrize("shape", [[0, 8, -1], [0, 4, 16, 4]])
def test_rows_that_are_no_groups_of_channels_stay(shape: list[int], tmp_path: Path) -> None:
    """Half a channel a row; another shape behind."""
    back, rows = ([0, 4, 8, 8], shape) if shape[1] == 8 else (shape, [0, 2, -1])
    scale, shift = float32(np.random.default_rng(1), 2, rows[1])

    def build(model: OnnxModel, value: str) -> str:
        value = model.node("Reshape", value, np.array(rows))
        value = model.node("InstanceNormalization", value, scale, shift, epsilon=0.1)
        return model.node("Relu", model.node("Reshape", value, np.array(back)))

    network = agrees(save(OnnxModel((2, 8, 8), 17), tmp_path, build))
    assert any(isinstance(s.layer, layers.Reshape) for s in network.trunk.steps)
