"""The adaptations apply where release 0.3 needs them and leave a newer release alone."""

from __future__ import annotations

import numpy as np
import torch

from corgi.engines import auto_lirpa
from corgi.engines.rounding import rounding
from corgi.network.network import load
from tests.onnx_models import OnnxModel, float32


def test_a_module_that_knows_remove_duplicate_is_left_alone() -> None:
    class Newer(torch.nn.Module):
        def _named_members(self, get, prefix="", recurse=True, remove_duplicate=True):
            return iter(())

    before = Newer._named_members
    auto_lirpa._adapt_module(Newer)
    assert Newer._named_members is before


def test_an_older_module_accepts_remove_duplicate() -> None:
    class Older(torch.nn.Module):
        def _named_members(self, get, prefix="", recurse=True):
            return iter([("name", prefix)])

    auto_lirpa._adapt_module(Older)
    assert list(Older()._named_members(None, prefix="p", remove_duplicate=False)) == [("name", "p")]


def test_existing_helpers_are_left_alone(monkeypatch) -> None:
    def own(opset: int) -> None: ...

    monkeypatch.setattr(auto_lirpa._symbolic_helper, "_set_opset_version", own, raising=False)
    auto_lirpa._adapt_torch()
    assert auto_lirpa._symbolic_helper._set_opset_version is own


def test_release_is_named() -> None:
    assert auto_lirpa.release()[0].isdigit()


def test_rounding_bounds_grow_with_the_weights(tmp_path) -> None:
    rng = np.random.default_rng(0)
    bounds = []
    for scale in (1.0, 1e6):
        model = OnnxModel((2, 6, 6))
        value = model.node("Conv", "image", float32(rng, 3, 2, 3, 3) * np.float32(scale))
        value = model.node("Relu", value)
        network = load(model.save(tmp_path, model.head(value, np.ones((2, 3)))))
        errors = rounding(network, 0)
        assert 0 < errors.value <= float(errors.pixels.max())
        bounds.append(float(errors.pixels.max()))
    assert bounds[1] > 1e5 * bounds[0]
