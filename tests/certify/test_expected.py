"""What engines make of a network, before anything is bounded: each by its own check."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from corgi.certify import methods
from corgi.certify.expected import ENGINES, engine_reports
from corgi.certify.methods import build_engine, default_engine
from corgi.engines import lirpa, lowering
from corgi.engines.interface import BoundEngine
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.reporting.document import inspect_document
from corgi.reporting.text import inspect_text
from corgi.reporting.versions import installed_versions
from corgi.terms import EngineName, Method
from tests.engines.trunks import (
    ALIASES,
    CASES,
    MULTIPLIED,
    PATCH_CASES,
    REFUSED,
    RESAMPLED,
    Build,
    network,
)
from tests.onnx_models import OnnxModel, float32

BUILDS: dict[str, Build] = {
    **{f"refused: {case}": build for case, (build, _) in REFUSED.items()},
    **{**CASES, **ALIASES, **PATCH_CASES, **RESAMPLED, **MULTIPLIED},
}


@pytest.mark.parametrize(
    ("case", "bounded"),
    [
        ("2 affine chain", {"patch", "lipschitz", "lirpa"}),
        ("activations", {"patch", "lipschitz", "lirpa"}),
        ("silu", {"patch", "lipschitz"}),
        ("gelu", {"patch", "lipschitz"}),
        ("pool, ceil_mode", {"patch", "lipschitz"}),
        ("constant map", {"patch", "lipschitz"}),
        ("squeeze, sigmoid", {"patch"}),
        ("refused: softmax", set()),
        ("refused: transpose", set()),
    ],
)
def test_one_entry_an_engine(case: str, bounded: set[str], tmp_path: Path) -> None:
    net = network(tmp_path, BUILDS[case])
    reports = engine_reports(net, ())
    assert [report.engine for report in reports] == ["patch", "lipschitz", "lirpa"]
    assert {report.engine for report in reports if report.refusal is None} == bounded
    document = inspect_document(net, reports, installed_versions())
    for report, entry in zip(reports, document.engines, strict=True):
        assert (entry.engine, entry.bounds) == (report.engine, report.engine in bounded)
        assert (entry.reason is None) == entry.bounds
    assert document.lirpa == ("lirpa" in bounded)
    console = Console(file=io.StringIO(), width=200)
    console.print(inspect_text(document))
    assert console.file.getvalue().count("cannot bound it") == 3 - len(bounded)


def test_an_engine_checks_what_it_binds(tmp_path: Path) -> None:
    """`check` and `bind` agree, in words, on every construct the tests know."""
    for case, build in BUILDS.items():
        net = network(tmp_path, build)
        for name in ENGINES:
            said: list[str | None] = []
            engine = default_engine(name)
            for ask in (engine.check, partial(engine.bind, class_id=0, dtype=torch.float64)):
                try:
                    ask(net)
                    said.append(None)
                except EngineError as error:
                    said.append(str(error))
            assert said[0] == said[1], (case, name)


def test_a_missing_library_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(name: EngineName, method: Method) -> BoundEngine:
        if name is EngineName.LIRPA:
            raise EngineError("engine lirpa: auto_LiRPA, which it runs on, cannot be imported")
        return build_engine(name, method)

    monkeypatch.setattr(methods, "build_engine", built)
    found = {
        report.engine: report.refusal for report in engine_reports(network(tmp_path, CASES["residual"]), ())
    }
    assert (found["patch"], found["lipschitz"]) == (None, None)
    assert "auto_LiRPA" in str(found["lirpa"])


def test_an_empty_message_is_no_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(network: Network) -> None:
        raise EngineError("")

    monkeypatch.setattr(lirpa, "check_layers", silent)
    net = network(tmp_path, CASES["residual"])
    document = inspect_document(net, engine_reports(net, ()), installed_versions())
    assert not document.lirpa


def test_lirpa_decides_without_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of depthwise convolutions, pools and selections are not written out to be looked at."""

    def never(*_: object) -> None:
        raise AssertionError("a kernel was written out")

    for name in ("dense_kernel", "_selection", "padded_conv"):
        monkeypatch.setattr(lowering, name, never)

    def build(model: OnnxModel, value: str) -> str:
        rng = np.random.default_rng(0)
        value = model.node("Conv", value, float32(rng, 4, 1, 3, 3), group=4, pads=[1] * 4)
        value = model.slice(model.pad(model.clip(value, 0, 6), [1, 1, 1, 1]), 0, 4, 1)
        value = model.node("MaxPool", model.node("Relu", value), kernel_shape=[3, 3])
        return model.node("AveragePool", value, kernel_shape=[2, 2])

    lirpa.check_layers(network(tmp_path, build))
