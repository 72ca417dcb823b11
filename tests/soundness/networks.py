"""Small networks of the kinds people use: squeeze-and-excite, normalisation, resizes, attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.onnx_models import IMAGE, OnnxModel, float32

Rng = np.random.Generator


def _conv(
    model: OnnxModel, rng: Rng, value: str, inputs: int, out: int, side: int, stride: int = 1, group: int = 1
) -> str:
    fan = inputs // group * side * side
    weight, bias = (
        float32(rng, out, inputs // group, side, side, scale=fan**-0.5),
        float32(rng, out, scale=0.1),
    )
    options = {"pads": [side // 2] * 4, "strides": [stride, stride], "group": group}
    return model.node("Conv", value, weight, bias, **options)


def _hard_swish(model: OnnxModel, value: str) -> str:
    gate = model.clip(model.node("Add", value, np.float32(3)), 0, 6)
    return model.node("Mul", value, model.node("Div", gate, np.float32(6)))


def _squeezed(model: OnnxModel, rng: Rng, value: str, channels: int, gate: str) -> str:
    pooled = model.node("GlobalAveragePool", value)
    few = model.node("Relu", _conv(model, rng, pooled, channels, channels // 2, 1))
    return model.node("Mul", value, model.node(gate, _conv(model, rng, few, channels // 2, channels, 1)))


def mobilenet_v3(rng: Rng, folder: Path) -> Path:
    """Inverted residuals with squeeze-and-excite, hard swish and Relu."""
    model = OnnxModel((3, 8, 8))
    value = _hard_swish(model, _conv(model, rng, IMAGE, 3, 6, 3, stride=2))
    for stride, gate in ((1, "HardSigmoid"), (2, "Sigmoid")):
        wide = _hard_swish(model, _conv(model, rng, value, 6, 12, 1))
        deep = model.node("Relu", _conv(model, rng, wide, 12, 12, 3, stride, 12))
        narrow = _conv(model, rng, _squeezed(model, rng, deep, 12, gate), 12, 6, 1)
        value = model.node("Add", value, narrow) if stride == 1 else narrow
    return model.save(folder, model.head(_hard_swish(model, value), float32(rng, 3, 6)))


def convnext(rng: Rng, folder: Path) -> Path:
    """Depthwise convolution, layer normalisation of channels, two dense layers with GELU, layer scale."""
    model = OnnxModel((3, 8, 8))
    value = model.node("Conv", IMAGE, float32(rng, 6, 3, 2, 2, scale=0.3), float32(rng, 6), strides=[2, 2])
    for _ in range(2):
        deep = model.node("Transpose", _conv(model, rng, value, 6, 6, 3, group=6), perm=[0, 2, 3, 1])
        scale, shift = 1 + float32(rng, 6, scale=0.1), float32(rng, 6, scale=0.1)
        deep = model.node("LayerNormalization", deep, scale, shift, epsilon=1e-6)
        deep = model.node("Add", model.node("MatMul", deep, float32(rng, 6, 12, scale=0.4)), float32(rng, 12))
        inner = model.node("Mul", deep, model.node("Mul", deep, deep))
        inner = model.node("Add", deep, model.node("Mul", inner, np.float32(0.044715)))
        gate = model.node("Tanh", model.node("Mul", inner, np.float32(0.7978846)))
        gelu = model.node("Mul", deep, model.node("Add", gate, np.float32(1)))
        deep = model.node("MatMul", model.node("Mul", gelu, np.float32(0.5)), float32(rng, 12, 6, scale=0.3))
        deep = model.node("Mul", deep, np.full(6, 0.5, np.float32))
        value = model.node("Add", value, model.node("Transpose", deep, perm=[0, 3, 1, 2]))
    return model.save(folder, model.head(value, float32(rng, 3, 6)))


def pyramid(rng: Rng, folder: Path) -> Path:
    """Two scales that meet, the coarser one resized; instance normalisation and attention by place."""
    model = OnnxModel((2, 6, 6))
    fine = model.node("Relu", _conv(model, rng, IMAGE, 2, 4, 3))
    coarse = model.node("Relu", _conv(model, rng, fine, 4, 4, 3, stride=2))
    coarse = model.node("InstanceNormalization", coarse, float32(rng, 4), float32(rng, 4), epsilon=0.01)
    wide = model.node("Resize", coarse, None, np.float32([1, 1, 2, 2]), mode="linear")
    both = model.node("Sum", fine, wide, model.node("Tanh", fine))
    attention = model.node("Sigmoid", _conv(model, rng, both, 4, 1, 3))
    return model.save(folder, model.head(model.node("Mul", both, attention), float32(rng, 3, 4)))


def extremes(rng: Rng, folder: Path) -> Path:
    """Operators that are written out in others; -infinity in front of a MaxPool; a cubic resize."""
    model = OnnxModel((1, 5, 5), 18)
    value = _conv(model, rng, IMAGE, 1, 3, 3)
    value = model.node("Max", value, _conv(model, rng, IMAGE, 1, 3, 1), float32(rng, 3, 1, 1, scale=0.2))
    padded = model.pad(value, [0, 0, 1, 1], -np.inf)
    value = model.node("MaxPool", padded, kernel_shape=[2, 2], strides=[2, 2])
    mish = model.node("Mish", _conv(model, rng, value, 3, 3, 1))
    value = model.node("Mean", mish, model.node("Softsign", value), model.node("Abs", value))
    under = model.node("Add", model.node("Sigmoid", value), np.float32(1))
    value = model.node("Min", value, model.node("Div", float32(rng, 3, 1, 1), under))
    value = model.node("Resize", value, None, np.float32([1, 1, 1.5, 1]), mode="cubic")
    return model.save(folder, model.head(value, float32(rng, 3, 3)))


def attention(rng: Rng, folder: Path) -> Path:
    """By channel (CBAM, its maxima too; ECA-Net, along channels) and place; GRN (ConvNeXt V2)."""
    model = OnnxModel((2, 6, 6))
    value = model.node("Relu", _conv(model, rng, IMAGE, 2, 3, 3, stride=2))
    wide = float32(rng, 3, 3, 1, 1)
    each = [model.node("Conv", model.node(f"Global{kind}Pool", value), wide) for kind in ("Average", "Max")]
    value = model.node("Mul", value, model.node("Sigmoid", model.node("Add", *each)))
    places = [model.reduce_mean(value, [1]), model.node("ReduceMax", value, axes=[1])]
    place = model.node("Conv", model.node("Concat", *places, axis=1), float32(rng, 1, 2, 1, 1))
    value = model.node("Mul", value, model.node("Sigmoid", place))
    row = model.node("Squeeze", model.node("GlobalAveragePool", value), np.array([3]))
    row = model.node("Conv", model.node("Transpose", row, perm=[0, 2, 1]), float32(rng, 1, 1, 3), pads=[1, 1])
    gate = model.squeeze(model.node("Transpose", row, perm=[0, 2, 1]), [3], "Unsqueeze")
    gate = model.node("Expand", model.node("Sigmoid", gate), np.array([1, 3, 3, 3]))
    value = model.node("Mul", value, gate)
    size = model.node("ReduceL2", value, axes=[2, 3])
    share = model.node("Div", size, model.node("Add", model.reduce_mean(size, [1]), np.float32(0.01)))
    scaled = model.node("Mul", model.node("Mul", value, share), float32(rng, 3, 1, 1))
    return model.save(folder, model.head(model.node("Add", scaled, value), float32(rng, 3, 3)))


NETWORKS: dict[str, Callable[[Rng, Path], Path]] = {
    "mobilenet v3": mobilenet_v3,
    "convnext": convnext,
    "pyramid": pyramid,
    "extremes": extremes,
    "attention": attention,
}
