"""Write the files of tf2onnx and of Keras's own exporter.

Run from the repository's root with the packages of README.md:
    PYTHONPATH=. KERAS_BACKEND=tensorflow python -m tests.network.exporters.write_keras
`tf2onnxNN` is tf2onnx at opset NN, `keras` is `model.export(format="onnx")`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import onnx
import tensorflow as tf
import tf2onnx

from tests.network.exporters.keras_nets import (
    class_maps,
    efficient,
    flattened,
    mobile,
    residual,
    seeded,
    sequential,
    vgg,
)

FILES = Path(__file__).parent / "files"


def write(name: str, model: keras.Model, batch: int | None = None, **settings: Any) -> None:
    """Write files/NAME.onnx; the exporter and its opset are read off the name."""
    match = re.match(r"(tf2onnx|keras)(\d*)-", name)
    assert match is not None
    path = FILES / f"{name}.onnx"
    seeded(model, sum(name.encode()))
    if match[1] == "keras":
        model(keras.ops.zeros((1, *model.input_shape[1:])))  # it must have been called once
        model.export(str(path), format="onnx", verbose=False)
        return
    function = tf.function(lambda image: model(image, training=False))
    spec = [tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="image")]
    proto, _ = tf2onnx.convert.from_function(function, spec, opset=int(match[2]), **settings)
    onnx.save(proto, path)


if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    write("tf2onnx13-gap_softmax-sequential", sequential((10, 12, 3), "softmax"))
    write("tf2onnx17-gap_linear-sequential_odd", sequential((11, 9, 3), None), batch=1)
    write("tf2onnx17-gap_linear-residual", residual((10, 12, 3)))
    write("tf2onnx15-gap_linear-grey", residual((10, 12, 1)))
    write("tf2onnx17-gap_nobias-vgg", vgg((10, 12, 3)))
    write("tf2onnx17-gap_nobias-vgg_nchw", vgg((10, 12, 3)), inputs_as_nchw=["image:0"])
    write("tf2onnx18-gap_conv_softmax-mobile", mobile((10, 12, 3)), batch=1)
    write("tf2onnx18-gap_linear-efficient", efficient((10, 12, 3)))
    write("tf2onnx17-conv_gap_softmax-class_maps", class_maps((10, 12, 3)))
    write("tf2onnx17-flatten_linear-plain", flattened((10, 12, 3)))
    write("keras-gap_softmax-sequential", sequential((10, 12, 3), "softmax"))
    write("keras-gap_linear-residual", residual((10, 12, 3)))
    write("keras-gap_linear-grey", vgg((9, 10, 1)))
    write("keras-gap_conv_softmax-mobile", mobile((10, 12, 3)))
