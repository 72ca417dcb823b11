"""Every operator of the rule table against onnxruntime, by way of `load`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from onnx import TensorProto, helper

from corgi.engines.patch.prepare import prepare
from corgi.errors import ModelError
from corgi.network import layers
from corgi.network.head import Activation
from corgi.network.network import Network, load
from corgi.network.rules import RULES, SPLITTING_RULES, symmetric_kernel
from corgi.network.written import WRITTEN_OUT
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network, run_onnxruntime

OPSETS = [9, 10, 11, 12, 13, 15, 17, 18, 20, 22]
Build = Callable[[OnnxModel, str], str]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def agrees(path: Path) -> Network:
    """Load a file and hold every value of it up to the scores equal to unoptimised onnxruntime."""
    network = load(path)
    # Wider than the pixel box, so that every side of every activation is met.
    images = float32(np.random.default_rng(3), 3, *network.input_shape, scale=2.0)
    held = {output for node in onnx.load(path).graph.node for output in node.output}
    if network.head.order != (0, 1, 2, 3):  # values are those of the file with their axes in another order
        held = set()
    names = [step.output for step in network.module.steps[:-1] if step.output in held]
    scores, *values = run_onnxruntime(path, images, *names)
    x = torch.from_numpy(images).to(torch.float64)
    assert_allclose(network.module(x).numpy(), scores, rtol=1e-4, atol=1e-5)
    for name, expected in zip(names, values, strict=True):
        assert_allclose(network.module.up_to(name)(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    features = network.module.up_to(network.head.feature)(x)
    assert_allclose(network.head.scores(features).numpy(), scores, rtol=1e-4, atol=1e-5)
    return network


def agrees_or_refused(path: Path) -> None:
    """Where onnxruntime itself departs from the specification, the file must not get past `load`."""
    with contextlib.suppress(ModelError):
        agrees(path)


def save(model: OnnxModel, folder: Path, build: Build, filters: int = 4) -> Path:
    """The operator under test between a signed convolution and a CAM head over `filters` channels."""
    value = model.node("Conv", IMAGE, float32(rng(), 4, model.shape[0], 1, 1), float32(rng(), 4))
    value = build(model, value)
    return model.save(folder, model.head(value, float32(rng(), 3, filters), float32(rng(), 3)))


def node(op: str, *operands: Any, **attributes: Any) -> Build:
    return lambda model, value: model.node(op, value, *operands, **attributes)


def batch_norm(**attributes: Any) -> Build:
    g = rng()
    operands = [float32(g, 4), float32(g, 4), float32(g, 4), g.uniform(0.1, 2, 4).astype(np.float32)]
    return node("BatchNormalization", *operands, **attributes)


def conv(*shape: int, bias: bool = True, **attributes: Any) -> Build:
    operands = [float32(rng(), *shape)] + ([float32(rng(), shape[0])] if bias else [])
    return node("Conv", *operands, **attributes)


def two(op: str, **attributes: Any) -> Build:
    """An operator of the value and of another between 1 and 2, which may divide."""
    return lambda model, value: model.node(
        op, value, model.node("Add", model.node("Sigmoid", value), np.float32(1)), **attributes
    )


def there_and_back(op: str, *operands: Any, back: tuple[str, list[Any], dict[str, Any]], **attributes: Any):
    def build(model: OnnxModel, value: str) -> str:
        return model.chain([(op, operands, attributes), back], value)

    return build


def along_one_axis(op: str, *operands: Any, **attributes: Any) -> Build:
    def build(model: OnnxModel, value: str) -> str:
        row = model.node("Reshape", value, np.array([0, 4, 64]))
        return model.node("Reshape", model.node(op, row, *operands, **attributes), np.array([0, 4, 1, -1]))

    return build


def reduction(op: str, *axes: int) -> Build:
    """Axes are an attribute before opset 18, an operand after."""
    return lambda model, value: (
        model.node(op, value, axes=axes) if model.opset < 18 else model.node(op, value, np.array(axes))
    )


CHANNELS = float32(rng(), 4, 1, 1)
CASES: dict[str, Build] = {
    "conv": conv(4, 4, 3, 3),
    "gather": node("Gather", np.array([2, 0, -1, 3]), axis=1),
    "gather-rows": node("Gather", np.array([2, 2, 0]), axis=-2),
    "pad-edge": lambda model, value: model.pad(value, [1, 0, 9, 3], mode="edge"),
    "pad-reflect": lambda model, value: model.pad(value, [7, 0, 2, 3], mode="reflect"),
    "conv-no-bias": conv(4, 4, 3, 3, bias=False),
    "conv-kernel-shape": conv(4, 4, 2, 3, kernel_shape=[2, 3]),
    "conv-groups": conv(4, 2, 3, 3, group=2),
    "conv-depthwise": conv(4, 1, 3, 3, group=4, pads=[0, 2, 1, 0]),
    "conv-same-upper": conv(4, 4, 2, 4, auto_pad="SAME_UPPER", strides=[2, 3]),
    "conv-same-lower": conv(4, 4, 2, 4, auto_pad="SAME_LOWER", strides=[2, 3]),
    "conv-valid": conv(4, 4, 3, 3, auto_pad="VALID"),
    "conv-notset": conv(4, 4, 3, 3, auto_pad="NOTSET", pads=[1, 0, 2, 1]),
    "conv-dilated-asymmetric": conv(4, 4, 2, 3, dilations=[3, 2], pads=[2, 0, 1, 3]),
    "batch-norm": batch_norm(),
    "batch-norm-epsilon": batch_norm(epsilon=0.3, momentum=0.5),
    "relu": node("Relu"),
    "leaky-relu": node("LeakyRelu"),
    "leaky-relu-alpha": node("LeakyRelu", alpha=0.3),
    "prelu": node("PRelu", np.float32([0, 0.25, 0.5, 1]).reshape(4, 1, 1)),
    "prelu-one-slope": node("PRelu", np.float32([0.3])),
    "prelu-map": node("PRelu", rng().random((4, 8, 8), dtype=np.float32)),
    "elu": node("Elu"),
    "elu-alpha": node("Elu", alpha=0.4),
    "selu": node("Selu"),
    "selu-constants": node("Selu", alpha=1.5, gamma=0.7),
    "hard-sigmoid": node("HardSigmoid"),
    "hard-sigmoid-constants": node("HardSigmoid", alpha=0.7, beta=0.1),
    "softplus": node("Softplus"),
    "erf": node("Erf"),
    "neg": node("Neg"),
    "sigmoid": node("Sigmoid"),
    "tanh": node("Tanh"),
    "max-pool": node("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "max-pool-default-stride": node("MaxPool", kernel_shape=[3, 2]),
    "max-pool-pads": node("MaxPool", kernel_shape=[3, 3], pads=[1, 2, 0, 1], strides=[2, 1]),
    "max-pool-same-upper": node("MaxPool", kernel_shape=[2, 3], auto_pad="SAME_UPPER", strides=[1, 2]),
    "max-pool-same-lower": node("MaxPool", kernel_shape=[2, 3], auto_pad="SAME_LOWER", strides=[1, 2]),
    "average-pool": node("AveragePool", kernel_shape=[2, 3], strides=[2, 1]),
    "average-pool-default-stride": node("AveragePool", kernel_shape=[2, 2]),
    "average-pool-counted": node("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    "average-pool-not-counted": node("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 1]),
    "average-pool-asymmetric": node(
        "AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 0], count_include_pad=1
    ),
    "average-pool-asymmetric-not-counted": node("AveragePool", kernel_shape=[2, 3], pads=[0, 1, 1, 0]),
    "average-pool-valid": node("AveragePool", kernel_shape=[3, 3], auto_pad="VALID"),
    "average-pool-same": node("AveragePool", kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
    "global-max-pool": lambda model, value: model.node("Sub", value, model.node("GlobalMaxPool", value)),
    "lrn": node("LRN", size=3),
    "lrn-constants": node("LRN", size=5, alpha=0.7, beta=0.3, bias=2.0),
    "add": two("Add"),
    "sum": lambda model, value: model.node("Sum", value, model.node("Tanh", value), value),
    "sum-of-one": node("Sum"),
    "sum-constant": node("Sum", CHANNELS),
    "add-itself": lambda model, value: model.node("Add", value, value),
    "sub": two("Sub"),
    "mul": two("Mul"),
    "div": two("Div"),
    "add-constant": node("Add", CHANNELS),
    "add-map": node("Add", float32(rng(), 1, 1, 8, 1)),
    "sub-constant": node("Sub", CHANNELS[None]),
    "constant-sub": lambda model, value: model.node("Sub", CHANNELS, value),
    "mul-scalar": node("Mul", np.float32(1.7)),
    "constant-mul": lambda model, value: model.node("Mul", CHANNELS, value),
    "div-constant": node("Div", CHANNELS),
    "transpose": there_and_back(
        "Transpose", perm=[0, 2, 3, 1], back=("Transpose", [], {"perm": [0, 3, 1, 2]})
    ),
    "matmul-map": node("MatMul", float32(rng(), 8, 5)),
    "reshape": there_and_back(
        "Reshape", np.array([1, -1, 4]), back=("Reshape", [np.array([0, 4, 8, -1])], {})
    ),
    "reshape-batch": there_and_back(
        "Reshape", np.array([-1, 256]), back=("Reshape", [np.array([-1, 4, 8, 8])], {})
    ),
    "flatten-negative": lambda model, value: model.node(
        "Reshape", model.node("Flatten", value, axis=1), np.array([0, 4, 8, 8])
    ),
    "identity": node("Identity"),
    "softmax-map": node("Softmax", axis=3),
    "softmax-last": lambda model, value: model.node(
        "Softmax", value, **({} if model.opset >= 13 else {"axis": 3})
    ),
    "cast": node("Cast", to=TensorProto.FLOAT),
    "reduce-mean-map": lambda model, value: model.reduce_mean(value, [-1]),
    "expand": lambda model, value: model.node(
        "Sub", value, model.node("Expand", model.node("GlobalAveragePool", value), np.array([8, 8]))
    ),
    "tile": node("Tile", np.array([1, 1, 2, 3])),
    "space-to-depth": lambda model, value: model.node(
        "Reshape", model.node("SpaceToDepth", value, blocksize=2), np.array([0, 4, 8, -1])
    ),
    "exp": node("Exp"),
    "log": lambda model, value: model.node("Log", model.node("Softplus", value)),
    "matmul-two": lambda model, value: model.node(
        "MatMul", value, model.node("Transpose", value, perm=[0, 1, 3, 2])
    ),
}


@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize("case", CASES)
def test_operator_equals_onnxruntime(case: str, opset: int, tmp_path: Path) -> None:
    agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, CASES[case]))


FORMS: dict[str, Build] = {
    "clip": lambda model, value: model.clip(value, -0.5, 1.5),
    "clip-low": lambda model, value: model.clip(value, 0.25, None),
    "clip-high": lambda model, value: model.clip(value, None, 0.25),
    "clip-nothing": lambda model, value: model.clip(value, None, None),
    "clip-float32-range": lambda model, value: model.clip(
        value, float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
    ),
    "pad-axes": lambda model, value: (
        model.node("Pad", value, np.array([1, 2]), None, np.array([2]))
        if model.opset >= 18
        else model.pad(value, [1, 0, 2, 0])
    ),
    "pad": lambda model, value: model.pad(value, [1, 0, 2, 3]),
    "pad-value": lambda model, value: model.pad(value, [1, 0, 2, 3], 1.5),
    "squeeze": lambda model, value: model.squeeze(
        model.squeeze(value, [1], "Unsqueeze"), [1] if model.opset < 11 else [-4]
    ),
    "unsqueeze-two": lambda model, value: model.squeeze(model.squeeze(value, [2, 4], "Unsqueeze"), [4, 2]),
    "reduce-mean": lambda model, value: model.reduce_mean(value, [3]),
    "slice-channels": lambda model, value: model.node(
        "Concat",
        model.slice(value, 2, 4, 1),
        model.slice(value, -4, -2, -3 if model.opset > 9 else 1),
        axis=1,
    ),
    "slice-map": lambda model, value: model.slice(value, 1, 2**31, 2),
    "slice-nothing": lambda model, value: model.slice(value, 0, 8, 3),
    "split": lambda model, value: model.node("Concat", *reversed(model.split(value, [1, 3])), axis=1),
    "shuffle": lambda model, value: model.node(
        "Reshape",
        model.node(
            "Transpose", model.node("Reshape", value, np.array([0, 2, 2, 8, 8])), perm=[0, 2, 1, 3, 4]
        ),
        np.array([0, 4, 8, 8]),
    ),
    "dropout": lambda model, value: model.dropout(value),
}


def resize(**attributes: Any) -> Build:
    return node("Resize", None, np.float32([1, 1, 2, 0.75]), **attributes)


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")

RESIZES: dict[str, tuple[int, Build]] = {
    **{
        f"resize-{mode}-{coordinates}": (13, resize(mode=mode, coordinate_transformation_mode=coordinates))
        for mode in ("nearest", "linear", "cubic")
        for coordinates in COORDINATES
    },
    **{
        f"resize-nearest-{rounding}": (13, resize(nearest_mode=rounding))
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    },
    "resize-default": (13, resize()),
    "resize-cubic-coefficient": (13, resize(mode="cubic", cubic_coeff_a=-0.5)),
    "resize-region": (11, node("Resize", np.float32([]), np.float32([1, 1, 2, 3]), mode="linear")),
    "resize-sizes": (13, node("Resize", None, None, np.array([1, 4, 3, 13]), mode="linear")),
    "resize-empty-scales": (11, node("Resize", np.float32([]), np.float32([]), np.array([1, 4, 12, 8]))),
    "resize-axes": (18, node("Resize", None, None, np.array([11, 5]), axes=[3, -2], mode="linear")),
    "resize-symmetric": (
        19,
        resize(mode="linear", coordinate_transformation_mode="half_pixel_symmetric"),
    ),
    # 6 * 0.8333333 is 5 as a float32 product, a little less as a real one.
    "resize-rounded-size": (
        13,
        lambda model, value: node("Resize", None, np.float32([1, 1, 5 / 6, 1]), mode="linear")(
            model, model.slice(value, 0, 6, 2)
        ),
    ),
    "resize-one": (
        13,
        lambda model, value: node("Resize", None, np.float32([1, 1, 4, 4]), mode="linear")(
            model, model.node("GlobalAveragePool", value)
        ),
    ),
}


@pytest.mark.parametrize("case", RESIZES)
def test_resize_equals_onnxruntime(case: str, tmp_path: Path) -> None:
    since, build = RESIZES[case]
    agrees(save(OnnxModel((2, 8, 8), since), tmp_path, build))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_older_resizes(mode: str, tmp_path: Path) -> None:
    scales = np.float32([1, 1, 2.5, 1.3])
    agrees(save(OnnxModel((2, 8, 8), 10), tmp_path, node("Resize", scales, mode=mode)))
    agrees(save(OnnxModel((2, 8, 8), 9), tmp_path, node("Upsample", scales, mode=mode)))


F32 = np.float32

NEWER: dict[str, tuple[int, Build]] = {
    "celu": (12, node("Celu")),
    "celu-alpha": (12, node("Celu", alpha=0.3)),
    "hard-swish": (14, node("HardSwish")),
    "pad-wrap": (19, node("Pad", np.array([0, 0, 1, 8, 0, 0, 3, 2]), mode="wrap")),
    "gelu": (20, node("Gelu")),
    "gelu-none": (20, node("Gelu", approximate="none")),
    "gelu-tanh": (20, node("Gelu", approximate="tanh")),
    "layer-norm": (17, node("LayerNormalization", float32(rng(), 8), float32(rng(), 8))),
    "layer-norm-no-bias": (17, node("LayerNormalization", float32(rng(), 4, 8, 8), axis=1, epsilon=0.1)),
    "instance-norm": (13, node("InstanceNormalization", *float32(rng(), 2, 4))),
    "group-norm": (21, node("GroupNormalization", *float32(rng(), 2, 4), num_groups=2)),
    "pow": (13, node("Pow", np.float32(2))),
    "pow-integer": (15, node("Pow", np.int64(3))),
    "pow-one": (13, node("Pow", np.float32([1]))),
    "roots": (
        13,
        lambda model, value: model.node(
            "Reciprocal", model.node("Sqrt", model.node("Add", model.node("Mul", value, value), F32(0.3)))
        ),
    ),
}


WRITTEN: dict[str, tuple[int, Build]] = {
    "max": (13, lambda model, value: model.node("Max", value, model.node("Tanh", value), CHANNELS)),
    "max-number": (13, node("Max", np.float32(0.25))),
    "max-one": (13, node("Max")),
    "min": (13, lambda model, value: model.node("Min", CHANNELS, value, model.node("Neg", value))),
    "min-number": (13, lambda model, value: model.node("Min", np.float32([6]), value)),
    "mean": (13, lambda model, value: model.node("Mean", value, model.node("Tanh", value), CHANNELS)),
    "mean-one": (13, node("Mean")),
    "sum-three": (13, lambda model, value: model.node("Sum", CHANNELS, value, np.float32(2))),
    "constant-div": (
        13,
        lambda model, value: model.node("Div", CHANNELS, model.node("Add", model.node("Exp", value), F32(1))),
    ),
    "abs": (13, node("Abs")),
    "softsign": (13, node("Softsign")),
    "mish": (18, node("Mish")),
    "swish": (24, node("Swish", alpha=1.5)),
    "reduce-l1": (13, reduction("ReduceL1", 3)),
    "reduce-l2": (
        13,
        lambda model, value: model.node("Mul", value, reduction("ReduceL2", 2, 3)(model, value)),
    ),
    "reduce-squares": (13, reduction("ReduceSumSquare", -1)),
    "gather-one": (
        13,
        there_and_back("Gather", np.array(2), axis=-1, back=("Unsqueeze", [np.array([3])], {})),
    ),
    "conv-1d": (
        13,
        along_one_axis(*("Conv", float32(rng(), 4, 2, 5)), strides=[2], pads=[1, 2], dilations=[2], group=2),
    ),
    "max-pool-1d": (13, along_one_axis("MaxPool", kernel_shape=[3])),
    "average-pool-1d": (13, along_one_axis("AveragePool", kernel_shape=[4], pads=[1, 1], strides=[3])),
    "einsum": (13, node("Einsum", float32(rng(), 4, 4), equation="bchw,ck->bkwh")),
    "einsum-first": (
        13,
        lambda model, value: model.node("Einsum", float32(rng(), 5, 8), value, equation="kh,bchw->bckw"),
    ),
    "einsum-two-axes": (13, node("Einsum", float32(rng(), 8, 8, 3, 5), equation="bchw,whxy->bcxy")),
    "einsum-scale": (13, node("Einsum", float32(rng(), 8, 4), equation="b c h w, w c -> b c w h")),
    "einsum-sum": (
        13,
        there_and_back("Einsum", equation="bchw->bcw", back=("Unsqueeze", [np.array([3])], {})),
    ),
}
"""Operators written out in others; what stands between has no name in the file."""


@pytest.mark.parametrize("case", NEWER)
def test_newer_operator_equals_onnxruntime(case: str, tmp_path: Path) -> None:
    since, build = NEWER[case]
    for opset in (since, 22):
        agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, build))


@pytest.mark.parametrize("case", WRITTEN)
def test_operator_written_out_equals_onnxruntime(case: str, tmp_path: Path) -> None:
    since, build = WRITTEN[case]
    agrees(save(OnnxModel((2, 8, 8), since), tmp_path, lambda m, v: m.node("Tanh", build(m, v))))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", FORMS)
def test_attribute_and_operand_forms(case: str, opset: int, tmp_path: Path) -> None:
    agrees(save(OnnxModel((2, 8, 8), opset), tmp_path, FORMS[case]))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [None, 1])
def test_softmax_of_scores(opset: int, axis: int | None, tmp_path: Path) -> None:
    model = OnnxModel(opset=opset)
    value = model.head(model.node("Conv", IMAGE, float32(rng(), 4, 2, 3, 3)), float32(rng(), 3, 4))
    attributes = {} if axis is None else {"axis": axis}
    assert (
        agrees(model.save(tmp_path, model.node("Softmax", value, **attributes))).head.activation
        is Activation.SOFTMAX
    )


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"dilations": [2, 1]}),
        ("MaxPool", {"dilations": [1, 2], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("MaxPool", {"ceil_mode": 1, "strides": [2, 2]}),
        ("AveragePool", {"ceil_mode": 1, "strides": [2, 2]}),
        ("AveragePool", {"ceil_mode": 1, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ],
)
def test_pool_attributes_engines_refuse_still_convert(
    op: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    build = node(op, kernel_shape=[3, 3], **attributes)
    agrees(save(OnnxModel((2, 8, 8), 17), tmp_path, build))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@given(
    size=st.integers(4, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 4),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    counted=st.integers(0, 1),
)
def test_ceil_mode_is_that_of_onnx_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    op: str,
    size: int,
    kernel: int,
    stride: int,
    pads: tuple[int, ...],
    counted: int,
) -> None:
    """torch and ONNX drop different windows; where they do, the gate or the layer must say so."""
    assume(max(pads) < kernel)
    model = OnnxModel((1, size, size), 22)
    attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": 1}
    if op == "AveragePool":
        attributes["count_include_pad"] = counted
    path = save(model, tmp_path_factory.mktemp("ceil"), node(op, pads=list(pads), **attributes))
    agrees_or_refused(path)


def pool_or_conv(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 3)), draw(st.integers(1, 4))]
    return {
        "kernel": kernel,
        "strides": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
        "dilations": [draw(st.integers(1, 2)), draw(st.integers(1, 2))],
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
    }


windows = st.composite(pool_or_conv)()


@given(
    window=windows, groups=st.sampled_from([1, 2, 4]), size=st.tuples(st.integers(7, 9), st.integers(8, 10))
)
def test_convolutions(
    tmp_path_factory: pytest.TempPathFactory, window: dict[str, Any], groups: int, size: tuple[int, int]
) -> None:
    kernel = window.pop("kernel")
    build = conv(4, 4 // groups, *kernel, group=groups, **window)
    network = agrees(save(OnnxModel((2, *size), 17), tmp_path_factory.mktemp("conv"), build))
    for step in network.trunk.steps:
        assert isinstance(step.layer, layers.Conv)


@given(window=windows, dilated=st.booleans())
def test_max_pools(tmp_path_factory: pytest.TempPathFactory, window: dict[str, Any], dilated: bool) -> None:
    kernel = window.pop("kernel")
    if not dilated:
        window.pop("dilations")
    build = node("MaxPool", kernel_shape=kernel, **window)
    agrees(save(OnnxModel((2, 9, 10), 17), tmp_path_factory.mktemp("pool"), build))


@given(window=windows, counted=st.integers(0, 1))
def test_average_pools(
    tmp_path_factory: pytest.TempPathFactory, window: dict[str, Any], counted: int
) -> None:
    kernel, _ = window.pop("kernel"), window.pop("dilations")
    window["pads"] = [k // 2 for k in kernel] * 2
    assume(all(p < k for p, k in zip(window["pads"], kernel, strict=False)))
    build = node("AveragePool", kernel_shape=kernel, count_include_pad=counted, **window)
    agrees(save(OnnxModel((2, 9, 10), 17), tmp_path_factory.mktemp("pool"), build))


@given(window=windows)
def test_symmetric_kernel_reads_the_same_pixels(window: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 3, *window["kernel"], generator=generator, dtype=torch.float64)
    x = torch.randn(1, 3, 9, 9, generator=generator, dtype=torch.float64)
    top, left, bottom, right = window["pads"]
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    stride, dilation = tuple(window["strides"]), tuple(window["dilations"])
    expected = torch.nn.functional.conv2d(padded, weight, None, stride, 0, dilation)
    kernel, padding, dilated = symmetric_kernel(weight, (top, left, bottom, right), dilation)
    torch.testing.assert_close(
        torch.nn.functional.conv2d(x, kernel, None, stride, padding, dilated), expected, rtol=0, atol=1e-12
    )


def test_concat(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        return model.node("Concat", value, model.node("Tanh", value), value, axis=-3)

    agrees(save(OnnxModel(opset=13), tmp_path, build, filters=12))


def test_zero_pad_before_max_pool_is_not_padding_with_minus_infinity(tmp_path: Path) -> None:
    """onnxruntime moves the zeros into the pool; such a file means the specification or is refused."""

    def build(model: OnnxModel, value: str) -> str:
        value = model.node("Sub", model.node("Tanh", value), np.float32(2))
        return model.node("MaxPool", model.pad(value, [1, 1, 1, 1]), kernel_shape=[2, 2])

    path = save(OnnxModel(), tmp_path, build)
    agrees_or_refused(path)


def test_zero_pad_before_max_pool_of_a_relu(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        value = model.pad(model.node("Relu", value), [0, 0, 1, 1])
        return model.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2])

    network = agrees(save(OnnxModel(), tmp_path, build))
    assert [s.op for s in network.trunk.steps] == ["Conv", "Relu", "Pad", "MaxPool"]


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("opset", [9, 13, 20])
def test_shape_chains_are_folded(batch: int | str, opset: int, tmp_path: Path) -> None:
    """x.view(x.shape[0], x.shape[1]) as exporters write it."""
    model = OnnxModel((2, 8, 8), opset, batch)
    value = model.node("Conv", IMAGE, float32(rng(), 4, 2, 3, 3))
    pooled = model.node("GlobalAveragePool", value)
    shape = model.node("Shape", pooled)
    sizes = [
        model.squeeze(model.node("Gather", shape, np.array(i), axis=0), [0], "Unsqueeze") for i in (0, 1)
    ]
    value = model.node("Reshape", pooled, model.node("Concat", *sizes, axis=0))
    value = model.node("Gemm", value, float32(rng(), 4, 3), float32(rng(), 3))
    network = agrees(model.save(tmp_path, value))
    assert [s.op for s in network.module.steps] == ["Conv", "GlobalAveragePool", "Reshape", "Gemm"]


def test_every_second_channel(tmp_path: Path) -> None:
    model = OnnxModel()
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng(), 5, 2, 3, 3)))
    network = agrees(model.save(tmp_path, model.head(model.slice(value, 1, 5, 1, 2), float32(rng(), 3, 2))))
    (_, _, last) = prepare(network).steps
    assert last.layer.weight[:, :, 0, 0].nonzero().tolist() == [[0, 1], [1, 3]]


def test_shuffles_are_one_layer_and_other_reshapes_are_not(tmp_path: Path) -> None:
    for order, found in (([0, 2, 1, 3, 4], True), ([0, 2, 1, 4, 3], False)):
        model = OnnxModel()
        value = model.node("Relu", model.node("Conv", IMAGE, float32(rng(), 4, 2, 1, 1)))
        value = model.node("Transpose", model.node("Reshape", value, np.array([0, 2, 2, 8, 8])), perm=order)
        value = model.node("Reshape", value, np.array([0, 4, 8, 8]))
        network = agrees(model.save(tmp_path, model.head(value, float32(rng(), 3, 4))))
        assert any(isinstance(s.layer, layers.Channels) for s in network.trunk.steps) == found


def test_padded_channels(tmp_path: Path) -> None:
    model = OnnxModel()
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng(), 4, 2, 3, 3)))
    value = model.node("Pad", value, np.array([0, 1, 0, 0, 0, 2, 0, 0]), np.float32(0.3))
    agrees(model.save(tmp_path, model.head(value, float32(rng(), 3, 7))))


def test_constants_by_nodes_and_arithmetic(tmp_path: Path) -> None:
    model = OnnxModel()
    raw = helper.make_tensor("raw", TensorProto.FLOAT, [4, 2, 1, 1], float32(rng(), 8))
    model.nodes.append(helper.make_node("Constant", [], ["raw"], value=raw))
    model.nodes.append(helper.make_node("Constant", [], ["half"], value_float=0.5))
    weight = model.node("Identity", model.node("Mul", "raw", "half"))
    value = model.node("Add", model.node("Conv", IMAGE, weight), "half")
    network = agrees(model.save(tmp_path, model.head(value, float32(rng(), 3, 4))))
    assert [s.op for s in network.trunk.steps] == ["Conv", "Add"]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (1, 3)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(shape: tuple[int, ...], transposed: int, tmp_path: Path) -> None:
    model = OnnxModel()
    value = model.node("Conv", IMAGE, float32(rng(), 4, 2, 3, 3))
    value = model.node("Flatten", model.node("GlobalAveragePool", value))
    weight = float32(rng(), 3, 4) if transposed else float32(rng(), 4, 3)
    value = model.node("Gemm", value, weight, float32(rng(), *shape), transB=transposed, alpha=0.7, beta=1.9)
    agrees(model.save(tmp_path, value))


def test_dilations_and_same_padding_together(tmp_path: Path) -> None:
    """onnxruntime and the specification may read these two differently: equal or refused."""
    agrees_or_refused(save(OnnxModel(), tmp_path, conv(4, 4, 3, 3, auto_pad="SAME_UPPER", dilations=[2, 2])))


def test_every_rule_is_tested(tmp_path: Path) -> None:
    tested = {"Concat", "GlobalAveragePool", "Flatten", "Gemm", "LogSoftmax", "Softmax"}
    tested |= {"ReduceMax", "ReduceSum"}  # test_cam_head.py
    tested |= {"Upsample"}  # above
    newer = (build for _, build in (*NEWER.values(), *RESIZES.values(), *WRITTEN.values()))
    for build in [*CASES.values(), *FORMS.values(), *newer]:
        model = OnnxModel((2, 8, 8), 13)
        build(model, IMAGE)
        tested |= {n.op_type for n in model.nodes}
    assert tested == {*RULES, *SPLITTING_RULES, *WRITTEN_OUT}


def test_samples_are_independent(tmp_path: Path) -> None:
    for seed in range(8):
        network = load(random_cam_network(np.random.default_rng(seed), tmp_path))
        x = torch.rand(3, *network.input_shape, dtype=torch.float64)
        one_by_one = torch.cat([network.module(x[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(network.module(x), one_by_one, rtol=0, atol=1e-12)


def test_float32_trunk_leaves_the_float64_one_alone(tmp_path: Path) -> None:
    network = load(random_cam_network(np.random.default_rng(1), tmp_path))
    x = torch.rand(1, *network.input_shape, dtype=torch.float64)
    before = network.trunk(x)
    narrow = network.trunk32(x.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(network.trunk(x), before)


def test_metadata(tmp_path: Path) -> None:
    metadata = {"corgi.preprocess": "resize", "corgi.class_names": '["a", "b", "c"]'}
    model = OnnxModel(metadata=metadata)
    network = load(save(model, tmp_path, node("Relu")))
    assert network.preprocess == "resize"
    assert [network.class_name(i) for i in range(3)] == ["a", "b", "c"]
    for names in ("{", '["a"]', "3"):
        model = OnnxModel(metadata={"corgi.class_names": names})
        with pytest.raises(ModelError, match=r"corgi\.class_names"):
            load(save(model, tmp_path, node("Relu")))


def test_digest_changes_with_the_weights(tmp_path: Path) -> None:
    path = save(OnnxModel(), tmp_path, node("Relu"))
    before = load(path).sha256
    proto = onnx.load(path)
    weight = np.frombuffer(proto.graph.initializer[0].raw_data, np.float32) * 2
    proto.graph.initializer[0].raw_data = weight.tobytes()
    onnx.save(proto, path)
    assert load(path).sha256 != before


def test_cam_is_the_weighted_sum_of_onnxruntimes_features(tmp_path: Path) -> None:
    path = save(OnnxModel(), tmp_path, node("Relu"))
    network = load(path)
    image = rng().random((2, 8, 8), dtype=np.float32)
    scores, features = run_onnxruntime(path, image[None], network.head.feature)
    for class_id in range(3):
        expected = np.einsum("fhw,f->hw", features[0].astype(np.float64), network.head.weight[class_id])
        assert_allclose(network.cam(image, class_id), expected, atol=1e-5)
        cam, label = network.oracle_cam(image, class_id)
        assert_allclose(cam, expected, atol=1e-6)
        assert label == network.predict(image) == scores[0].argmax()
    assert network.pixels == 64


def test_paper_model(paper_model: Network, paper_image: np.ndarray) -> None:
    assert (paper_model.head.map_shape, paper_model.head.classes) == ((24, 24), 43)
    assert paper_model.predict(paper_image) == 17
    cam, label = paper_model.oracle_cam(paper_image, 17)
    assert label == 17
    assert_allclose(paper_model.cam(paper_image, 17), cam, rtol=1e-4, atol=1e-4)
