"""Activations that exporters write as several nodes: found as structure, constants as in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from corgi.network import layers
from corgi.network.network import Network, load
from tests.network.test_operators import Build, agrees, save
from tests.onnx_models import IMAGE, OnnxModel, float32

F = np.float32
ROOT2, HALF_ROOT2 = F(1.4142135), F(0.70710677)
S4 = np.array([0, 0.25, 0.5, 1], F).reshape(4, 1, 1)


def n(model: OnnxModel, op: str, *operands: Any, **attributes: Any) -> str:
    return model.node(op, *operands, **attributes)


def error(model: OnnxModel, v: str, multiplied: bool = False) -> str:
    """Erf of v / sqrt(2)."""
    return n(model, "Erf", n(model, "Mul", HALF_ROOT2, v) if multiplied else n(model, "Div", v, ROOT2))


def gate(model: OnnxModel, v: str) -> str:
    """Relu6 of v + 3."""
    return model.clip(n(model, "Add", v, F(3)), 0.0, 6.0)


def sigmoid(model: OnnxModel, v: str, beta: float | None = None) -> str:
    return n(model, "Sigmoid", v if beta is None else n(model, "Mul", v, F(beta)))


SILU: dict[str, tuple[Build, float, float]] = {
    "x s(x)": (lambda m, v: n(m, "Mul", v, sigmoid(m, v)), 1, 1),
    "s(x) x": (lambda m, v: n(m, "Mul", sigmoid(m, v), v), 1, 1),
    "quick gelu": (lambda m, v: n(m, "Mul", v, sigmoid(m, v, 1.702)), F(1.702), 1),
    "quick gelu, divided": (
        lambda m, v: n(m, "Mul", sigmoid(m, n(m, "Div", v, F(0.25))), v),
        4,
        1,
    ),
    "minus": (lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Neg", v))), -1, 1),
    "scaled inside": (lambda m, v: n(m, "Mul", n(m, "Mul", v, F(0.5)), sigmoid(m, v)), 1, 0.5),
    "scaled outside": (lambda m, v: n(m, "Mul", F(-3), n(m, "Mul", v, sigmoid(m, v))), 1, -3),
    "scaled gate": (lambda m, v: n(m, "Mul", v, n(m, "Mul", sigmoid(m, v, 2), F(0.5))), 2, 0.5),
    "equal numbers a channel": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Mul", v, np.full((1, 4, 1, 1), 1.5, F)))),
        1.5,
        1,
    ),
    "behind identities": (
        lambda m, v: n(m, "Mul", n(m, "Identity", v), n(m, "Identity", sigmoid(m, m.dropout(v)))),
        1,
        1,
    ),
}

GELU: dict[str, tuple[Build, float, float]] = {
    "(x / 2) (erf + 1)": (
        lambda m, v: n(m, "Mul", n(m, "Mul", v, F(0.5)), n(m, "Add", error(m, v), F(1))),
        1 / float(ROOT2),
        0.5,
    ),
    "(x (erf + 1)) / 2": (
        lambda m, v: n(m, "Mul", n(m, "Mul", v, n(m, "Add", error(m, v), F(1))), F(0.5)),
        1 / float(ROOT2),
        0.5,
    ),
    "1/2 (x (1 + erf))": (
        lambda m, v: n(m, "Mul", F(0.5), n(m, "Mul", n(m, "Add", F(1), error(m, v, True)), v)),
        float(HALF_ROOT2),
        0.5,
    ),
    "x ((1 + erf) / 2)": (
        lambda m, v: n(m, "Mul", v, n(m, "Div", n(m, "Add", F(1), error(m, v)), F(2))),
        1 / float(ROOT2),
        0.5,
    ),
    "x (erf / 2 + 1/2)": (
        lambda m, v: n(m, "Mul", v, n(m, "Add", n(m, "Mul", error(m, v), F(0.5)), F(0.5))),
        1 / float(ROOT2),
        0.5,
    ),
    "without the half": (
        lambda m, v: n(m, "Mul", v, n(m, "Add", error(m, v), F(1))),
        1 / float(ROOT2),
        1,
    ),
    "minus (-1 - erf)": (
        lambda m, v: n(m, "Mul", n(m, "Neg", v), n(m, "Sub", F(-1), error(m, v))),
        1 / float(ROOT2),
        1,
    ),
}

HARD_SWISH: dict[str, tuple[Build, float, float, float]] = {
    "x hard_sigmoid(x)": (
        lambda m, v: n(m, "Mul", v, n(m, "HardSigmoid", v, alpha=0.25, beta=0.5)),
        0.25,
        0.5,
        1,
    ),
    "(x relu6(x + 3)) / 6": (
        lambda m, v: n(m, "Div", n(m, "Mul", v, gate(m, v)), F(6)),
        1 / 6,
        0.5,
        1,
    ),
    "x (relu6(x + 3) / 6)": (
        lambda m, v: n(m, "Mul", n(m, "Div", gate(m, v), F(6)), v),
        1 / 6,
        0.5,
        1,
    ),
    "(x / 6) relu6(x + 3)": (
        lambda m, v: n(m, "Mul", n(m, "Div", v, F(6)), gate(m, v)),
        1 / 6,
        0.5,
        1,
    ),
    "other constants": (
        lambda m, v: n(m, "Mul", v, m.clip(n(m, "Add", n(m, "Mul", v, F(0.5)), F(2)), 0.0, 4.0)),
        0.125,
        0.5,
        4,
    ),
}


def only(network: Network) -> Any:
    """The one layer behind the convolution."""
    assert isinstance(network.trunk.steps[0].layer, layers.Conv)
    (step,) = network.trunk.steps[1:]
    return step.layer


opsets = pytest.mark.parametrize("opset", [9, 17, 22])


@opsets
@pytest.mark.parametrize("case", SILU)
def test_silu(case: str, opset: int, tmp_path: Path) -> None:
    build, beta, factor = SILU[case]
    layer = only(agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, build)))
    assert isinstance(layer, layers.Silu)
    assert (layer.beta, layer.factor) == pytest.approx((float(beta), factor), rel=1e-15)


@opsets
@pytest.mark.parametrize("case", GELU)
def test_gelu(case: str, opset: int, tmp_path: Path) -> None:
    """The scale is the file's, which is not 1 / sqrt(2)."""
    build, scale, factor = GELU[case]
    layer = only(agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, build)))
    assert isinstance(layer, layers.Gelu)
    assert (layer.scale, layer.factor) == pytest.approx((scale, factor), rel=1e-15)


