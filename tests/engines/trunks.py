"""Trunks to rewrite: a part under test behind a convolution, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from corgi.network.network import Network, load
from tests.onnx_models import IMAGE, OnnxModel, float32

Build = Callable[[OnnxModel, str], str]


def network(folder: Path, build: Build, filters: int = 4, opset: int = 17) -> Network:
    """The part under test behind a convolution whose values have both signs."""
    rng = np.random.default_rng(4)
    model = OnnxModel((2, 9, 8), opset)
    value = model.node("Conv", IMAGE, float32(rng, 4, 2, 1, 1), float32(rng, 4))
    value = build(model, value)
    return load(model.save(folder, model.head(value, float32(rng, 3, filters))))


def node(op: str, *operands: Any, **attributes: Any) -> Build:
    return lambda model, value: model.node(op, value, *operands, name="culprit", **attributes)


def chain(*steps: tuple[Any, ...]) -> Build:
    """(operator, operands..., attributes) one after the other."""
    return lambda model, value: model.chain([(s[0], s[1:-1], s[-1]) for s in steps], value)


RNG = np.random.default_rng(9)
C4 = float32(RNG, 4, 1, 1)
BN = [float32(RNG, 4), float32(RNG, 4), float32(RNG, 4), np.float32([0.5, 1, 2, 3])]
WEIGHT = float32(RNG, 4, 4, 3, 3)
POOL2 = {"kernel_shape": [2, 2], "strides": [2, 2]}
POOL3 = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 2, 1]}
RELU = ("Relu", {})

CASES: dict[str, Build] = {
    "1 grouped": node("Conv", float32(RNG, 4, 2, 3, 2), BN[0], group=2, pads=[1, 0, 0, 2]),
    "1 depthwise widening": chain(
        ("Conv", float32(RNG, 8, 1, 3, 3), {"group": 4}), ("Conv", float32(RNG, 4, 8, 1, 1), {})
    ),
    "1 dilated": node("Conv", WEIGHT, dilations=[2, 3], pads=[2, 3, 2, 3]),
    "1 dilated grouped asymmetric": node(
        "Conv", float32(RNG, 4, 2, 2, 3), group=2, dilations=[3, 2], pads=[3, 0, 1, 4], strides=[2, 1]
    ),
    "1 even kernel, same": node("Conv", float32(RNG, 4, 4, 2, 4), auto_pad="SAME_UPPER", strides=[2, 2]),
    "2 batch norm folded": node("BatchNormalization", *BN),
    "2 affine chain": chain(("BatchNormalization", *BN, {}), ("Mul", C4, {}), ("Add", C4, {}), RELU),
    "2 behind an activation": chain(RELU, ("Mul", C4, {}), ("Sub", np.float32(0.5), {})),
    "2 constant first": lambda m, v: m.node("Sub", C4[None], m.node("Relu", v)),
    "2 behind a pool": chain(("AveragePool", POOL2), ("Div", C4, {})),
    "2 behind a clip": lambda m, v: m.node("Mul", m.clip(v, -0.5, 0.5), C4),
    "2 behind a pad": lambda m, v: m.node("Add", m.pad(v, [1, 0, 2, 0]), C4),
    "2 behind an add": lambda m, v: m.node("Mul", m.node("Add", v, m.node("Tanh", v)), C4),
    "3 both limits": lambda m, v: m.clip(v, -0.25, 0.75),
    "3 relu6": lambda m, v: m.clip(v, 0.0, 6.0),
    "3 negative": lambda m, v: m.clip(v, -1.0, -0.5),
    "3 low": lambda m, v: m.clip(v, 0.3, None),
    "3 high": lambda m, v: m.clip(v, None, 0.0),
    "3 none": lambda m, v: m.clip(v, None, None),
    "3 float32 range": lambda m, v: m.clip(v, -3.4028234663852886e38, 0.5),
    "4 pool": node("MaxPool", **POOL2),
    "4 relu before": chain(RELU, ("MaxPool", POOL2)),
    "4 relu behind": chain(("MaxPool", POOL2), RELU),
    "4 relu on both sides": chain(RELU, ("MaxPool", POOL3), RELU),
    "4 padded, relu before": chain(RELU, ("MaxPool", POOL3)),
    "4 padded, relu behind": chain(("MaxPool", POOL3), RELU),
    "4 padded twice": chain(RELU, ("MaxPool", POOL3), ("MaxPool", {"kernel_shape": [3, 2]})),
    "4 pool, relu, pool": chain(("MaxPool", POOL3), RELU, ("MaxPool", POOL3)),
    "4 odd": node("MaxPool", kernel_shape=[3, 1]),
    "4 overlapping": chain(RELU, ("MaxPool", {"kernel_shape": [3, 3]})),
    "4 of one": chain(RELU, ("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2]})),
    "4 large": node("MaxPool", kernel_shape=[4, 5], strides=[3, 2]),
    "4 same padding": chain(RELU, ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"})),
    "4 of the image": lambda m, v: m.node(
        "Conv", m.node("MaxPool", IMAGE, **POOL2), float32(RNG, 4, 2, 1, 1)
    ),
    "5 average": node("AveragePool", kernel_shape=[3, 2], strides=[2, 1]),
    "5 average, counted padding": node(
        "AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "5 pad": lambda m, v: m.pad(v, [2, 0, 1, 3]),
    "5 pad of a relu, pool": lambda m, v: m.node("MaxPool", m.pad(m.node("Relu", v), [0, 0, 1, 1]), **POOL2),
    "5 pad then average": lambda m, v: m.node("AveragePool", m.pad(v, [1, 1, 1, 1]), **POOL2),
    "6 identity": chain(("Identity", {}), RELU, ("Identity", {}), ("Identity", {})),
    "6 dropout": lambda m, v: m.node("Tanh", m.dropout(v)),
    "activations": chain(("LeakyRelu", {"alpha": 0.3}), ("Sigmoid", {}), ("Tanh", {})),
    "7 slopes": chain(("PRelu", np.float32([0, 0.3, 0.9, 1]).reshape(4, 1, 1), {})),
    "7 one slope": chain(("PRelu", np.float32([0.2]), {}), RELU),
    "7 slopes by nodes": lambda m, v: m.node(
        "Sub", m.node("Relu", v), m.node("Mul", m.node("Relu", m.node("Neg", v)), C4**2 / 10)
    ),
    "8 hard sigmoid": chain(("HardSigmoid", {"alpha": 0.3, "beta": 0.4})),
    "8 hard sigmoid that falls": chain(("HardSigmoid", {"alpha": -0.5, "beta": 0.7})),
    "residual": lambda m, v: m.node("Add", v, m.node("Relu", v)),
    "twice itself": lambda m, v: m.node("Add", v, v),
    "difference": lambda m, v: m.node("Sub", m.node("Tanh", v), v),
}


# Folding an Affine rewrites the value before it: every other reader of that value must see the old one.
ALIASES: dict[str, Build] = {
    "conv read by two": lambda m, v: m.node("Add", m.node("Mul", v, C4), v),
    "conv read by two, late": lambda m, v: m.node("Add", v, m.node("Mul", v, C4)),
    "identity before the affine": lambda m, v: m.node("Mul", m.node("Identity", v), C4),
    "identity read beside the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("Identity", v), C4), v
    ),
    "affine beside an identity": lambda m, v: m.node("Add", m.node("Mul", v, C4), m.node("Identity", v)),
    "two identities": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("Identity", v), C4), m.node("Identity", v)
    ),
    "identity of an identity": lambda m, v: m.node(
        "Sub", m.node("Mul", m.node("Identity", m.node("Identity", v)), C4), v
    ),
    "two affines of one value": lambda m, v: m.node("Sub", m.node("Mul", v, C4), m.node("Add", v, C4)),
    "affine of an affine read twice": lambda m, v: (lambda a: m.node("Sub", m.node("Mul", a, C4), a))(
        m.node("Add", v, C4)
    ),
    "affine read, then scaled": lambda m, v: (
        lambda a: m.node("Add", a, m.node("Mul", m.node("Identity", a), C4))
    )(m.node("Mul", v, C4)),
    "relu moved behind pools, conv read too": lambda m, v: m.node(
        "Add",
        m.node("MaxPool", m.node("Relu", v), kernel_shape=[1, 1]),
        m.node("Mul", v, C4),
    ),
    "relu with two pools": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", r, **POOL2), m.node("MaxPool", r, **POOL2))
    )(m.node("Relu", v)),
    "relu with a pool and another reader": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", r, kernel_shape=[1, 1]), r)
    )(m.node("Relu", v)),
    "relu, identity, pool": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", m.node("Identity", r), kernel_shape=[1, 1]), r)
    )(m.node("Relu", v)),
    "clip without limits before the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.clip(v, None, None), C4), v
    ),
    "dropout before the affine": lambda m, v: m.node("Add", m.node("Mul", m.dropout(v), C4), v),
    "pool of one beside the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("MaxPool", v, kernel_shape=[1, 1]), C4), v
    ),
    "pool read by a relu and another": lambda m, v: (
        lambda p: m.node("Sub", m.node("Relu", p), m.node("Mul", p, C4))
    )(m.node("MaxPool", v, **POOL2)),
    "affine of the image": lambda m, v: m.node(
        "Add", v, m.node("Conv", m.node("Mul", IMAGE, np.float32(2)), float32(RNG, 4, 2, 1, 1))
    ),
}

REFUSED: dict[str, tuple[Build, tuple[str, ...]]] = {
    "padded pool of a leaky relu": (
        lambda m, v: m.node("MaxPool", m.node("LeakyRelu", v), name="culprit", **POOL3),
        ("(MaxPool)", "padding without a Relu"),
    ),
    "padded pool of a convolution": (node("MaxPool", **POOL3), ("(MaxPool)", "padding without a Relu")),
    "padded pool, relu not the only reader": (
        lambda m, v: (lambda p: m.node("Add", m.node("Relu", p), p))(
            m.node("MaxPool", v, name="culprit", **POOL3)
        ),
        ("(MaxPool)", "padding without a Relu"),
    ),
    "padded pool of a relu and something": (
        lambda m, v: m.node(
            "MaxPool", m.node("Sub", m.node("Relu", v), np.float32(3)), name="culprit", **POOL3
        ),
        ("(MaxPool)",),
    ),
    "padded channels": (
        lambda m, v: m.slice(m.node("Pad", v, np.array([0, 1, 0, 0, 0, 1, 0, 0]), name="culprit"), 1, 5, 1),
        ("(Pad)", "padding of channels"),
    ),
    "softmax": (node("Softmax", axis=3), ("(Softmax)",)),
    "product": (lambda m, v: m.node("Mul", v, m.node("Tanh", v), name="culprit"), ("(Mul)",)),
    "square": (lambda m, v: m.node("Mul", v, v, name="culprit"), ("(Mul)",)),
    "error function": (node("Erf"), ("(Erf)",)),
    "slopes over the map": (
        node("PRelu", np.linspace(0, 1, 8, dtype=np.float32)),
        ("(PRelu)", "slopes that vary over the map", "one slope a channel"),
    ),
    "quotient": (
        lambda m, v: m.node("Div", v, m.node("Add", m.node("Sigmoid", v), np.float32(1)), name="culprit"),
        ("(Div)",),
    ),
    "mean": (
        lambda m, v: m.node("Relu", m.node("ReduceMean", v, axes=[3], name="culprit")),
        ("(ReduceMean)",),
    ),
    "linear": (node("MatMul", float32(RNG, 8, 8)), ("(MatMul)",)),
    "transpose": (
        lambda m, v: m.node(
            "MaxPool", m.node("Transpose", v, perm=[0, 1, 3, 2], name="culprit"), kernel_shape=[2, 2]
        ),
        ("(Transpose)",),
    ),
    "reshape": (
        lambda m, v: m.node("Relu", m.node("Reshape", v, np.array([0, 4, 8, 9]), name="culprit")),
        ("(Reshape)",),
    ),
    "concat in height": (
        lambda m, v: m.node("Concat", v, v, axis=2, name="culprit"),
        ("(Concat)", "axis=2", "axis=1"),
    ),
    "broadcast add": (
        lambda m, v: m.node("Add", v, m.node("GlobalAveragePool", v, name="culprit")),
        ("(GlobalAveragePool)",),
    ),
    "broadcast channel": (
        lambda m, v: m.node("Add", v, m.node("Conv", v, float32(RNG, 1, 4, 1, 1)), name="culprit"),
        ("(Add)", "different shapes"),
    ),
    "constant map": (
        node("Mul", float32(RNG, 1, 9, 8)),
        ("(Mul)", "constants that vary over the map", "one constant a channel"),
    ),
    "constant row": (node("Add", float32(RNG, 8)), ("(Add)", "constants that vary over the map")),
}


POOL_CEIL = {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 0, 0], "ceil_mode": 1}
POOL_DILATED = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [1, 1, 0, 2], "dilations": [3, 2]}
POOL_OVERLAPS = {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 1, 1, 1]}

POOLS = {"ceil_mode": POOL_CEIL, "dilations": POOL_DILATED, "padding": POOL3, "overlap": POOL_OVERLAPS}


def residual(
    first: dict[str, Any], second: dict[str, Any], size: tuple[int, int, int, int], op: str
) -> Build:
    """Two convolutions of the same value and output shape, added or subtracted; size is (kh, kw) of each."""
    kernels = [float32(RNG, 4, 4, *kernel, scale=0.3) for kernel in (size[:2], size[2:])]

    def build(model: OnnxModel, value: str) -> str:
        one = model.node("Relu", model.node("Conv", value, kernels[0], **first))
        return model.node(op, one, model.node("Conv", value, kernels[1], **second))

    return build


PATCH_CASES: dict[str, Build] = {
    **{f"pool, {what}": node("MaxPool", **pool) for what, pool in POOLS.items()},
    **{f"pool, {what}, relu before": chain(RELU, ("MaxPool", pool)) for what, pool in POOLS.items()},
    **{f"pool, {what}, relu behind": chain(("MaxPool", pool), RELU) for what, pool in POOLS.items()},
    **{f"pool, {what}, relu around": chain(RELU, ("MaxPool", pool), RELU) for what, pool in POOLS.items()},
    "pool, ceil_mode, tiles": node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "pool, stride beyond the kernel": chain(("MaxPool", {"kernel_shape": [1, 2], "strides": [2, 3]}), RELU),
    "pool of a pool": chain(("MaxPool", POOL_OVERLAPS), ("MaxPool", POOL_DILATED)),
    "pool of a leaky relu": chain(("LeakyRelu", {"alpha": 0.2}), ("MaxPool", POOL3)),
    "pool of a sigmoid": chain(("Sigmoid", {}), ("MaxPool", POOL_OVERLAPS)),
    "pool read by a relu and another": lambda m, v: (lambda p: m.node("Add", m.node("Relu", p), p))(
        m.node("MaxPool", v, **POOL3)
    ),
    "pool of a sum": lambda m, v: m.node("MaxPool", m.node("Sub", m.node("Relu", v), v), **POOL_OVERLAPS),
    "average, ceil_mode": node("AveragePool", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    "average, padding not counted": node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average, ceil_mode, padding not counted": node(
        "AveragePool", kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 0], ceil_mode=1
    ),
    "average, ceil_mode, padding counted": node(
        "AveragePool",
        kernel_shape=[3, 2],
        strides=[2, 3],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
    ),
    "constant map": node("Mul", float32(RNG, 1, 4, 9, 8)),
    "constant map, one channel": chain(RELU, ("Mul", float32(RNG, 1, 9, 8), {}), ("Add", C4, {})),
    "constant row": node("Add", float32(RNG, 8)),
    "constant map first": lambda m, v: m.node("Sub", float32(RNG, 1, 4, 9, 1), m.node("Relu", v)),
    "constant map divides": chain(("Tanh", {}), ("Div", 2 + np.abs(float32(RNG, 9, 1)), {})),
    "strided": node("Conv", WEIGHT, BN[0], strides=[2, 3], pads=[2, 1, 0, 1]),
    "depthwise strided": node("Conv", float32(RNG, 4, 1, 3, 2), group=4, strides=[2, 1], pads=[1, 0, 2, 1]),
    "grouped dilated": node("Conv", float32(RNG, 4, 2, 3, 2), group=2, dilations=[2, 3], pads=[2, 1, 2, 2]),
    "strided beyond the kernel": node("Conv", float32(RNG, 4, 4, 1, 2), strides=[2, 3]),
    "kernel larger than the value": node("Conv", float32(RNG, 4, 4, 11, 9, scale=0.2), pads=[5, 4, 5, 4]),
    "padding beyond the kernel": node("Conv", float32(RNG, 4, 4, 2, 2), pads=[3, 2, 2, 3]),
    "residual, other strides": residual({"strides": [2, 2], "pads": [1] * 4}, {}, (3, 3, 5, 5), "Add"),
    "residual, other strides, subtracted": residual(
        {"strides": [2, 2], "pads": [1] * 4}, {"dilations": [2, 1]}, (3, 3, 3, 5), "Sub"
    ),
    "residual, other kernels": residual({"pads": [1] * 4}, {"pads": [0, 4, 0, 0]}, (3, 3, 1, 5), "Add"),
    "residual, strided shortcut": lambda m, v: m.node(
        "Add",
        m.node("Conv", v, WEIGHT[:, :, :1, :1], strides=[2, 2]),
        m.node("MaxPool", v, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    ),
}


def resized(*scales: float, **attributes: Any) -> Build:
    """Resize of height and width by scales."""
    return node("Resize", None, np.float32([1, 1, *scales]), **attributes)


def pooled_sum(model: OnnxModel, value: str) -> str:
    """The value and its mean over the map through a fully connected layer: values of rank 2 in between."""
    pooled = model.node("Flatten", model.node("GlobalAveragePool", value))
    dense = model.node("Relu", model.node("Gemm", pooled, float32(RNG, 4, 4), BN[0], transB=1))
    return model.node("Add", value, model.node("Reshape", dense, np.array([0, 4, 1, 1])))


RESAMPLED: dict[str, Build] = {
    "resize, copies": resized(2, 2, coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize, linear": resized(2, 1.5, mode="linear"),
    "resize, corners": node(
        "Resize", None, None, np.array([1, 4, 5, 13]),
        mode="linear", coordinate_transformation_mode="align_corners",
    ),
    "resize, smaller": resized(0.5, 0.7, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    "resize, picks": resized(0.5, 1.3, nearest_mode="round_prefer_ceil"),
    "resize, added": lambda m, v: m.node(
        "Add", v, resized(3, 2, mode="linear")(m, m.node("MaxPool", v, kernel_shape=[3, 2], strides=[3, 2]))
    ),
    "mean of the map": lambda m, v: m.node("Add", v, m.node("GlobalAveragePool", v)),
    "mean of channels": lambda m, v: m.node("Sub", v, m.reduce_mean(v, [1])),
    "mean of everything": lambda m, v: m.node("Sub", v, m.reduce_mean(m.node("Relu", v), [1, 2, 3])),
    "mean of rows": lambda m, v: m.node("Sub", m.node("Relu", v), m.reduce_mean(v, [3])),
    "sum of columns": lambda m, v: m.node(
        "Sub", v, m.node("ReduceSum", v, np.array([2]), keepdims=1)
    ),
    "sum of three": lambda m, v: m.node("Sum", v, m.node("Relu", v), m.node("Tanh", v)),
    "mean through a dense layer": pooled_sum,
}  # fmt: skip
"""Means, copies and resizes: linear, but not windows."""


def squeezed(gate: Build) -> Build:
    """Squeeze-and-excite: every channel times a gate that is made of the means of all channels."""
    narrow, wide = float32(RNG, 3, 4, 1, 1), float32(RNG, 4, 3, 1, 1)

    def build(model: OnnxModel, value: str) -> str:
        pooled = model.node("Relu", model.node("Conv", model.node("GlobalAveragePool", value), narrow))
        return model.node("Mul", value, gate(model, model.node("Conv", pooled, wide)))

    return build


def normalised(model: OnnxModel, value: str) -> str:
    """Layer normalisation of the channels, as exporters write it before opset 17."""
    off = model.node("Sub", value, model.reduce_mean(value, [1]))
    variance = model.reduce_mean(model.node("Pow", off, np.float32(2)), [1])
    return model.node("Div", off, model.node("Sqrt", model.node("Add", variance, np.float32(1e-3))))


MULTIPLIED: dict[str, Build] = {
    "squeeze, sigmoid": squeezed(chain(("Sigmoid", {}))),
    "squeeze, hard sigmoid": squeezed(chain(("HardSigmoid", {"alpha": 0.3}))),
    "squeeze, clip": squeezed(
        lambda m, v: m.node("Div", m.clip(m.node("Add", v, np.float32(3)), 0, 6), np.float32(6))
    ),
    "spatial gate": lambda m, v: m.node(
        "Mul", m.node("Sigmoid", m.node("Conv", v, float32(RNG, 1, 4, 1, 1))), v
    ),
    "product of two values": lambda m, v: m.node(
        "Mul", v, m.node("Tanh", m.node("Conv", v, WEIGHT, pads=[1] * 4))
    ),
    "square of itself": lambda m, v: m.node("Mul", v, m.node("Identity", v)),
    "quotient of two": lambda m, v: m.node("Div", v, m.node("Add", m.node("Sigmoid", v), np.float32(1))),
    "inverse root": lambda m, v: m.node(
        "Reciprocal", m.node("Sqrt", m.node("Add", m.node("Sigmoid", v), np.float32(0.1)))
    ),
    "power": lambda m, v: m.node(
        "Pow", m.node("Add", m.node("Sigmoid", v), np.float32(0.1)), np.float32(1.7)
    ),
    "normalised by nodes": normalised,
    "layer norm, channels last": lambda m, v: m.chain(
        [
            ("Transpose", (), {"perm": [0, 2, 3, 1]}),
            ("LayerNormalization", (C4[:, 0, 0], BN[0]), {"axis": -1, "epsilon": 1e-6}),
            ("Transpose", (), {"perm": [0, 3, 1, 2]}),
        ],
        v,
    ),
    "layer norm of everything": lambda m, v: m.node(
        "LayerNormalization", v, float32(RNG, 4, 9, 8), float32(RNG, 8), axis=1
    ),
    "instance norm": node("InstanceNormalization", BN[0], BN[1], epsilon=0.01),
    "group norm, as exported": lambda m, v: m.node(
        "Mul",
        m.node(
            "Reshape",
            m.node(
                "InstanceNormalization",
                m.node("Reshape", v, np.array([0, 2, -1])),
                np.ones(2, np.float32),
                np.zeros(2, np.float32),
                epsilon=0.1,
            ),
            np.array([0, 4, 9, 8]),
        ),
        C4,
    ),
}
"""Products of values of the network, and what norms need beside them."""


def gated(gate: str, argument: float | None = None, **attributes: Any) -> Build:
    """The value times a function of a multiple of it."""

    def build(model: OnnxModel, value: str) -> str:
        inner = value if argument is None else model.node("Mul", value, np.float32(argument))
        return model.node("Mul", value, model.node(gate, inner, **attributes))

    return build


def gelu(model: OnnxModel, value: str) -> str:
    """As exporters write it before opset 20."""
    error = model.node("Erf", model.node("Div", value, np.float32(2**0.5)))
    one = model.node("Mul", value, model.node("Add", error, np.float32(1)))
    return model.node("Mul", one, np.float32(0.5))


CURVES: dict[str, Build] = {
    "silu": gated("Sigmoid"),
    "quick gelu": gated("Sigmoid", 1.702),
    "silu that falls": gated("Sigmoid", -3.0),
    "gelu": gelu,
    "hard swish": chain(("HardSwish", {})),
    "hard swish, other constants": gated("HardSigmoid", alpha=0.7, beta=0.9),
    "elu": chain(("Elu", {"alpha": 0.6})),
    "selu": chain(("Selu", {})),
    "celu": chain(("Celu", {"alpha": 0.4})),
    "softplus": chain(("Softplus", {})),
    "pool of a gelu": lambda m, v: m.node("MaxPool", gelu(m, v), **POOL_OVERLAPS),
    "silu beside its input": lambda m, v: m.node("Sub", gated("Sigmoid")(m, v), v),
}
"""Activations that the patch engine alone bounds; each is one layer of its trunk."""

PATCH_CASES |= CURVES
"""What the patch engine bounds beyond `CASES`; there, too, lies each special window it has to get right."""


def between(build: Build, filters: int = 4) -> Build:
    """The part under test between 3 x 3 convolutions: rows reach it as patches over its edges."""
    rng = np.random.default_rng(6)
    before, behind = float32(rng, 4, 4, 3, 3, scale=0.25), float32(rng, 4, filters, 3, 3, scale=0.25)

    def built(model: OnnxModel, value: str) -> str:
        value = model.node("Relu", model.node("Conv", value, before, pads=[1, 1, 1, 1]))
        value = build(model, value)
        return model.node("Conv", value, behind, pads=[1, 1, 1, 1])

    return built
