"""A trained network as one self-contained ONNX file, and the proof that the file computes the same."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from corgi.errors import ModelError
from corgi.network import runtime

OPSET = 17

TOLERANCE = 1e-4
"""Largest accepted |torch - onnxruntime|, relative to the largest logit (at least 1)."""


def write_onnx(
    network: nn.Module, input_shape: tuple[int, int, int], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a network as it evaluates: input `image` [N, C, H, W], output `logits` [N, classes], N symbolic.

    Batch normalisations go into the convolutions before them and the dense layers behind them. That the file
    is right is what `check_export` tells.

    Args:
        network: layers from [N, C, H, W] to [N, classes].
        input_shape: C, H, W.
        path: file to write; its folder is made.
        metadata: the file's `metadata_props`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # torch's newer exporter needs onnxscript, takes 40 times as long and writes what older runtimes
        # cannot read; the one that is asked for says that it is the older one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _without_last_norm(network),
            (torch.zeros(1, *input_shape),),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save_model(model, path)


def _without_last_norm(network: nn.Module) -> nn.Module:
    """W (s x + t) + b = (W s) x + (W t + b), of a normalisation x -> s x + t before the last, dense layer.

    Computed in float64 and rounded once. The exporter folds what stands behind a convolution, not this.
    """
    network = copy.deepcopy(network).eval()
    match list(network.children()):
        case [*layers, nn.BatchNorm1d() as norm, nn.Linear() as dense] if isinstance(network, nn.Sequential):
            with torch.no_grad():
                norm.double()
                shift = norm(torch.zeros(1, norm.num_features, dtype=torch.float64))
                scale = norm(torch.ones_like(shift)) - shift
                weight = dense.weight.double()
                dense.weight.copy_(weight * scale)
                dense.bias.copy_(weight @ shift[0] + dense.bias.double())
            return nn.Sequential(*layers, dense).eval()
    return network


def run_onnx(path: Path, images: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Logits [N, classes] that onnxruntime computes from the file for images [N, C, H, W] in [0, 1]."""
    session = runtime.start(onnx.load(path), runtime.options())
    parts = [
        runtime.run(session, {"image": images[start : start + batch]}, ["logits"])[0]
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts).astype(np.float32)


def check_export(network: nn.Module, path: Path, images: NDArray[np.float32]) -> float:
    """Largest |torch - onnxruntime| over logits of the images, relative to the largest logit (at least 1).

    Args:
        network: the network as trained, batch normalisation included.
        path: its export.
        images: [N, C, H, W] in [0, 1].

    Raises:
        ModelError: the difference exceeds `TOLERANCE`; the file must not be used.
    """
    network.eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    difference = float(np.abs(run_onnx(path, images) - expected).max() / max(np.abs(expected).max(), 1.0))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: differs from the trained network by {difference:.3g} relative to its logits"
        )
    return difference