@opsets
@pytest.mark.parametrize("case", HARD_SWISH)
def test_hard_swish(case: str, opset: int, tmp_path: Path) -> None:
    build, *constants = HARD_SWISH[case]
    layer = only(agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, build)))
    assert isinstance(layer, layers.HardSwish)
    assert (layer.alpha, layer.beta, layer.factor) == pytest.approx(tuple(constants), rel=1e-15)


PRELU: dict[str, Build] = {
    "relu(x) + (-s) relu(-x)": lambda m, v: n(
        m, "Add", n(m, "Relu", v), n(m, "Mul", n(m, "Relu", n(m, "Neg", v)), -S4)
    ),
    "relu(x) - s relu(-x)": lambda m, v: n(
        m, "Sub", n(m, "Relu", v), n(m, "Mul", S4, n(m, "Relu", n(m, "Mul", v, F(-1))))
    ),
    "-s relu(-x) + relu(x)": lambda m, v: n(
        m, "Add", n(m, "Neg", n(m, "Mul", S4, n(m, "Relu", n(m, "Neg", v)))), n(m, "Relu", v)
    ),
    "relu(x) + s min(x, 0)": lambda m, v: n(m, "Add", n(m, "Relu", v), n(m, "Mul", m.clip(v, None, 0.0), S4)),
    "s x + (1 - s) relu(x)": lambda m, v: n(
        m, "Add", n(m, "Mul", v, S4), n(m, "Mul", n(m, "Relu", v), 1 - S4)
    ),
    "x + (1 - s) relu(-x)": lambda m, v: n(m, "Add", v, n(m, "Mul", n(m, "Relu", n(m, "Neg", v)), 1 - S4)),
}


@opsets
@pytest.mark.parametrize("case", PRELU)
def test_prelu(case: str, opset: int, tmp_path: Path) -> None:
    layer = only(agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, PRELU[case])))
    assert isinstance(layer, layers.PRelu)
    assert torch.equal(layer.slope, torch.from_numpy(S4).double())


UNEQUAL = np.array([1, 1, 1, 1 + 2e-7], F).reshape(4, 1, 1)

