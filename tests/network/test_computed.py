"""Constants a file computes are exact, or are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from corgi.network.graph import read_graph
from tests.onnx_models import IMAGE, OnnxModel, float32

F = np.float32
Computed = Callable[[OnnxModel], str]
NUMBERS = float32(np.random.default_rng(0), 1, 4, 1, 1)

EXACT: dict[str, Computed] = {
    "moved": lambda m: m.node("Transpose", NUMBERS.reshape(4, 1, 1, 1), perm=[1, 0, 2, 3]),
    "shape": lambda m: m.node(
        "Reshape", NUMBERS.ravel(), m.node("Add", np.array([0, 3, 0, 0]), np.array([1, 1, 1, 1]))
    ),
    "negative": lambda m: m.node("Neg", NUMBERS),
    "halved": lambda m: m.node("Mul", NUMBERS, F(0.5)),
    "sum": lambda m: m.node("Add", F([[[[1.5]]]]), F(0.25)),
    "quotient": lambda m: m.node("Div", F([[[[3]]]]), F(4)),
    "root": lambda m: m.node("Sqrt", F([[[[2.25]]]])),
    "cast": lambda m: m.node("Cast", np.array([[[[3]]]]), to=1),
    "chain": lambda m: m.node(
        "Add", m.node("Unsqueeze", m.node("Mul", F([[[2]]]), F(3)), np.array([0])), F(1)
    ),
}
ROUNDED: dict[str, Computed] = {
    "swallowed": lambda m: m.node("Sub", m.node("Add", F([[[[2.0**24]]]]), F(1)), F(2.0**24)),
    "product": lambda m: m.node("Mul", NUMBERS, F(1 / 3)),
    "quotient": lambda m: m.node("Div", F([[[[1]]]]), F(3)),
    "root": lambda m: m.node("Sqrt", F([[[[2]]]])),
    "power": lambda m: m.node("Pow", NUMBERS, F(2)),
    "mean": lambda m: m.node("ReduceMean", NUMBERS, axes=[1]),
    "cast": lambda m: m.node("Cast", np.array([[[[2**24 + 1]]]]), to=1),
    "moved later": lambda m: m.node("Neg", m.node("Exp", F([[[[1]]]]))),
}


def notes(build: Computed, folder: Path) -> tuple[str, ...]:
    model = OnnxModel((2, 8, 8), 17)
    value = model.node("Conv", IMAGE, float32(np.random.default_rng(1), 4, 2, 3, 3))
    value = model.node("Mul", value, build(model))
    return read_graph(model.save(folder, model.head(value, np.eye(4)))).notes


@pytest.mark.parametrize("case", EXACT)
def test_exact_constants_need_no_word(case: str, tmp_path: Path) -> None:
    assert notes(EXACT[case], tmp_path) == ()


@pytest.mark.parametrize("case", ROUNDED)
def test_rounded_constants_are_named(case: str, tmp_path: Path) -> None:
    (note,) = notes(ROUNDED[case], tmp_path)
    assert "constants the file computes are taken as onnxruntime computes them (float32): '" in note
