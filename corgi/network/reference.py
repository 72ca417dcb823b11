"""onnx's reference evaluator on the original file in float64: it shares no code with corgi.

Tensors are promoted to float64, attributes stay the float32 numbers they are, so what is left is the meaning
of the operators. onnxruntime works in float32 and hides what is below 1e-7 of a value: a default read
as a decimal fraction, a constant that was rounded on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from corgi.budget import OutOfTime, check
from corgi.errors import UnsupportedOperator, first_line

FLOAT32_INSIDE = ("Erf", "Gelu", "GroupNormalization", "Resize")
"""Operators for which the evaluator rounds to float32 on the way, whatever it is given."""


class BatchNormalization(OpRun):
    """At inference, as versions 9 to 13 define it for one output: there the evaluator trains instead."""

    op_domain = ""

    def _run(
        self,
        x: NDArray[Any],
        scale: NDArray[Any],
        bias: NDArray[Any],
        mean: NDArray[Any],
        variance: NDArray[Any],
        epsilon: float,
        **_: object,
    ) -> tuple[NDArray[Any]]:
        channels = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, variance = (v.reshape(channels) for v in (scale, bias, mean, variance))
        return (scale * (x - mean) / np.sqrt(variance + epsilon) + bias,)


class _Evaluator(ReferenceEvaluator):
    """Looks at the time before every node, of which it keeps a log."""

    def _log(self, level: int, pattern: str, *args: Any) -> None:
        check()


def evaluator(proto: onnx.ModelProto) -> ReferenceEvaluator:
    """The reference evaluator of a model, promoted to float64.

    Raises:
        UnsupportedOperator: it does not know an operator, as those of onnxruntime's optimiser.
    """
    try:
        return _Evaluator(promoted(proto), new_ops=[BatchNormalization])
    except NotImplementedError as error:
        raise UnsupportedOperator(f"onnx's reference evaluator: {first_line(error)}") from error


def run(
    of: ReferenceEvaluator, feed: Mapping[str, NDArray[np.float64]], names: Sequence[str]
) -> list[NDArray[np.float64]]:
    """The outputs of these names.

    Raises:
        UnsupportedOperator: the evaluator fails, as it does on some files that are valid.
        OutOfTime: there was no time for it.
    """
    try:
        with np.errstate(all="ignore"):  # its Sigmoid takes both of two ways, and then chooses
            return [np.asarray(value) for value in of.run(names, dict(feed))]
    except OutOfTime:
        raise
    except Exception as error:  # it raises many types
        raise UnsupportedOperator(f"onnx's reference evaluator failed: {first_line(error)}") from error


def promoted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model on float64 tensors."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for tensor in external_data_helper._get_all_tensors(model):
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
            )
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in model.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", TensorProto.FLOAT):
                attribute.i = TensorProto.DOUBLE
    return model
