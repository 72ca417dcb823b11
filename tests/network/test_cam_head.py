"""Every form of the CAM head, and what is refused for lack of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import corgi
from corgi.errors import ModelError, NoCamHead
from corgi.network.convert import convert
from corgi.network.graph import read_graph
from corgi.network.head import NormalisedHead, recognise_head
from corgi.network.network import load
from tests.onnx_models import IMAGE, OnnxModel, float32, run_onnxruntime

RNG = np.random.default_rng(5)
WEIGHT, BIAS = float32(RNG, 4, 3), float32(RNG, 3)
Part = Callable[[OnnxModel, str], str]


def trunk(model: OnnxModel, filters: int = 4) -> str:
    """A feature map [filters, 6, 5]."""
    weight = float32(np.random.default_rng(1), filters, 2, 3, 3)
    return model.node("Relu", model.node("Conv", IMAGE, weight))


POOLINGS: dict[str, Part] = {
    "global-average-pool": lambda m, v: m.node("GlobalAveragePool", v),
    "reduce-mean": lambda m, v: m.reduce_mean(v, [2, 3]),
    "reduce-mean-order": lambda m, v: m.reduce_mean(v, [3, 2]),
    "reduce-mean-negative": lambda m, v: m.reduce_mean(v, [-1, -2]),
    "average-pool": lambda m, v: m.node("AveragePool", v, kernel_shape=[6, 5]),
    "average-pool-wider": lambda m, v: m.node("AveragePool", v, kernel_shape=[9, 6], pads=[1, 1, 2, 0]),
    "average-pool-strides": lambda m, v: m.node("AveragePool", v, kernel_shape=[6, 5], strides=[7, 7]),
    "reduce-mean-of-rows": lambda m, v: m.reduce_mean(
        m.node("Transpose", m.node("Reshape", v, np.array([0, 4, -1])), perm=[0, 2, 1]), [1]
    ),
    "average-pool-ceil": lambda m, v: m.node(
        "AveragePool", v, kernel_shape=[6, 5], strides=[6, 5], ceil_mode=1, count_include_pad=1
    ),
    "average-pool-ceil-larger": lambda m, v: m.node(
        "AveragePool", v, kernel_shape=[32, 32], strides=[32, 32], ceil_mode=1, count_include_pad=1
    ),
}
MIDDLES: dict[str, Part] = {
    "flatten": lambda m, v: m.node("Flatten", v),
    "reshape": lambda m, v: m.node("Reshape", v, np.array([0, -1])),
    "reshape-fixed": lambda m, v: m.node("Reshape", v, np.array([-1, 4])),
    "squeeze": lambda m, v: m.squeeze(v, [2, 3]),
    "squeeze-twice": lambda m, v: m.squeeze(m.squeeze(v, [3]), [2]),
    "dropout-flatten": lambda m, v: m.node("Flatten", m.dropout(v)),
    "flatten-dropout-identity": lambda m, v: m.node("Identity", m.dropout(m.node("Flatten", v))),
    "up-and-down": lambda m, v: m.node("Flatten", m.squeeze(v, [1], "Unsqueeze")),
}
ZERO = np.zeros(3, np.float32)
DENSES: dict[str, tuple[Part, np.ndarray]] = {
    "gemm": (lambda m, v: m.node("Gemm", v, WEIGHT, BIAS), BIAS),
    "gemm-transposed": (lambda m, v: m.node("Gemm", v, WEIGHT.T, BIAS, transB=1), BIAS),
    "gemm-no-bias": (lambda m, v: m.node("Gemm", v, WEIGHT), ZERO),
    "matmul": (lambda m, v: m.node("MatMul", v, WEIGHT), ZERO),
    "matmul-add": (lambda m, v: m.node("Add", m.node("MatMul", v, WEIGHT), BIAS), BIAS),
    "add-matmul": (lambda m, v: m.node("Add", BIAS[None], m.node("MatMul", v, WEIGHT)), BIAS),
    "matmul-add-scalar": (
        lambda m, v: m.node("Add", m.node("MatMul", v, WEIGHT), np.float32(0.5)),
        ZERO + 0.5,
    ),
    "gemm-add": (lambda m, v: m.node("Add", m.node("Gemm", v, WEIGHT, BIAS), BIAS), 2 * BIAS),
}


def check(model: OnnxModel, output: str, folder: Path, bias: np.ndarray, softmax: bool = False) -> None:
    path = model.save(folder, output)
    network = load(path)
    head = network.head
    assert (head.map_shape, head.filters, head.classes, head.activation) == (
        (6, 5),
        4,
        3,
        "softmax" if softmax else "none",
    )
    assert_allclose(head.weight, WEIGHT.T, rtol=1e-7)
    assert_allclose(head.bias, bias, rtol=1e-7)
    assert head.feature == "relu1_out"
    assert "Pool" in head.pooling or "ReduceMean" in head.pooling
    image = np.random.default_rng(0).random((1, *model.shape), dtype=np.float32)
    scores, features = run_onnxruntime(path, image, head.feature)
    assert_allclose(head.scores(torch.from_numpy(features).double()), scores, atol=1e-5)
    maps = torch.stack([head.cam(torch.from_numpy(features).double(), c) for c in range(3)], 1)
    assert_allclose(maps.mean((2, 3)) + head.bias, head.logits(torch.from_numpy(features).double()))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_a_layer_normalisation_behind_pooling(softmax: bool, flat: bool, tmp_path: Path) -> None:
    """ConvNeXt: the map is that of the scores but for a positive factor of all of it."""
    rng = np.random.default_rng(3)
    model = OnnxModel((2, 8, 7), 17)
    value = model.node("GlobalAveragePool", trunk(model))
    shape = (4,) if flat else (4, 1, 1)
    constants = (float32(rng, 4).reshape(shape), float32(rng, 4).reshape(shape))
    value = model.node("Flatten", value) if flat else value
    value = model.node("LayerNormalization", value, *constants, axis=-1 if flat else 1, epsilon=1e-3)
    value = value if flat else model.node("Flatten", value)
    value = model.node("Gemm", value, WEIGHT, BIAS)
    path = model.save(tmp_path, model.node("Softmax", value) if softmax else value)
    network = load(path)
    head = network.head
    assert isinstance(head, NormalisedHead)
    image = rng.random((1, *model.shape), dtype=np.float32)
    scores, found = run_onnxruntime(path, image, head.feature)
    features = torch.from_numpy(found).double()
    assert_allclose(head.scores(features), scores, atol=1e-5)
    maps = torch.stack([head.cam(features, c) for c in range(3)], 1).mean((2, 3))
    deviation = (features.mean((2, 3)).var(1, correction=0) + float(np.float32(1e-3))).sqrt()
    assert_allclose(maps / deviation + head.bias, head.logits(features))
    # Each weight is the real one: gamma w_c, less its mean over the filters.
    real = WEIGHT.T.astype(np.float64) * constants[0].reshape(-1)
    assert_allclose(head.weight, real - real.mean(1, keepdims=True), rtol=1e-12)
    result = corgi.verify(network, image[0], k=1, label=True)
    assert result.certificate.radius > 0
    assert result.label.radius == 0  # the scores are not affine in the feature map


def test_only_a_layer_normalisation_of_all_pooled_values_belongs_to_a_head(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    model = OnnxModel((2, 8, 7), 17)
    value = model.node("Flatten", model.node("GlobalAveragePool", trunk(model)))
    value = model.node("Gemm", value, float32(rng, 4, 4), float32(rng, 4))
    value = model.node("LayerNormalization", value, float32(rng, 4), float32(rng, 4))
    path = model.save(tmp_path, model.node("Gemm", value, WEIGHT, BIAS))
    with pytest.raises(NoCamHead, match="Gemm"):
        load(path)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(
    ("pooling", "opset"),
    [
        (pooling, opset)
        for pooling in POOLINGS
        for opset in (9, 13, 20)
        # Negative axes came with opset 11, ceil_mode with 10.
        if opset > 9 or not (pooling == "reduce-mean-negative" or pooling.startswith("average-pool-ceil"))
    ],
)
def test_poolings(pooling: str, opset: int, softmax: bool, tmp_path: Path) -> None:
    model = OnnxModel((2, 8, 7), opset)
    value = model.node("Flatten", POOLINGS[pooling](model, trunk(model)))
    value = model.node("Gemm", value, WEIGHT, BIAS)
    check(model, model.node("Softmax", value) if softmax else value, tmp_path, BIAS, softmax)


@pytest.mark.parametrize("opset", [9, 13, 20])
@pytest.mark.parametrize("middle", MIDDLES)
def test_what_may_lie_between(middle: str, opset: int, tmp_path: Path) -> None:
    model = OnnxModel((2, 8, 7), opset)
    value = MIDDLES[middle](model, model.node("GlobalAveragePool", trunk(model)))
    check(model, model.node("Gemm", value, WEIGHT, BIAS), tmp_path, BIAS)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("dense", DENSES)
def test_fully_connected_forms(dense: str, softmax: bool, tmp_path: Path) -> None:
    model = OnnxModel((2, 8, 7))
    value = model.reduce_mean(trunk(model), [2, 3], keepdims=0)
    part, bias = DENSES[dense]
    value = part(model, value)
    check(model, model.node("Softmax", value, axis=-1) if softmax else value, tmp_path, bias, softmax)


def gap(model: OnnxModel, value: str) -> str:
    return model.node("Flatten", model.node("GlobalAveragePool", value))


def gemm(model: OnnxModel, value: str, *shape: int) -> str:
    return model.node("Gemm", value, float32(RNG, *shape), float32(RNG, shape[1]))


def conv1(model: OnnxModel, value: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
    bias = [] if bias is None else [bias]
    return model.node("Conv", value, weight[:, :, None, None], *bias)


def batch_norm(model: OnnxModel, value: str, channels: int) -> str:
    rng = np.random.default_rng(3)
    numbers = [float32(rng, channels) for _ in range(3)]
    return model.node("BatchNormalization", value, *numbers, rng.uniform(0.5, 2, channels).astype(np.float32))


def squeezed(model: OnnxModel, value: str) -> str:
    return model.squeeze(value, [2, 3])


def gap_flat(model: OnnxModel, value: str) -> str:
    return model.node("Flatten", value)


def flat_mean(model: OnnxModel, value: str) -> str:
    return model.reduce_mean(model.node("Reshape", value, np.array([0, 0, -1])), [2], keepdims=0)


OTHER_HEADS: dict[str, tuple[Callable[[OnnxModel], str], str, str]] = {
    "1x1 convolution behind pooling": (
        lambda m: m.node("Flatten", conv1(m, m.node("GlobalAveragePool", trunk(m)), WEIGHT.T, BIAS)),
        "relu1_out",
        "none",
    ),
    "1x1 convolution before pooling": (
        lambda m: m.node("Flatten", m.node("GlobalAveragePool", conv1(m, trunk(m), WEIGHT.T, BIAS))),
        "relu1_out",
        "none",
    ),
    "1x1 convolution and Relu before pooling": (
        lambda m: m.node(
            "Flatten", m.node("GlobalAveragePool", m.node("Relu", conv1(m, trunk(m), WEIGHT.T, BIAS)))
        ),
        "relu3_out",
        "none",
    ),
    "1x1 convolution before a sum": (
        lambda m: m.node("ReduceSum", conv1(m, trunk(m), WEIGHT.T, BIAS), np.array([2, 3]), keepdims=0),
        "relu1_out",
        "none",
    ),
    "sum pooling": (
        lambda m: gemm(m, m.node("ReduceSum", trunk(m), np.array([2, 3]), keepdims=0), 4, 3),
        "relu1_out",
        "none",
    ),
    "batch norm of pooled values": (
        lambda m: gemm(m, batch_norm(m, gap(m, trunk(m)), 4), 4, 3),
        "relu1_out",
        "none",
    ),
    "batch norm of pooled maps": (
        lambda m: gemm(m, m.node("Flatten", batch_norm(m, m.node("GlobalAveragePool", trunk(m)), 4)), 4, 3),
        "relu1_out",
        "none",
    ),
    "batch norm before pooling": (
        lambda m: gemm(m, gap(m, batch_norm(m, trunk(m), 4)), 4, 3),
        "batchnormalization2_out",
        "none",
    ),
    "two linear layers": (lambda m: gemm(m, gemm(m, gap(m, trunk(m)), 4, 5), 5, 3), "relu1_out", "none"),
    "scaled scores": (
        lambda m: m.node("Mul", gemm(m, gap(m, trunk(m)), 4, 3), np.float32(2)),
        "relu1_out",
        "none",
    ),
    "log-softmax": (
        lambda m: m.node("LogSoftmax", gemm(m, gap(m, trunk(m)), 4, 3), axis=1),
        "relu1_out",
        "log-softmax",
    ),
    "sigmoid": (lambda m: m.node("Sigmoid", gemm(m, gap(m, trunk(m)), 4, 3)), "relu1_out", "sigmoid"),
    "softmax of 1x1 maps": (
        lambda m: m.node(
            "Flatten",
            m.node("Softmax", conv1(m, m.node("GlobalAveragePool", trunk(m)), WEIGHT.T, BIAS), axis=1),
        ),
        "relu1_out",
        "softmax",
    ),
    "mean of means": (
        lambda m: gemm(m, m.reduce_mean(m.reduce_mean(trunk(m), [2], keepdims=0), [2], keepdims=0), 4, 3),
        "relu1_out",
        "none",
    ),
    "mean of kept means": (
        lambda m: gemm(m, gap_flat(m, m.reduce_mean(m.reduce_mean(trunk(m), [3]), [2])), 4, 3),
        "relu1_out",
        "none",
    ),
    "pooled twice": (
        lambda m: gemm(m, gap(m, m.node("GlobalAveragePool", trunk(m))), 4, 3),
        "relu1_out",
        "none",
    ),
    "mean of flattened maps": (lambda m: gemm(m, flat_mean(m, trunk(m)), 4, 3), "relu1_out", "none"),
    "3x3 convolution before pooling": (
        lambda m: gap(m, m.node("Conv", trunk(m), float32(RNG, 3, 4, 3, 3), BIAS, pads=[1, 1, 1, 1])),
        "conv2_out",
        "none",
    ),
    "3x3 convolution and softmax": (
        lambda m: m.node("Softmax", gap(m, m.node("Conv", trunk(m), float32(RNG, 3, 4, 3, 2), BIAS))),
        "conv2_out",
        "softmax",
    ),
    "1x1 convolution with strides before pooling": (
        lambda m: gap(m, m.node("Conv", trunk(m), WEIGHT.T[:, :, None, None], BIAS, strides=[2, 1])),
        "conv2_out",
        "none",
    ),
    "grouped convolution before a sum": (
        lambda m: m.node(
            "ReduceSum",
            m.node(
                "Conv",
                m.node("Concat", trunk(m), trunk(m), trunk(m), axis=1),
                float32(RNG, 3, 4, 1, 1),
                group=3,
            ),
            np.array([2, 3]),
            keepdims=0,
        ),
        "conv7_out",
        "none",
    ),
    "batch norm behind the classifier": (
        lambda m: gap(m, batch_norm(m, conv1(m, trunk(m), WEIGHT.T, BIAS), 3)),
        "batchnormalization3_out",
        "none",
    ),
    "batch norm of pooled class maps": (
        lambda m: batch_norm(m, gap(m, m.node("Relu", conv1(m, trunk(m), WEIGHT.T, BIAS))), 3),
        "relu3_out",
        "none",
    ),
    "channels of an average pool": (
        lambda m: gap(m, m.node("AveragePool", conv1(m, trunk(m), WEIGHT.T), kernel_shape=[2, 2])),
        "averagepool3_out",
        "none",
    ),
    "no activation of the feature map": (
        lambda m: gemm(m, gap(m, m.node("Conv", trunk(m), float32(RNG, 4, 4, 3, 3))), 4, 3),
        "conv2_out",
        "none",
    ),
}


@pytest.mark.parametrize("case", OTHER_HEADS)
def test_other_heads(case: str, tmp_path: Path) -> None:
    build, feature, activation = OTHER_HEADS[case]
    model = OnnxModel((2, 8, 7), 17)
    path = model.save(tmp_path, build(model))
    network = load(path)
    head = network.head
    assert (head.feature, head.activation, head.classes) == (feature, activation, 3)
    images = np.random.default_rng(0).random((3, *model.shape), dtype=np.float32)
    scores, features = network.oracle.run(images)
    maps = torch.stack([head.cam(torch.from_numpy(features).double(), c) for c in range(3)], 1)
    pooled = maps.sum((2, 3)) if head.sums else maps.mean((2, 3))
    assert_allclose(head.activation(pooled + head.bias), scores, atol=1e-5)
    assert_allclose(network.trunk(torch.from_numpy(images).double()), features, atol=1e-5)


def test_one_of_two_outputs(tmp_path: Path) -> None:
    model = OnnxModel((2, 8, 7))
    pooled = gap(model, trunk(model))
    first, second = gemm(model, pooled, 4, 3), gemm(model, pooled, 4, 5)
    path = model.save(tmp_path, first, second)
    assert [load(path, output=name).head.classes for name in (first, second)] == [3, 5]
    with pytest.raises(ModelError, match=f"no output 'absent'; it has {first}, {second}"):
        load(path, output="absent")


NO_HEAD: dict[str, tuple[Callable[[OnnxModel], str], str, str]] = {
    "padding that counts": (
        lambda m: gemm(
            m,
            m.node(
                "Flatten",
                m.node("AveragePool", trunk(m), kernel_shape=[8, 7], pads=[1, 1, 1, 1], count_include_pad=1),
            ),
            4,
            3,
        ),
        "global average pooling",
        "(AveragePool)",
    ),
    "means of rows": (
        lambda m: gemm(m, m.reduce_mean(m.node("Reshape", trunk(m), np.array([0, 30, 4])), [1], 0), 4, 3),
        "global average pooling",
        "(ReduceMean)",
    ),
    "activation at the end": (
        lambda m: m.node("Relu", gemm(m, gap(m, trunk(m)), 4, 3)),
        "global average pooling",
        "(Relu)",
    ),
    "flattened map": (
        lambda m: gemm(m, m.node("Flatten", trunk(m)), 120, 3),
        "global average pooling",
        "(Flatten) of shape [1, 120]: the map [4, 6, 5] of node 'relu1' (Relu) is flattened",
    ),
    "two layers": (
        lambda m: gemm(m, m.node("Relu", gemm(m, gap(m, trunk(m)), 4, 5)), 5, 3),
        "global average pooling",
        "(Relu)",
    ),
    "global max pooling": (
        lambda m: gemm(m, m.node("Flatten", m.node("MaxPool", trunk(m), kernel_shape=[6, 5])), 4, 3),
        "global average pooling",
        "(MaxPool) of shape [1, 4, 1, 1]: global max pooling",
    ),
    "pooling of half the map": (
        lambda m: gemm(m, m.node("Flatten", m.node("AveragePool", trunk(m), kernel_shape=[3, 5])), 16, 3),
        "global average pooling",
        "(AveragePool)",
    ),
    "mean over width only": (
        lambda m: gemm(m, m.node("Flatten", m.reduce_mean(trunk(m), [3])), 24, 3),
        "global average pooling",
        "(ReduceMean)",
    ),
    "mean over channels": (
        lambda m: gemm(m, m.node("Flatten", m.reduce_mean(trunk(m), [1])), 30, 3),
        "global average pooling",
        "(ReduceMean)",
    ),
    "activation after pooling": (
        lambda m: gemm(m, m.node("Tanh", gap(m, trunk(m))), 4, 3),
        "global average pooling",
        "(Tanh)",
    ),
    "1x1 convolution over another axis": (
        lambda m: m.node(
            "Flatten",
            m.node(
                "Conv",
                m.node("Reshape", gap(m, trunk(m)), np.array([1, 1, 4, 1])),
                float32(RNG, 3, 1, 1, 1),
                strides=[2, 1],
            ),
        ),
        "global average pooling",
        "(Conv)",
    ),
    "pooling of the image": (
        lambda m: gemm(m, gap(m, IMAGE), 2, 3),
        "a feature map computed from the image",
        "the network's input",
    ),
    "two pooled values": (
        lambda m: gemm(m, m.node("Concat", gap(m, trunk(m)), gap(m, IMAGE), axis=1), 6, 3),
        "global average pooling",
        "(Concat)",
    ),
}


@pytest.mark.parametrize("case", NO_HEAD)
def test_networks_without_a_cam_head_say_what_was_found(case: str, tmp_path: Path) -> None:
    build, expected, found = NO_HEAD[case]
    model = OnnxModel((2, 8, 7))
    path = model.save(tmp_path, build(model))
    with pytest.raises(NoCamHead) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"expected {expected}" in message
    assert found in message[message.index("found") :]
    assert caught.value.hint


def test_layers_that_cancel_are_composed_exactly(tmp_path: Path) -> None:
    """2^53 + 1 - 2^53 is 1; a float64 product of the layers says 0, and another pixel is then on top."""
    model = OnnxModel((2, 8, 7))
    first = np.float32([[2.0**53, 1, -(2.0**53)], [0, 1, 0]])
    pooled = gap(model, trunk(model, 2))
    value = model.node("Gemm", model.node("Gemm", pooled, first), np.ones((3, 2), np.float32))
    head = recognise_head(convert(read_graph(model.save(tmp_path, value))))
    assert head.weight.tolist() == [[1, 1], [1, 1]]


@given(
    layers=st.lists(st.sampled_from(["gemm", "scale", "norm", "divide"]), min_size=1, max_size=4),
    conv=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_composed_heads_are_the_real_product(
    tmp_path_factory: pytest.TempPathFactory, layers: list[str], conv: bool, seed: int
) -> None:
    """Every weight is within 4 units of the product in rational numbers, every bias of its terms."""
    rng = np.random.default_rng(seed)
    model, width = OnnxModel((2, 8, 7)), 3

    def some(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)).astype(np.float32)

    def exactly(values: np.ndarray) -> list[Fraction]:
        return [Fraction(float(v)) for v in values.ravel()]

    weight = [[Fraction(int(i == j)) for j in range(width)] for i in range(width)]
    bias, terms = [Fraction(0)] * width, [Fraction(0)] * width

    def mix(matrix: np.ndarray, shift: np.ndarray) -> None:
        nonlocal weight, bias, terms
        rows = [exactly(row) for row in matrix]
        weight = [[sum(r[k] * weight[k][j] for k in range(len(r))) for j in range(3)] for r in rows]
        bias = [
            sum(x * b for x, b in zip(r, bias, strict=True)) + t
            for r, t in zip(rows, exactly(shift), strict=True)
        ]
        terms = [
            sum(abs(x) * b for x, b in zip(r, terms, strict=True)) + abs(t)
            for r, t in zip(rows, exactly(shift), strict=True)
        ]

    value = trunk(model, 3)
    if conv and "gemm" not in layers:
        matrix, shift = some(3, 3), some(3)
        value = conv1(model, value, matrix, shift)
        mix(matrix, shift)
    value = gap(model, value)
    for kind in layers:
        if kind == "gemm":
            matrix, shift = some(3, 3), some(3)
            value = model.node("Gemm", value, matrix, shift, transB=1)
            mix(matrix, shift)
            continue
        numbers = [some(3) for _ in range(4)]
        if kind == "scale":
            value = model.node("Mul", value, numbers[0][None])
            scale, shifts = exactly(numbers[0]), [Fraction(0)] * 3
        elif kind == "divide":
            value = model.node("Div", value, numbers[0][None])
            scale, shifts = [1 / v for v in exactly(numbers[0])], [Fraction(0)] * 3
        else:
            numbers[3] = abs(numbers[3])
            value = model.node("BatchNormalization", value, *numbers, epsilon=0.5)
            gamma, beta, mean, variance = map(exactly, numbers)
            scale = [g / _root(v + Fraction(1, 2)) for g, v in zip(gamma, variance, strict=True)]
            shifts = [b - m * s for b, m, s in zip(beta, mean, scale, strict=True)]
        weight = [[s * w for w in row] for s, row in zip(scale, weight, strict=True)]
        bias = [s * b + t for s, b, t in zip(scale, bias, shifts, strict=True)]
        size = (
            [
                abs(b) + abs(m) * abs(s)
                for b, m, s in zip(exactly(numbers[1]), exactly(numbers[2]), scale, strict=True)
            ]
            if kind == "norm"
            else [Fraction(0)] * 3
        )
        terms = [abs(s) * b + t for s, b, t in zip(scale, terms, size, strict=True)]
    path = model.save(tmp_path_factory.mktemp("head"), value)
    head = recognise_head(convert(read_graph(path)))
    unit = Fraction(2) ** -53
    for row, expected in zip(head.weight.tolist(), weight, strict=True):
        assert all(abs(Fraction(w) - e) <= 4 * unit * abs(e) for w, e in zip(row, expected, strict=True))
    for found, size, expected, term in zip(
        head.bias.tolist(), head.bias_terms.tolist(), bias, terms, strict=True
    ):
        assert abs(Fraction(found) - expected) <= 4 * unit * term
        assert Fraction(size) >= term * (1 - 1000 * unit)


def _root(value: Fraction) -> Fraction:
    """The square root to 200 bits."""
    shift = 2**400
    return Fraction(math.isqrt(value.numerator * shift // value.denominator), 2**200)


def test_a_head_that_is_only_rounding_is_refused(tmp_path: Path) -> None:
    """A batch normalisation between two layers whose terms cancel to nothing."""
    model = OnnxModel((2, 8, 7))
    value = model.node("Gemm", gap(model, trunk(model, 2)), np.float32([[1, 1, 0], [1, 1, 1]]))
    same = [np.float32([v, v, 1]) for v in (0.3, 0.0, 0.0, 0.7)]
    value = model.node("BatchNormalization", value, *same)
    last = np.float32([[1, 0], [-1, 1], [0, 1]])
    path = model.save(tmp_path, model.node("Gemm", value, last))
    with pytest.raises(NoCamHead, match="cancel in their product"):
        load(path)
