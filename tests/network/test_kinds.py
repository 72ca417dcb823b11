"""Parts of the networks people have, in tiny ones: each loads and has a map, or is refused with its reason.

Where it loads, it equals onnxruntime (`load` sees to that), and its bounds hold or are refused by node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from corgi import AttackOptions, PatchEngine, load, verify
from corgi.errors import EngineError, NoCamHead
from corgi.types import Ball
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.soundness.samples import inside

Part = Callable[[OnnxModel, str], str]
FILTERS, CLASSES = 4, 3


def weights(*shape: int) -> np.ndarray:
    """The same whenever it is asked for."""
    return float32(np.random.default_rng(sum(shape)), *shape, scale=0.6)


def stem(model: OnnxModel, value: str = IMAGE, channels: int = 2) -> str:
    return model.node("Relu", model.node("Conv", value, weights(FILTERS, channels, 2, 2), weights(FILTERS)))


def pooled(model: OnnxModel, value: str, kind: str = "Average") -> str:
    return model.node("Flatten", model.node(f"Global{kind}Pool", value))


def dense(model: OnnxModel, value: str, inputs: int = FILTERS) -> str:
    return model.node("Gemm", value, weights(inputs, CLASSES), weights(CLASSES))


def conv(model: OnnxModel, value: str) -> str:
    return model.node("Conv", value, weights(FILTERS, FILTERS, 1, 1), weights(FILTERS))


def classifier_in_front(model: OnnxModel, value: str, relu: bool) -> str:
    """SqueezeNet: the map is behind its Relu."""
    value = model.node("Conv", value, weights(CLASSES, FILTERS, 1, 1), weights(CLASSES))
    value = model.node("GlobalAveragePool", model.node("Relu", value) if relu else value)
    return model.node("Flatten", model.node("Softmax", value, axis=1))


def squeezed(model: OnnxModel, value: str) -> str:
    """Squeeze-and-excite by dense layers, its gate expanded to the map."""
    gate = model.node("Reshape", model.node("GlobalAveragePool", value), np.array([1, FILTERS]))
    gate = model.node("Sigmoid", model.node("MatMul", gate, weights(FILTERS, FILTERS)))
    gate = model.node("Reshape", gate, np.array([1, FILTERS, 1, 1]))
    return model.node("Mul", value, model.node("Expand", gate, np.array([1, FILTERS, 5, 5])))


def standardised_weights(model: OnnxModel, value: str) -> str:
    """Computed in the graph (NFNet)."""
    kernel = model.weight(weights(FILTERS, FILTERS, 2, 2))
    off = model.node("Sub", kernel, model.node("ReduceMean", kernel, axes=[1, 2, 3]))
    spread = model.node("ReduceMean", model.node("Mul", off, off), axes=[1, 2, 3])
    kernel = model.node("Div", off, model.node("Sqrt", model.node("Add", spread, np.float32(1e-5))))
    return model.node("Conv", value, kernel)


def between_places(model: OnnxModel, value: str) -> str:
    """A non-local block: every place weighs all others."""
    rows = model.node("Reshape", value, np.array([1, FILTERS, -1]))
    like = model.node("MatMul", model.node("Transpose", rows, perm=[0, 2, 1]), rows)
    joined = model.node("MatMul", rows, model.node("Softmax", like, axis=-1))
    return model.node("Add", value, model.node("Reshape", joined, np.array([0, FILTERS, 5, 5])))


def channel_by_channel(model: OnnxModel, _: str) -> str:
    """Inception's transform_input: one channel of the image at a time, by an index without an axis."""
    parts = []
    for i, scale in enumerate((0.5, 2.0)):
        one = model.node("Unsqueeze", model.node("Gather", IMAGE, np.array(i), axis=1), np.array([1]))
        parts.append(model.node("Add", model.node("Mul", one, np.float32(scale)), np.float32(-0.1)))
    return stem(model, model.node("Concat", *parts, axis=1))


def triplet(model: OnnxModel, value: str) -> str:
    """Attention across two other axes (Triplet Attention): the map is turned and turned back."""
    value = model.node("Transpose", model.node("Relu", conv(model, value)), perm=[0, 2, 1, 3])
    gate = model.node("Sigmoid", model.node("Conv", model.reduce_mean(value, [1]), weights(1, 1, 1, 1)))
    return model.node("Transpose", model.node("Mul", value, gate), perm=[0, 2, 1, 3])


def focus(model: OnnxModel, value: str) -> str:
    """Every second row and column, four times, as channels; and the same as an operator."""
    value = model.slice(model.slice(value, 0, 4, 2), 1, 5, 3)
    rows = [model.slice(value, i, 4, 2, 2) for i in (0, 1)]
    parts = [model.slice(row, i, 4, 3, 2) for row in rows for i in (0, 1)]
    both = model.node("Concat", *parts, model.node("SpaceToDepth", value, blocksize=2), axis=1)
    return model.node("Conv", both, weights(FILTERS, 8 * FILTERS, 1, 1))


def of_classes(model: OnnxModel, value: str) -> str:
    """Einsum as a 1x1 classifier."""
    return model.reduce_mean(
        model.node("Einsum", value, weights(FILTERS, CLASSES), equation="bchw,ck->bkhw"), [2, 3], 0
    )


