"""Write what simplifiers, optimisers, converters and quantisers make of files of `write_torch`.

Run from the repository's root with the packages of README.md, after `write_torch`:
    PYTHONPATH=. python -m tests.network.exporters.write_rewritten
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import onnxslim
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

FILES = Path(__file__).parent / "files"
Level = onnxruntime.GraphOptimizationLevel


def source(name: str) -> Path:
    return FILES / f"{name}.onnx"


def simplified() -> None:
    for name, given in (
        ("onnxsim-view_linear-shuffled", "ts17-view_linear-shuffled"),
        ("onnxsim-mean_linear-dense", "ts13-mean_linear-dense"),
    ):
        model, same = onnxsim.simplify(onnx.load(source(given)))
        assert same
        onnx.save(model, source(name))
    for name, given in (
        ("onnxslim-view_linear-shuffled", "ts17-view_linear-shuffled"),
        ("onnxslim-gap_linear-residual", "dynamo-gap_linear-residual"),
    ):
        onnx.save(onnxslim.slim(onnx.load(source(given))), source(name))


def optimised(name: str, given: str, level: Level) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(source(name))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source(given)), options, providers=["CPUExecutionProvider"])


def converted(name: str, given: str, opset: int) -> None:
    onnx.save(version_converter.convert_version(onnx.load(source(given)), opset), source(name))


class _Images(CalibrationDataReader):
    """Eight random images."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = iter([rng.random((1, 3, 10, 12), dtype=np.float32) for _ in range(8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"image": image}


if __name__ == "__main__":
    simplified()
    optimised("ortbasic-gap_linear-residual", "ts11-gap_linear-residual", Level.ORT_ENABLE_BASIC)
    optimised("ortbasic-view_linear-shuffled", "ts17-view_linear-shuffled", Level.ORT_ENABLE_BASIC)
    optimised("ortextended-gap_linear-residual", "ts11-gap_linear-residual", Level.ORT_ENABLE_EXTENDED)
    optimised("ortextended-gap_softmax-depthwise", "ts17-gap_softmax-depthwise", Level.ORT_ENABLE_EXTENDED)
    optimised("ortextended-flatmean_linear-gelu", "ts17-flatmean_linear-gelu", Level.ORT_ENABLE_EXTENDED)
    optimised("ortextended-means_linear-silu", "ts17-means_linear-silu", Level.ORT_ENABLE_EXTENDED)
    optimised("ortextended-sum_linear-leaky", "ts17-sum_linear-leaky", Level.ORT_ENABLE_EXTENDED)
    optimised("ortall-gap_linear-wide", "ts17-gap_linear-wide", Level.ORT_ENABLE_ALL)
    converted("converter21-gap_linear-residual", "ts11-gap_linear-residual", 21)
    converted("converter14-mean_linear-residual", "ts18-mean_linear-residual", 14)
    converted("converter26-mean_linear-dense", "ts13-mean_linear-dense", 26)
    quantize_static(
        source("ts11-gap_linear-residual"),
        source("qdq-gap_linear-residual"),
        _Images(),
        quant_format=QuantFormat.QDQ,
    )
    quantize_static(
        source("ts17-gap_linear-wide"),
        source("qoperator-gap_linear-wide"),
        _Images(),
        quant_format=QuantFormat.QOperator,
    )
