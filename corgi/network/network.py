"""A loaded network: everything the rest of corgi needs to know of a model file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corgi.ambient import settled
from corgi.data.preprocess import METADATA_KEY, Recipe
from corgi.errors import ModelError, NoCamHead, UnsupportedOperator, UsageError, naming
from corgi.network import names
from corgi.network.convert import TorchGraph, convert
from corgi.network.gate import check_equal_to_onnxruntime
from corgi.network.gradcam import GradCamHead, gradcam_head
from corgi.network.graph import Graph, read_graph
from corgi.network.head import Head, recognise_head, refuse_transformer
from corgi.network.oracle import OnnxOracle
from corgi.network.passes import simplified
from corgi.network.passes.limits import without_unreached_limits
from corgi.network.wrap import Normalisation
from corgi.results import MapKind


@dataclass(frozen=True)
class Network:
    """A checked network with a CAM head.

    Attributes:
        graph: the checked ONNX graph.
        module: the whole network in float64: [N, C, H, W] -> [N, classes].
        shapes: shape of each value of `module` at batch size 1.
        trunk: the part up to the feature map in float64: [N, C, H, W] -> [N, F, h, w].
        head: the CAM head, or what stands in for it (`MapKind`).
        oracle: onnxruntime on the original file.
        preprocess: recipe for pictures that travels in the file, or None.
        class_names: one name a class, or None.
    """

    graph: Graph
    module: TorchGraph
    shapes: Mapping[str, tuple[int, ...]]
    trunk: TorchGraph
    head: Head
    oracle: OnnxOracle
    preprocess: str | None
    class_names: tuple[str, ...] | None

    def __repr__(self) -> str:
        """One line: the graph alone would fill pages."""
        height, width = self.head.map_shape
        about = f"{self.map_kind.value} {height} x {width}, {self.head.classes} classes"
        return f"Network({str(self.path)!r}, {about})"

    @property
    def path(self) -> Path:
        """The model file."""
        return self.graph.path

    @property
    def sha256(self) -> str:
        """Digest of the model file and its external data."""
        return self.graph.sha256

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model as it was read, of the feature map and of the map's weights.

        Unlike that of the file it changes with output, size and normalisation, and with the image at which
        Grad-CAM's weights were taken.
        """
        digest = sha256(self.graph.proto.SerializeToString(deterministic=True))
        digest.update(f"{self.map_kind} at {self.head.feature}".encode())
        digest.update(self.head.weight.numpy().tobytes())
        return digest.hexdigest()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the image input."""
        return self.graph.input_shape

    @property
    def pixels(self) -> int:
        """Number of pixels of the map."""
        return self.head.map_shape[0] * self.head.map_shape[1]

    @property
    def map_kind(self) -> MapKind:
        """Which map is explained."""
        return MapKind.GRADCAM if isinstance(self.head, GradCamHead) else MapKind.CAM

    @settled()
    def explaining(self, image: NDArray[np.float32], class_id: int) -> Network:
        """The network whose map of a class is that of one image [C, H, W]: Grad-CAM takes its weights there.

        Weights that are fixed already stay.
        """
        if bool(torch.isfinite(self.head.weight[class_id]).all()):
            return self
        assert isinstance(self.head, GradCamHead)  # a CAM's weights are finite
        with torch.no_grad():
            features = self.trunk(torch.from_numpy(image).to(torch.float64)[None])
        return replace(self, head=self.head.fixed_at(features, class_id))

    @cached_property
    def trunk32(self) -> TorchGraph:
        """The trunk in float32, for attacks and searches."""
        return copy.deepcopy(self.trunk).to(torch.float32)

    def logits32(self, images: Tensor) -> Tensor:
        """Class scores before any activation, float32 arithmetic: [N, C, H, W] -> [N, classes]."""
        return self.head.logits(self.trunk32(images))

    def class_name(self, class_id: int) -> str | None:
        """Name of a class, if the model carries names."""
        return None if self.class_names is None else self.class_names[class_id]

    @settled()
    def cam(self, image: NDArray[np.float32] | Tensor, class_id: int) -> Tensor:
        """The map of one image [C, H, W] for a class, exact weights in float64: [h, w]."""
        x = torch.as_tensor(image, dtype=torch.float64)[None]
        with torch.no_grad():
            return self.head.cam(self.trunk(x), class_id)[0]

    @settled()
    def predict(self, image: NDArray[np.float32]) -> int:
        """The class onnxruntime predicts for one image [C, H, W]."""
        return int(self.oracle.run(image[None])[0][0].argmax())

    @settled()
    def oracle_cam(self, image: NDArray[np.float32], class_id: int) -> tuple[NDArray[np.float64], int]:
        """(map [h, w], predicted class) of one image [C, H, W], its features by onnxruntime."""
        scores, features = self.oracle.run(image[None])
        cam = self.head.cam(torch.from_numpy(features).to(torch.float64), class_id)[0]
        return cam.numpy(), int(scores[0].argmax())


@settled()
def load(
    path: str | Path,
    *,
    output: str | None = None,
    size: tuple[int, int] | None = None,
    normalisation: Normalisation | None = None,
    map_kind: MapKind = MapKind.CAM,
    layer: str | None = None,
    class_names: str | Path | None = None,
) -> Network:
    """Load a classifier with a CAM head and hold it equal to onnxruntime.

    Args:
        path: the ONNX file; external data lies beside it.
        output: name of the output with the class scores; None if the file has one output.
        size: (height, width) where the file leaves them open.
        normalisation: what the network expects instead of pixels in [0, 1].
        map_kind: the map to explain.
        layer: of Grad-CAM, the feature map's value or node; None for the last.
        class_names: file of the classes' names (see `names`); None takes those in the model's metadata.

    Raises:
        ModelError: the file cannot be read or is not served (see `corgi.network.graph.read_graph`).
        UnsupportedOperator: a node, attribute or operand outside the supported set.
        NoCamHead: the network does not end in pooling -> fully connected.
        UsageError: a layer is named and the map is a CAM, or a file of names does not fit.
        GateError: the converted network differs from onnxruntime.
    """
    if layer is not None and map_kind is not MapKind.GRADCAM:
        raise UsageError(
            f"--layer {layer}: only with --map gradcam; a CAM's feature map is what pooling reads"
        )
    graph = read_graph(Path(path), output=output, size=size, normalisation=normalisation)
    with naming(path):
        network = _of_graph(graph, map_kind, layer, class_names)
    check_equal_to_onnxruntime(network, _random_images(graph.input_shape))
    return network


def _of_graph(graph: Graph, map_kind: MapKind, layer: str | None, class_names: str | Path | None) -> Network:
    try:
        found = simplified(without_unreached_limits(convert(graph)))
        grad = map_kind is MapKind.GRADCAM
        head: Head = gradcam_head(found, layer) if grad else recognise_head(found)
    except (NoCamHead, UnsupportedOperator):
        refuse_transformer(graph)
        raise
    return Network(
        graph=graph,
        module=found.module,
        shapes=found.shapes,
        trunk=found.module.up_to(head.feature),
        head=head,
        oracle=OnnxOracle(graph, head.feature, head.order),
        preprocess=_preprocess(graph),
        class_names=names.class_names(
            graph, head.classes, None if class_names is None else Path(class_names)
        ),
    )


def _preprocess(graph: Graph) -> str | None:
    text = graph.metadata.get(METADATA_KEY)
    if not text:
        return None
    try:
        Recipe.parse(text)
    except UsageError as error:
        raise ModelError(f"metadata '{METADATA_KEY}': {error.message}", hint=error.hint) from error
    return text


def _random_images(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Three images of different contrast, so that no layer is tested at its quiet point only.

    None is constant: there every rounding of a layer is the same one, and float32 shows its worst.
    """
    noise = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    contrast = np.array([1.0, 0.5, 0.1], dtype=np.float32)[:, None, None, None]
    return noise * contrast + (1 - contrast) * np.float32(0.6)
