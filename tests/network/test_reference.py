"""Every operator in float64 against onnx's reference evaluator, which shares no code with corgi.

Tensors are promoted to float64, attributes stay the float32 numbers they are: what is left is the meaning of
the operator. onnxruntime's float32 hides what is below 1e-7 of a value: a default read as decimal fraction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.network.convert import convert
from corgi.network.graph import read_graph
from corgi.network.reference import evaluator
from tests.network.test_operators import CASES, FORMS, NEWER, RESIZES, WRITTEN, Build, save
from tests.onnx_models import OnnxModel

ALL: dict[str, tuple[int, Build]] = {
    **{name: (13, build) for name, build in {**CASES, **FORMS}.items()},
    **NEWER,
    **RESIZES,
    **WRITTEN,
}

FLOAT32_INSIDE = {"erf": 1e-7, "gelu": 1e-7, "group-norm": 1e-7, "resize-cubic": 1e-6}
"""What the evaluator rounds to float32 on the way, by beginnings of cases, and how far it is off."""

NOT_EVALUATED = (
    "max-pool-same-lower",  # the evaluator differs from onnxruntime, with which corgi agrees
    "lrn",  # likewise
    "resize-nearest-tf_half",  # the evaluator does not know the mode
    "resize-linear-tf_half",
    "resize-cubic-tf_half",
    "resize-axes",  # the evaluator fails on it
    "resize-rounded-size",  # the evaluator takes the size from a product in float64
)
"""Cases, by their beginnings, that the evaluator cannot judge; onnxruntime does (test_operators)."""


@pytest.mark.parametrize("case", [case for case in ALL if not case.startswith(NOT_EVALUATED)])
def test_operator_is_the_standards_in_float64(case: str, tmp_path: Path) -> None:
    since, build = ALL[case]
    for opset in {since, max(since, 22)}:
        graph = read_graph(save(OnnxModel((2, 8, 8), opset), tmp_path, build))
        x = 2 * np.random.default_rng(3).standard_normal((1, 2, 8, 8))
        expected = evaluator(graph.proto).run(None, {graph.input_name: x})[0]
        found = convert(graph).module(torch.from_numpy(x)).numpy()
        tolerance = next((off for name, off in FLOAT32_INSIDE.items() if case.startswith(name)), 1e-12)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
