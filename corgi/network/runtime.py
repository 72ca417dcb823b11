"""onnxruntime: the one place that starts it, and its errors as corgi's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from corgi.errors import ModelError, first_line

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def options(level: ort.GraphOptimizationLevel = ALL) -> ort.SessionOptions:
    """Silent, and on one thread: what is summed in which order depends on no machine."""
    chosen = ort.SessionOptions()
    chosen.graph_optimization_level = level
    chosen.log_severity_level, chosen.intra_op_num_threads = 4, 1
    return chosen


def start(
    model: onnx.ModelProto, chosen: ort.SessionOptions, disabled: Sequence[str] = ()
) -> ort.InferenceSession:
    """A model in onnxruntime; `disabled` names optimisations that are left out.

    Raises:
        ModelError: onnxruntime cannot load it.
    """
    try:
        return ort.InferenceSession(
            model.SerializeToString(),
            chosen,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled),
        )
    except Exception as error:  # onnxruntime raises its own family of pybind exceptions
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def run(
    session: ort.InferenceSession, feed: Mapping[str, NDArray[np.float32]], names: Sequence[str] | None = None
) -> list[NDArray[np.float32]]:
    """The outputs of these names, or all.

    Raises:
        ModelError: onnxruntime fails.
    """
    try:
        found: list[NDArray[np.float32]] = session.run(names, dict(feed))
    except Exception as error:
        raise ModelError(f"onnxruntime failed: {first_line(error)}") from error
    return found
