"""Forms of every kind: no image of a ball is below their bounds; those not understood are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corgi.engines.forms import ClassMargins, Forms, pairs
from corgi.engines.interface import BoundEngine
from corgi.engines.lipschitz.engine import LipschitzEngine
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.rounding import rounding
from corgi.errors import EngineError
from corgi.network.network import load
from corgi.terms import PatchMethod
from corgi.types import Ball, Norm
from tests.onnx_models import random_cam_network
from tests.soundness.samples import inside


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("engine", [PatchEngine(), PatchEngine(PatchMethod.CROWN_IBP), LipschitzEngine()])
@pytest.mark.parametrize("seed", [1, 8])
def test_forms_of_the_feature_map_hold_all_images(
    engine: BoundEngine, norm: Norm, seed: int, tmp_path
) -> None:
    """Several elements a form, any coefficients, constants: all of it counts."""
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, tmp_path))
    elements, count = network.head.filters * network.pixels, 12
    forms = Forms(
        torch.from_numpy(rng.integers(0, count, 40)),
        torch.from_numpy(rng.integers(0, elements, 40)),
        torch.from_numpy(rng.normal(size=40)),
        torch.from_numpy(10 * rng.normal(size=count)),
    )
    bounder = engine.bind(network, 0)
    slack = rounding(network, 0).features * float(forms.coefficient.abs().sum())
    for radius in (0.0, 0.02, 0.2):
        ball = Ball(torch.from_numpy(rng.random(network.input_shape, dtype=np.float32)), radius, norm)
        lower = bounder.lower(ball, forms)
        features = network.trunk(inside(network, ball, 0, 30, seed)).detach().flatten(1)
        values = features @ forms.matrix(elements).T + forms.constant
        assert (lower <= values + slack).all()
        if radius == 0:
            assert (lower >= values - 1e-6 * values.abs().amax() - slack).all()


def test_forms_that_are_not_bounded_are_refused(tmp_path) -> None:
    network = load(random_cam_network(np.random.default_rng(1), tmp_path))
    ball = Ball(torch.zeros(network.input_shape), 0.01)
    zero, one = torch.tensor([0]), torch.ones(1, dtype=torch.float64)

    for forms in (Forms(zero, zero, 2 * one, 0 * one), ClassMargins(network.head, 0)):
        with pytest.raises(EngineError, match="lirpa bounds forms of maps"):
            LirpaEngine().bind(network, 0).lower(ball, forms)
    for entries in ((zero, zero, 2 * one, 0 * one), (zero, zero, one, one)):
        with pytest.raises(ValueError, match="pixels and pairs"):
            Forms(*entries, of_map=True)
    assert len(pairs(zero, zero)) == 1
