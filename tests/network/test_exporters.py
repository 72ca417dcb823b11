"""Files of real exporters: each loads and computes what the file computes, or is refused with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

import corgi
from corgi.engines.patch.prepare import prepare
from corgi.errors import CorgiError, EngineError
from corgi.network.head import NormalisedHead
from corgi.results import Status
from tests.network.exporters.cases import FILES, LOADED, REFUSED, Case
from tests.network.exporters.table import DOCUMENT, written


def load(case: Case) -> corgi.Network:
    options: dict[str, Any] = {"output": case.output, "size": case.size}
    return corgi.load(case.path, **{name: value for name, value in options.items() if value is not None})


def run_file(case: Case, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """The scores onnxruntime computes from the file as it is, one image [C, H, W] at a time."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(case.path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(given.type, np.float32)
    images = np.rint(255 * images) if kind is np.uint8 else images
    if case.channels_last:
        images = images.transpose(0, 2, 3, 1)
    outputs = [case.output or session.get_outputs()[0].name]
    runs = [session.run(outputs, {given.name: image[None].astype(kind)})[0] for image in images]
    return np.concatenate(runs).astype(np.float64)


def activated(case: Case, logits: torch.Tensor) -> torch.Tensor:
    """What the head's name says follows the class scores."""
    if case.head.endswith("logsoftmax"):
        return torch.log_softmax(logits, 1)
    if case.head.endswith("softmax"):
        return torch.softmax(logits, 1)
    return torch.sigmoid(logits) if case.head.endswith("sigmoid") else logits


def assert_close(case: Case, ours: torch.Tensor, reference: NDArray[np.float64]) -> None:
    assert tuple(ours.shape) == reference.shape
    assert np.abs(ours.numpy() - reference).max() <= case.tolerance * np.abs(reference).max()


@pytest.mark.parametrize("case", LOADED, ids=str)
def test_a_file_computes_what_onnxruntime_computes(case: Case) -> None:
    network = load(case)
    pixels = np.random.default_rng(7).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    images = pixels / np.float32(255)
    reference = run_file(case, images)
    with torch.no_grad():
        assert_close(case, network.module(torch.from_numpy(images).double()), reference)
    maps = [[network.cam(image, c) for c in range(network.head.classes)] for image in images]
    cams = torch.stack([torch.stack(row) for row in maps])
    pooled = cams.sum((2, 3)) if case.head.startswith("sum") else cams.mean((2, 3))
    if isinstance(network.head, NormalisedHead):
        with torch.no_grad():
            filters = network.trunk(torch.from_numpy(images).double()).mean((2, 3))
        pooled = pooled / (filters.var(1, correction=0, keepdim=True) + network.head.epsilon).sqrt()
    assert_close(case, activated(case, pooled + network.head.bias), reference)


@pytest.mark.parametrize("case", LOADED, ids=str)
def test_a_file_is_bounded_as_onnxruntime_runs_it(case: Case) -> None:
    """The engine's own gates compare bounds with onnxruntime, at a point and over a small ball."""
    network = load(case)
    image = np.random.default_rng(8).random(network.input_shape, dtype=np.float32)
    if case.unbounded is not None:
        with pytest.raises(EngineError, match=case.unbounded):
            prepare(network)
        return
    bounds = corgi.verify(network, image, k=2, eps=1e-4, attack=None, exact=None)
    assert bounds.status in (Status.PROVED, Status.UNKNOWN)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_file_is_refused_with_its_reason(case: Case) -> None:
    with pytest.raises(CorgiError) as caught:
        load(case)
    message = str(caught.value)
    assert case.refused is not None
    assert str(case.path) in message
    assert case.refused in message.replace(str(case.path), "")


def test_every_file_has_a_case() -> None:
    assert {case.path for case in (*LOADED, *REFUSED)} == set(FILES.glob("*.onnx"))


def test_the_table_in_the_docs_is_this_one() -> None:
    """Written by `python -m tests.network.exporters.table`."""
    assert DOCUMENT.read_text() == written(DOCUMENT.read_text())
