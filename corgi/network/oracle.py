"""onnxruntime on the original file: the ground truth every claim is held against."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from corgi.budget import check
from corgi.errors import ModelError, naming
from corgi.network import reference, runtime
from corgi.network.graph import Graph


class OnnxOracle:
    """The user's model in onnxruntime, with the feature map added as a second output.

    Images are run one at a time, so the meaning is that of batch size 1 whatever the file's batch axis is.
    `order`: the file's feature map is [N, F, h, w] with its axes permuted so.

    Raises:
        ModelError: onnxruntime cannot run the file, or the feature map is not a value of it.
    """

    def __init__(self, graph: Graph, feature: str, order: tuple[int, ...]) -> None:
        self._graph, self._feature = graph, feature
        self._back = tuple(order.index(axis) for axis in range(len(order)))
        produced = {name for node in graph.proto.graph.node for name in node.output}
        if feature not in produced:
            raise ModelError(
                f"the feature map '{feature}' is not a value of the original file",
                hint="It stands inside a node that corgi writes out, or was renamed in folding constants.",
            )
        self._session = self._started(runtime.ALL)
        nothing = np.zeros(0, np.float32)
        self._last = nothing, (nothing, nothing)  # the images that ran last are often asked for again

    @property
    def _model(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._graph.proto)
        if self._feature not in {o.name for o in model.graph.output}:
            model.graph.output.append(helper.make_tensor_value_info(self._feature, TensorProto.FLOAT, None))
        return model

    def _started(self, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
        check()
        return runtime.start(self._model, runtime.options(level))

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images [N, C, H, W] -> (network output [N, classes], feature map [N, F, h, w])."""
        known, result = self._last
        if not np.array_equal(known, images):
            result = self._run(self._session, images)
            self._last = images.copy(), result
        return result

    def run_plainly(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same without any optimisation: node by node, as the file has it."""
        with naming(self._graph.path):
            plain = self._plain
        return self._run(plain, images)

    @cached_property
    def _plain(self) -> ort.InferenceSession:
        return self._started(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)

    def run_in_float64(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same of one image [C, H, W] by onnx's reference evaluator on float64 tensors: [1, ...] each.

        Raises:
            UnsupportedOperator: the evaluator fails on the file.
        """
        feed = {self._graph.input_name: image[None].astype(np.float64)}
        with naming(self._graph.path):
            scores, features = reference.run(self._reference, feed, [self._graph.output_name, self._feature])
        return scores.reshape(1, -1), features.transpose(self._back)

    @cached_property
    def _reference(self) -> ReferenceEvaluator:
        return reference.evaluator(self._model)

    def _run(
        self, session: ort.InferenceSession, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        names = [self._graph.output_name, self._feature]
        outputs = []
        for image in images:
            check()
            feed = {self._graph.input_name: np.ascontiguousarray(image[None], dtype=np.float32)}
            with naming(self._graph.path):
                outputs.append(runtime.run(session, feed, names))
        scores, features = zip(*outputs, strict=True)
        classes = np.stack([score.reshape(-1) for score in scores])  # one may have lost its batch axis
        return classes, np.concatenate(features).transpose(self._back)
