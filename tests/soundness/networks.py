"""Small networks of the kinds people use: squeeze-and-excite, layer normalisation, resizes."""

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


NETWORKS: dict[str, Callable[[Rng, Path], Path]] = {
    "mobilenet v3": mobilenet_v3,
    "convnext": convnext,
    "pyramid": pyramid,
}
