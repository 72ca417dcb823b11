"""Small networks from X to Y for tests, and points of boxes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corgi.vnnlib.spec import Case, Constraint, Spec
from tests.onnx_models import IMAGE, OnnxModel, float32


def dense_network(rng: np.random.Generator, folder: Path, inputs: int = 3, outputs: int = 3) -> Path:
    """X [1, inputs] -> Gemm, Relu, Gemm, Relu, Gemm -> Y [1, outputs]."""
    net = OnnxModel((inputs,))
    value, width = IMAGE, inputs
    for size in (6, 5):
        weight = float32(rng, width, size, scale=0.8)
        value = net.node("Relu", net.node("Gemm", value, weight, float32(rng, size, scale=0.5)))
        width = size
    last = net.node("Gemm", value, float32(rng, width, outputs), float32(rng, outputs))
    return net.save(folder, last)


def conv_network(rng: np.random.Generator, folder: Path) -> Path:
    """X [1, 2, 5, 5] -> Conv, Relu, MaxPool, Flatten, Gemm, Relu, MatMul, Add -> Y [1, 3]."""
    net = OnnxModel((2, 5, 5))
    value = net.node("Conv", IMAGE, float32(rng, 3, 2, 2, 2, scale=0.5), float32(rng, 3, scale=0.3))
    value = net.node("MaxPool", net.node("Relu", value), kernel_shape=[2, 2], strides=[2, 2])
    value = net.node("Flatten", value)
    value = net.node("Relu", net.node("Gemm", value, float32(rng, 12, 4, scale=0.5), float32(rng, 4)))
    value = net.node("MatMul", value, float32(rng, 4, 3))
    return net.save(folder, net.node("Add", value, float32(rng, 3)))


def spread_network(rng: np.random.Generator, folder: Path) -> Path:
    """X [1, 3] -> MatMul, Add, Reshape, Transpose to [1, 2, 4, 3], Relu, Conv, Relu, Gemm -> Y [1, 3]."""
    net = OnnxModel((3,))
    value = net.node("MatMul", IMAGE, float32(rng, 3, 24, scale=0.8))
    value = net.node("Reshape", net.node("Add", value, float32(rng, 24, scale=0.3)), np.array([1, 4, 3, 2]))
    value = net.node("Relu", net.node("Transpose", value, perm=[0, 3, 1, 2]))
    value = net.node("Conv", value, float32(rng, 3, 2, 2, 2, scale=0.5), float32(rng, 3, scale=0.3))
    value = net.node("Flatten", net.node("Relu", value))
    return net.save(folder, net.node("Gemm", value, float32(rng, 18, 3, scale=0.5), float32(rng, 3)))


def vector_network(rng: np.random.Generator, folder: Path) -> Path:
    """X [3] -> MatMul, Add, Relu, MatMul -> Y [3], no batch axis anywhere."""
    net = OnnxModel((3,), rank=1)
    value = net.node("Add", net.node("MatMul", IMAGE, float32(rng, 3, 6)), float32(rng, 6))
    output = net.node("MatMul", net.node("Relu", value), float32(rng, 6, 3))
    proto = net.proto(output)
    del proto.graph.input[0].type.tensor_type.shape.dim[0]
    path = folder / "vector.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def fractions(values: NDArray[np.float32]) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(v)) for v in values)


def at_least(output: int, level: float) -> Constraint:
    """Y_output >= level."""
    return Constraint((), ((output, Fraction(-1)),), Fraction(level))


def one_case(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    outputs: int,
    *alternatives: tuple[Constraint, ...],
) -> Spec:
    case = Case(fractions(lower), fractions(upper), alternatives)
    return Spec((len(lower),), (outputs,), (case,))
