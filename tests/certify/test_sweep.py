"""`corgi.sweep`: options, ends, and answers that were stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import corgi
from corgi import Status, SweepOptions
from corgi.certify import sweep as sweep_module
from corgi.certify.explain import Explanation
from corgi.changes.given import Basis
from corgi.changes.names import usual_of
from corgi.decide import parts as parts_module
from corgi.engines.forward.engine import ForwardBounder
from corgi.engines.parametric import AffineForms, Maps
from corgi.errors import GateError, ImageError, UsageError
from corgi.network.network import Network
from corgi.terms import Finding
from tests.interrupts import interrupted, lines_of, some
from tests.soundness.test_families import spike

Case = tuple[Network, np.ndarray]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return spike(tmp_path, 0.56, 0.01)


def test_an_answer_in_one_line(case: Case) -> None:
    network, image = case
    result = corgi.sweep(network, image, "brightness", sizes=(0.2, 0.02, 0.02), k=1)
    assert repr(result) == (
        f"SweepResult(brightness, 0.02: proved, 0.2: refuted, certified up to {result.certified},"
        f" broken at {result.broken})"
    )
    assert result.status is Status.REFUTED
    assert result.reason == ""
    assert not result.interrupted
    assert result.holds is True
    shares = [result.share(kind) for kind in Finding]
    assert sum(shares) == pytest.approx(1)
    assert result.share(Finding.OPEN) < 1e-5
    assert str(result.statement) == "the largest pixel stays the same"


def test_properties_by_name_and_by_value(case: Case) -> None:
    network, image = case
    by_name = corgi.sweep(network, image, "fog", property="pointing", region=(6, 7), sizes=(0.01,), k=1)
    by_value = corgi.sweep(network, image, "fog", property=corgi.properties.Pointing((6, 7)), sizes=(0.01,))
    assert by_name.sizes == by_value.sizes == ((0.01, Status.PROVED),)
    spare = corgi.sweep(network, image, "brightness", k=1, k2=15, sizes=(0.01,))
    assert spare.status is Status.PROVED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": ()}, "no size"),
        ({"sizes": (0.0,)}, "expected a finite number > 0"),
        ({"sizes": (0.1, float("nan"))}, "expected a finite number > 0"),
        ({"sizes": (float("inf"),)}, "expected a finite number > 0"),
        ({"time_limit": 0.0}, "time limit"),
        *(
            ({"eps": wrong}, "eps .*expected a radius in")
            for wrong in (-0.1, 1.5, float("nan"), float("inf"))
        ),
        ({"k2": 3, "property": corgi.properties.Topk(3)}, "beside property"),
    ],
)
def test_options_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SweepOptions(**options)


def test_what_does_not_fit_the_network(case: Case) -> None:
    network, image = case
    with pytest.raises(UsageError, match="no change 'mist'"):
        corgi.sweep(network, image, "mist")
    with pytest.raises(UsageError, match="directions of shape"):
        corgi.sweep(network, image, Basis(torch.zeros(1, 3, 4, 4)))
    with pytest.raises(ImageError, match="shape"):
        corgi.sweep(network, image[:, :2], "fog")
    wrong = image.copy()
    wrong[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match="expected"):
        corgi.sweep(network, wrong, "fog")


def test_no_time_is_no_proof(case: Case) -> None:
    network, image = case
    result = corgi.sweep(network, image, "brightness", k=1, sizes=(0.01, 0.2), time_limit=1e-9)
    assert result.status is Status.TIME_LIMIT
    assert result.interrupted
    assert result.certified == 0
    assert all(status is Status.UNKNOWN for _, status in result.sizes)
    assert "time limit of 1e-09 s reached" in result.reason


def test_ctrl_c_anywhere_proves_no_more_than_was_done(case: Case) -> None:
    """In the search, the bounds and the comparison: an answer that was stopped agrees with the whole one."""
    network, image = case
    whole = corgi.sweep(network, image, "brightness", k=1, sizes=(0.02, 0.2))

    def run() -> None:
        answers.append(corgi.sweep(network, image, "brightness", k=1, sizes=(0.02, 0.2)))

    for under in ("decide/parts.py", "engines/forward", "certify/sweep.py"):
        answers: list[corgi.SweepResult] = []
        for at in some(lines_of(run, under), 12):
            answers.clear()
            if interrupted(run, under, at):
                continue
            (found,) = answers
            assert found.certified <= whole.certified
            for (_, status), (_, final) in zip(found.sizes, whole.sizes, strict=True):
                assert status in (Status.UNKNOWN, final)
            if found.interrupted:
                assert found.status in (Status.INTERRUPTED, Status.REFUTED)


def test_an_engine_that_bounds_something_else_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = case
    real = ForwardBounder.maps

    def wrong(self, family, boxes) -> Maps:
        found = real(self, family, boxes).forms
        found.terms[:, 0, 3] += 1e-3
        forms = AffineForms(found.terms, 0 * found.remainder)
        return Maps(forms, forms.chosen)

    monkeypatch.setattr(ForwardBounder, "maps", wrong)
    with pytest.raises(GateError, match="map pixel 3 of class 0"):
        corgi.sweep(network, image, "brightness", k=1)


def test_a_map_that_float32_hides_is_not_certified(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = case
    monkeypatch.setattr(Explanation, "doubt", "the map is within float32 rounding")
    result = corgi.sweep(network, image, "brightness", k=1)
    assert result.status is Status.UNKNOWN
    assert result.reason == "the map is within float32 rounding"
    assert result.certified == 0


def test_the_gates_come_before_any_bound(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = case

    def refused(*_: object) -> None:
        raise GateError("the network differs")

    monkeypatch.setattr(sweep_module, "check_at_probes", refused)
    monkeypatch.setattr(parts_module, "lower_margins", lambda *_: pytest.fail("bounded"))
    with pytest.raises(GateError, match="the network differs"):
        corgi.sweep(network, image, "brightness", k=1)


def test_a_real_network(data_dir: Path) -> None:
    """Three parameters at a small size; one at a large one, whose interval is proved whole."""
    network = corgi.load(Path(__file__).parents[2] / "models" / "gtsrb.onnx")
    image = corgi.read_image(data_dir / "corgi_paper" / "image_496.npy", network)
    small = corgi.sweep(network, image, "colour", k=15, k2=30, sizes=(0.002,))
    assert small.status is Status.PROVED
    fog = corgi.sweep(network, image, "fog", k=15, k2=30, sizes=(0.2,))
    assert fog.intervals == ((0.0, 0.2, Finding.HOLDS),)


def test_a_real_network_that_is_turned_and_shifted(data_dir: Path) -> None:
    """Two degrees are proved whole; images at whole and half pixels are among what a shift proves."""
    network = corgi.load(Path(__file__).parents[2] / "models" / "gtsrb.onnx")
    image = corgi.read_image(data_dir / "corgi_paper" / "image_496.npy", network)
    turned = corgi.sweep(network, image, "rotation", k=15, k2=30, sizes=(2.0,))
    assert turned.intervals == ((-2.0, 2.0, Finding.HOLDS),)
    shifted = corgi.sweep(network, image, "shift", k=15, k2=30, sizes=(0.1,))
    assert shifted.status is Status.PROVED


@pytest.mark.parametrize(
    ("change", "size"),
    [("rotation", 2.0), ("shift", 1.0), ("scale", 0.05), ("gamma", 0.2), ("fog+blur", 0.2)],
)
def test_where_no_size_is_named_it_is_the_usual_one(case: Case, change: str, size: float) -> None:
    network, image = case
    result = corgi.sweep(network, image, change, k=1, time_limit=0.05)
    assert result.largest == size
    assert usual_of(change) == size


def test_ctrl_c_in_the_last_check_keeps_the_answer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = case
    whole, calls = parts_module.PartsSearch.refuse_contradiction, []

    def stopped(self: parts_module.PartsSearch) -> None:
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        whole(self)

    monkeypatch.setattr(parts_module.PartsSearch, "refuse_contradiction", stopped)
    result = corgi.sweep(network, image, "fog", k=1, sizes=(0.01,))
    assert result.sizes == ((0.01, Status.PROVED),)
    assert result.interrupted
    assert len(calls) == 2, "the answer is held against itself all the same"


@pytest.mark.parametrize(("change", "limit"), [("rotation", 90.0), ("scale", 1.0), ("gamma", 1.0)])
def test_sizes_end_where_a_change_has_no_meaning(case: Case, change: str, limit: float) -> None:
    network, image = case
    with pytest.raises(UsageError, match=f"expected sizes below {limit:g}"):
        corgi.sweep(network, image, change, sizes=(limit / 2, limit))
