"""Write the files of Keras's exporter on its PyTorch backend.

Run from the repository's root with the packages of README.md:
    PYTHONPATH=. KERAS_BACKEND=torch python -m tests.network.exporters.write_keras_torch
"""

from __future__ import annotations

import keras

from tests.network.exporters import keras_nets as nets
from tests.network.exporters.write_torch import FILES, drop_node_metadata


def write(name: str, model: keras.Model) -> None:
    path = FILES / f"{name}.onnx"
    nets.seeded(model, sum(name.encode()))
    model(keras.ops.zeros((1, *model.input_shape[1:])))  # it must have been called once
    model.export(str(path), format="onnx", verbose=False)
    drop_node_metadata(path)


if __name__ == "__main__":
    write("kerastorch-gap_softmax-sequential", nets.sequential((10, 12, 3), "softmax"))
    write("kerastorch-gap_linear-residual", nets.residual((10, 12, 3)))