HEADS: dict[str, Part] = {
    "squeezenet": lambda m, v: classifier_in_front(m, v, relu=True),
    "all convolutional": lambda m, v: classifier_in_front(m, v, relu=False),
    "one class": lambda m, v: m.node("Sigmoid", m.node("Gemm", pooled(m, v), weights(FILTERS, 1))),
    "einsum": lambda m, v: m.node("Einsum", pooled(m, v), weights(CLASSES, FILTERS), equation="nc,kc->nk"),
    "einsum in front": of_classes,
    "temperature": lambda m, v: m.node("LogSoftmax", m.node("Div", dense(m, pooled(m, v)), np.float32(2))),
}
TRUNKS: dict[str, tuple[Part, str | None]] = {
    "squeeze-and-excite": (squeezed, None),
    "standardised weights": (standardised_weights, None),
    "max feature map": (lambda m, v: m.node("Max", v, conv(m, v)), None),
    "relu6 by numbers": (
        lambda m, v: m.node("Min", m.node("Max", conv(m, v), np.float32(0)), np.float32(6)),
        None,
    ),
    "filter response": (
        lambda m, v: m.node("Div", v, m.node("Add", m.node("ReduceL2", v, axes=[2, 3]), np.float32(0.1))),
        None,
    ),
    "focus": (focus, None),
    "triplet": (triplet, "Transpose"),
    "channel by channel": (channel_by_channel, None),
    "LRN": (
        lambda m, v: m.node(
            "LRN", m.node("Tanh", conv(m, m.node("Conv", IMAGE, weights(FILTERS, 2, 2, 2)))), size=3
        ),
        "LRN",
    ),
    "sigmoid by exp": (
        lambda m, v: m.node(
            "Div", np.float32(1), m.node("Add", m.node("Exp", m.node("Neg", v)), np.float32(1))
        ),
        "Exp",
    ),
    "softmax over channels": (lambda m, v: m.node("Mul", v, m.node("Softmax", v, axis=1)), "Softmax"),
    "non-local": (between_places, "MatMul"),
    "cast of a mask": (lambda m, v: m.node("Cast", v, to=TensorProto.FLOAT), None),
}
NO_CAM: dict[str, tuple[Part, str]] = {
    "a hidden layer": (
        lambda m, v: dense(m, m.node("Relu", m.node("Gemm", pooled(m, v), weights(FILTERS, FILTERS)))),
        "an activation between or behind fully connected layers",
    ),
    "global maxima": (lambda m, v: dense(m, pooled(m, v, "Max")), "global max pooling"),
    "means and maxima": (
        lambda m, v: dense(m, m.node("Add", pooled(m, v), pooled(m, v, "Max"))),
        r"\(Add\)",
    ),
    "generalised mean": (
        lambda m, v: dense(m, m.node("Pow", pooled(m, m.node("Pow", v, np.float32(3))), np.float32(0.3))),
        r"\(Pow\)",
    ),
    "cosines": (
        lambda m, v: dense(m, m.node("Div", pooled(m, v), m.node("ReduceL2", pooled(m, v), axes=[1]))),
        r"\(Div\)",
    ),
    "one pixel": (
        lambda m, v: dense(m, pooled(m, m.node("MaxPool", v, kernel_shape=[5, 5]))),
        "one pixel at this image size",
    ),
}


def saved(folder: Path, part: Part, *, head: bool) -> Path:
    model = OnnxModel((2, 6, 6))
    value = part(model, stem(model))
    return model.save(folder, value if head else dense(model, pooled(model, value)))


@pytest.mark.parametrize("kind", [*HEADS, *TRUNKS])
def test_a_kind_has_a_map_a_witness_and_bounds(kind: str, tmp_path: Path) -> None:
    part, unbounded = (HEADS[kind], None) if kind in HEADS else TRUNKS[kind]
    network = load(saved(tmp_path, part, head=kind in HEADS))
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    label = network.predict(image)
    assert torch.isfinite(network.cam(image, label)).all()
    found = verify(network, image, k=2, attack=AttackOptions(steps=10, restarts=1), exact=None)
    assert found.attack is not None
    assert found.attack.witness is not None
    if unbounded is not None:
        with pytest.raises(EngineError, match=rf"node '.*' \({unbounded}\)"):
            PatchEngine().bind(network, label, torch.float64)
        return
    ball = Ball(torch.from_numpy(image), 0.01)
    bounds = PatchEngine().bind(network, label, torch.float64).pixels(ball)
    images = inside(network, ball, label, 24, 1)
    with torch.no_grad():
        values = network.head.cam(network.trunk(images), label).flatten(1)
    slack = 1e-12 * (1 + values.abs().max())
    assert torch.isfinite(bounds.lower).all()
    assert (bounds.lower <= values + slack).all()
    assert (values <= bounds.upper + slack).all()


@pytest.mark.parametrize("kind", NO_CAM)
def test_a_kind_without_a_cam_says_why(kind: str, tmp_path: Path) -> None:
    part, reason = NO_CAM[kind]
    with pytest.raises(NoCamHead, match=reason) as caught:
        load(saved(tmp_path, part, head=True))
    assert caught.value.hint