LEFT: dict[str, tuple[Build, type[nn.Module]]] = {
    "square": (lambda m, v: n(m, "Mul", v, v), layers.Mul),
    "square of a gate": (lambda m, v: (lambda s: n(m, "Mul", s, s))(sigmoid(m, v)), layers.Mul),
    "gate of another value": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Conv", v, np.ones((4, 4, 1, 1), F)))),
        layers.Mul,
    ),
    "tanh": (lambda m, v: n(m, "Mul", v, n(m, "Tanh", v)), layers.Mul),
    "gate moved": (lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Add", v, F(1e-7)))), layers.Mul),
    "value moved": (lambda m, v: n(m, "Mul", n(m, "Add", v, F(1e-7)), sigmoid(m, v)), layers.Mul),
    "gate raised": (lambda m, v: n(m, "Mul", v, n(m, "Add", sigmoid(m, v), F(1e-7))), layers.Mul),
    "beta by channel": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Mul", v, UNEQUAL))),
        layers.Mul,
    ),
    "factor by channel": (lambda m, v: n(m, "Mul", n(m, "Mul", v, UNEQUAL), sigmoid(m, v)), layers.Mul),
    "gate of the mean": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "GlobalAveragePool", v))),
        layers.Mul,
    ),
    "divided by the gate": (lambda m, v: n(m, "Div", v, n(m, "Add", sigmoid(m, v), F(1))), layers.Div),
    "two constants that cancel": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Sub", n(m, "Add", v, F(0.1)), F(0.1)))),
        layers.Mul,
    ),
    "many constants": (
        lambda m, v: n(m, "Mul", v, sigmoid(m, n(m, "Mul", n(m, "Mul", n(m, "Mul", v, F(2)), F(3)), F(0.1)))),
        layers.Mul,
    ),
    "erf + 1.0000001": (
        lambda m, v: n(m, "Mul", v, n(m, "Add", error(m, v), F(1.0000001))),
        layers.Mul,
    ),
    "1 - erf": (lambda m, v: n(m, "Mul", v, n(m, "Sub", F(1), error(m, v))), layers.Mul),
    "erf alone": (lambda m, v: n(m, "Mul", v, error(m, v)), layers.Mul),
    "erf moved": (
        lambda m, v: n(m, "Mul", v, n(m, "Add", error(m, n(m, "Add", v, F(0.001))), F(1))),
        layers.Mul,
    ),
    "clip from below 0": (lambda m, v: n(m, "Mul", v, m.clip(v, -0.001, 6.0)), layers.Mul),
    "clip without an end": (lambda m, v: n(m, "Mul", v, m.clip(v, 0.0, None)), layers.Mul),
    "falling hard sigmoid": (
        lambda m, v: n(m, "Mul", v, n(m, "HardSigmoid", v, alpha=-0.2)),
        layers.Mul,
    ),
    "residual": (lambda m, v: n(m, "Add", v, n(m, "Relu", v)), layers.Add),
    "twice": (lambda m, v: n(m, "Add", v, v), layers.Add),
    "difference": (lambda m, v: n(m, "Sub", n(m, "Relu", v), v), layers.Sub),
    "prelu of two values": (
        lambda m, v: n(m, "Sub", n(m, "Relu", v), n(m, "Relu", n(m, "Neg", n(m, "Tanh", v)))),
        layers.Sub,
    ),
    "steep prelu": (
        lambda m, v: n(m, "Sub", n(m, "Relu", v), n(m, "Mul", n(m, "Relu", n(m, "Neg", v)), F(1.5))),
        layers.Sub,
    ),
    "falling prelu": (
        lambda m, v: n(m, "Add", n(m, "Relu", v), n(m, "Mul", n(m, "Relu", n(m, "Neg", v)), F(0.5))),
        layers.Add,
    ),
    "prelu that is moved": (
        lambda m, v: n(m, "Sub", n(m, "Relu", v), n(m, "Relu", n(m, "Sub", F(0.01), v))),
        layers.Sub,
    ),
    "prelu with a slope above 0 that is not 1": (
        lambda m, v: n(m, "Sub", n(m, "Mul", n(m, "Relu", v), UNEQUAL), n(m, "Relu", n(m, "Neg", v))),
        layers.Sub,
    ),
    "prelu with a slope above 0 that rounds to 1": (
        lambda m, v: n(
            m,
            "Sub",
            n(m, "Mul", n(m, "Div", n(m, "Relu", v), F(3)), F(3)),
            n(m, "Mul", n(m, "Relu", n(m, "Neg", v)), F(0.5)),
        ),
        layers.Sub,
    ),
    "hard sigmoid moved so far that its constants cancel": (
        lambda m, v: n(m, "Mul", v, n(m, "HardSigmoid", n(m, "Sub", v, F(2.5)), alpha=0.2, beta=0.5)),
        layers.Mul,
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_near_misses_stay_what_they_are(case: str, tmp_path: Path) -> None:
    build, kind = LEFT[case]
    network = agrees(save(OnnxModel(), tmp_path, build))
    found = [type(step.layer) for step in network.trunk.steps]
    assert found[-1] is kind
    assert not any(issubclass(f, layers.Curve | layers.PRelu) for f in found)


def test_values_that_others_read_stay(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        half, one = n(model, "Mul", value, F(0.5)), n(model, "Add", error(model, value), F(1))
        both = n(model, "Mul", half, one)
        return n(model, "Add", n(model, "Sub", both, one), n(model, "Mul", both, F(2)))

    network = agrees(save(OnnxModel(), tmp_path, build))
    kinds = [type(step.layer) for step in network.trunk.steps]
    assert kinds.count(layers.Gelu) == 1
    assert kinds.count(layers.Erf) == 1
    assert "mul1_out" not in {step.output for step in network.trunk.steps}, "nobody reads the half"


def test_the_feature_map_may_be_the_end_of_a_pattern(tmp_path: Path) -> None:
    model = OnnxModel()
    value = n(model, "Conv", IMAGE, float32(np.random.default_rng(0), 4, 2, 1, 1))
    feature = n(model, "Mul", value, sigmoid(model, value))
    pooled = n(model, "Identity", n(model, "GlobalAveragePool", feature))
    score = n(model, "Gemm", n(model, "Flatten", pooled), float32(np.random.default_rng(1), 4, 3))
    network = load(model.save(tmp_path, score))
    assert network.head.feature == feature
    assert isinstance(network.trunk.steps[-1].layer, layers.Silu)


def test_an_activation_of_an_activation(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        for _ in range(3):
            value = n(model, "Mul", sigmoid(model, value), value)
        return value

    network = agrees(save(OnnxModel(), tmp_path, build))
    assert [type(step.layer) for step in network.trunk.steps] == [layers.Conv] + 3 * [layers.Silu]


constant = st.sampled_from([0.5, -1.0, 1.0, 3.0, 0.1])


@given(st.lists(st.tuples(st.sampled_from(["Mul", "Div", "Add", "Sub"]), constant), max_size=3), st.data())
def test_whatever_is_recognised_is_the_same_function(tmp_path_factory, steps, data) -> None:
    """Random chains of constants before, in and behind a gate."""
    kind = data.draw(st.sampled_from(["Sigmoid", "Erf", "HardSigmoid", "Relu", "Clip"]))
    last = data.draw(st.sampled_from(["Mul", "Add", "Sub"]))

    def build(model: OnnxModel, value: str) -> str:
        ways = [value, value]
        for op, number in steps:
            way = data.draw(st.integers(0, 1))
            ways[way] = n(model, op, ways[way], F(number))
        gated = model.clip(ways[1], 0.0, 2.0) if kind == "Clip" else n(model, kind, ways[1])
        for op, number in data.draw(
            st.lists(st.tuples(st.sampled_from(["Mul", "Add"]), constant), max_size=2)
        ):
            gated = n(model, op, gated, F(number))
        return n(model, last, *data.draw(st.permutations([ways[0], gated])))

    agrees(save(OnnxModel(), tmp_path_factory.mktemp("gates"), build))


CUBE: dict[str, Build] = {
    "power": lambda m, v: n(m, "Pow", v, F(3)),
    "products": lambda m, v: n(m, "Mul", v, n(m, "Mul", v, v)),
    "square": lambda m, v: n(m, "Mul", n(m, "Pow", v, F(2)), v),
}


def tanh_gelu(m: OnnxModel, v: str, cube: str, constant: float = 0.044715, one: float = 1.0) -> str:
    inner = n(m, "Add", v, n(m, "Mul", F(constant), CUBE[cube](m, v)))
    gate = n(m, "Add", F(one), n(m, "Tanh", n(m, "Mul", F(0.7978845608), inner)))
    return n(m, "Mul", n(m, "Mul", F(0.5), v), gate)


@pytest.mark.parametrize("cube", CUBE)
@pytest.mark.parametrize("constant", [0.044715, 0.2])
def test_tanh_gelu_has_the_constants_of_the_file(cube: str, constant: float, tmp_path: Path) -> None:
    path = save(OnnxModel((2, 8, 8), 17), tmp_path, lambda m, v: tanh_gelu(m, v, cube, constant))
    (layer,) = [s.layer for s in agrees(path).trunk.steps if isinstance(s.layer, layers.Curve)]
    assert isinstance(layer, layers.TanhGelu)
    linear = float(F(0.7978845608))
    assert layer.linear == linear
    assert layer.cubic == pytest.approx(linear * float(F(constant)), rel=1e-15)
    assert layer.factor == 0.5


@pytest.mark.parametrize("odd", [{"one": 0.9}, {"constant": -0.05}])
def test_what_only_looks_like_a_tanh_gelu_stays(odd: dict[str, float], tmp_path: Path) -> None:
    path = save(OnnxModel((2, 8, 8), 17), tmp_path, lambda m, v: tanh_gelu(m, v, "products", **odd))
    assert not any(isinstance(s.layer, layers.Curve) for s in agrees(path).trunk.steps)
