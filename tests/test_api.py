"""The public names: all there, all typed, and cheap to import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import corgi
from corgi import budget
from corgi.api import Changes, _changed
from corgi.batch.question import Question
from corgi.errors import UsageError
from corgi.results import ImageArray
from corgi.wanted import WantedProperty
from tests.onnx_models import random_cam_network


def test_every_public_name_resolves() -> None:
    asked = {"attack", "radii", "curve", "sweep", "compare", "smooth", "run_batch", "report"}
    assert asked <= set(corgi.__all__)
    for name in corgi.__all__:
        assert getattr(corgi, name) is not None


@pytest.mark.parametrize("module", ["corgi", "corgi.cli.start"])
def test_import_does_not_load_torch(module: str) -> None:
    """The command line sets how torch's threads wait; it must come before torch."""
    check = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


NAMES = {
    "nothing": ({}, corgi.PatchEngine(), True),
    "a method": ({"method": "alpha-crown"}, corgi.PatchEngine(corgi.PatchMethod.ALPHA_CROWN), False),
    "exact": ({"method": "exact"}, corgi.PatchEngine(), True),
    "patch": ({"engine": "patch"}, corgi.PatchEngine(), True),
    "lirpa": ({"engine": "lirpa"}, corgi.LirpaEngine(), False),
    "lirpa's": ({"method": "ibp"}, corgi.LirpaEngine(corgi.LirpaMethod.IBP), False),
    "lipschitz": ({"method": "lipschitz"}, corgi.LipschitzEngine(), False),
    "folded": ({"method": "crown", "form": "folded"}, corgi.PatchEngine(), False),
}


@pytest.mark.parametrize("asked", NAMES)
def test_names_are_accepted_where_enums_and_engines_are(asked: str) -> None:
    changes, engine, exactly = NAMES[asked]
    options = _changed(None, Changes(**changes, norm="l2", k=3))
    assert (options.engine, options.exact is not None) == (engine, exactly)
    assert (options.norm, options.k) == (corgi.Norm.L2, 3)


def test_what_is_given_beside_names_stays() -> None:
    mine = corgi.VerifyOptions(k=4, exact=corgi.ExactOptions(gap=0.1))
    assert _changed(mine, {"engine": "patch"}).exact == corgi.ExactOptions(gap=0.1)
    assert _changed(mine, {"method": "exact", "exact": None}).exact is None
    assert _changed(mine, {"engine": corgi.LirpaEngine()}).engine == corgi.LirpaEngine()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm": "l3"}, "norm 'l3': expected one of linf, l2, l1"),
        ({"method": "magic"}, "method 'magic'"),
        ({"engine": "patches"}, "engine 'patches'"),
        ({"engine": "lirpa", "method": "focus"}, "no method focus"),
        ({"engine": corgi.PatchEngine(), "method": "crown"}, "beside an engine"),
    ],
)
def test_names_that_are_none(changes: Changes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        _changed(None, changes)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_time_limit_is_a_number_of_seconds(
    seconds: float, network: corgi.Network, image: ImageArray
) -> None:
    for call in (corgi.verify, corgi.attack, corgi.radii, corgi.compare):
        with pytest.raises(UsageError, match=r"time limit = .*: expected seconds > 0"):
            call(network, image, time_limit=seconds)


def test_an_attack_whose_time_is_over_at_once_still_answers(
    network: corgi.Network, image: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "GRACE", 0.0)
    found = corgi.attack(network, image, k=2, time_limit=1e-9)
    assert len(found.explanation.top.pixels) == 2
    assert found.found.witness is None


def test_sizes_of_other_types_are_refused_or_read(network: corgi.Network, image: ImageArray) -> None:
    for k in ("3", 3.0):
        with pytest.raises(UsageError, match="expected a whole number or 'auto'"):
            corgi.attack(network, image, k=cast(Any, k))
    top = corgi.explain(network, image, np.int64(3)).top
    assert (type(top.k), len(top.pixels)) == (int, 3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> corgi.Network:
    return corgi.load(random_cam_network(np.random.default_rng(11), tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def image(network: corgi.Network) -> ImageArray:
    return np.random.default_rng(4).random(network.input_shape, dtype=np.float32)


def test_an_attack_gives_an_upper_bound(network: corgi.Network, image: ImageArray) -> None:
    search = corgi.attack(network, image, k=3, norm="l2", kind="topk", restarts=1, steps=20)
    assert search.norm is corgi.Norm.L2
    assert search.found.attack == "topk-sum"
    assert search.found.radius is not None
    within = corgi.attack(network, image, k=3, eps=1e-9, time_limit=20)
    assert (within.found.witness, within.eps, within.k2) == (None, 1e-9, 3)


def test_radii_of_every_pixel(network: corgi.Network, image: ImageArray) -> None:
    found = corgi.radii(network, image, k=2, outside=1, norm="linf", time_limit=60)
    assert found.certified.shape == found.explanation.cam.shape
    assert [pixel.rank for pixel in found.searched] == [1, 2, 3]


def test_a_curve_of_radii(network: corgi.Network, image: ImageArray) -> None:
    found = corgi.curve(network, image, [1, 2], [4], k=3, method="crown", attack=None)
    assert [point.k for point in found.by_k] == [1, 2]
    assert [(point.k, point.k2) for point in found.by_k2] == [(3, 4)]


def test_certificates_side_by_side(network: corgi.Network, image: ImageArray) -> None:
    found = corgi.compare(network, image, k=3, samples=100, share=0.5)
    assert {row.guarantee for row in found.rows} >= {"deterministic", "statistical"}
    assert found.share == 0.5


def test_a_smoothed_map(network: corgi.Network, image: ImageArray, tmp_path: Path) -> None:
    found = corgi.smooth(network, image, k=3, samples=200, form="relaxed", confidence="hoeffding")
    assert (found.certificate.k, found.drawn, found.interrupted) == (3, 200, False)
    auto = corgi.smooth(
        network, image, k=None, samples=100, claim="renyi", norm="l4", state=tmp_path / "s.npz"
    )
    assert (auto.certificate.order, (tmp_path / "s.npz").exists()) == (4.0, True)
    with pytest.raises(UsageError, match="loaded for another map"):
        corgi.smooth(network, image, k=3, map="gradcam")


def test_a_batch_and_its_report(network: corgi.Network, image: ImageArray, tmp_path: Path) -> None:
    (tmp_path / "images" / "12").mkdir(parents=True)
    np.save(tmp_path / "images" / "12" / "a.npy", image)
    asked = {"k": 3, "eps": 1e-6, "method": "crown-ibp", "attack": None, "workers": 1}
    store = tmp_path / "runs.sqlite"
    for computed in (1, 0):
        found = corgi.run_batch(network.path, [tmp_path / "images"], store, **asked)
        assert (found.tally.computed, dict(found.statuses), found.complete) == (computed, {"proved": 1}, True)
    result = corgi.report(store, title="Signs")
    (run,) = result.report.runs
    assert [(case.status, case.true_class, case.certified) for case in run.cases] == [("proved", "12", 1e-6)]
    assert "<title>Signs</title>" in (result.page or "")
    assert result.markdown.startswith("# Signs")


def test_what_no_parameter_names_is_a_parameter_all_the_same() -> None:
    plain = Question(corgi.VerifyOptions(k=3, exact=corgi.ExactOptions(gap=0.1)))
    assert "options" not in plain.parameters()
    for other in (
        corgi.VerifyOptions(k=3, max_evaluations=7),
        corgi.VerifyOptions(exact=corgi.ExactOptions(nodes=1)),
        corgi.VerifyOptions(attack=corgi.AttackOptions(steps=3)),
        corgi.VerifyOptions(engine=corgi.PatchEngine(corgi.PatchMethod.FOCUS)),
    ):
        assert "options" in Question(other).parameters()
    named = corgi.VerifyOptions(engine=corgi.LipschitzEngine(corgi.LipschitzMethod.NORMS), exact=None)
    assert "options" not in Question(named).parameters()


def test_what_is_asked_of_the_map_is_a_parameter() -> None:
    """By names and by a value: no two questions may share rows."""
    plain = Question(corgi.VerifyOptions(k=3))
    named = replace(plain, wanted=WantedProperty.read("overlap", keep=2))
    built = Question(corgi.VerifyOptions(k=3, property=corgi.properties.Overlap(2)))
    other = Question(corgi.VerifyOptions(k=3, property=corgi.properties.Overlap(1)))
    radii = replace(plain, radii=(0.1,))
    found = [str(one.parameters()) for one in (plain, named, built, other, radii)]
    assert len(set(found)) == len(found)
    assert "property" not in plain.parameters()
    with pytest.raises(UsageError, match="beside that of the options"):
        replace(built, wanted=named.wanted)


def test_properties_by_name(tmp_path) -> None:
    network = corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    region = corgi.explain(network, image, 2).top.pixels
    asked = corgi.properties.Pointing(region)
    by_name = corgi.verify(network, image, property="pointing", region=region)
    by_value = corgi.verify(network, image, property=asked)
    assert by_name.certificate.statement == by_value.certificate.statement
    assert by_name.certificate.radius == by_value.certificate.radius > 0
    found = corgi.attack(network, image, property="pointing", region=region)
    assert found.asked == asked
    with pytest.raises(UsageError, match="keep: without a property"):
        corgi.verify(network, image, keep=2)
    with pytest.raises(UsageError, match="keep: beside a property"):
        corgi.verify(network, image, property=asked, keep=2)
    _, height, width = network.input_shape
    half = corgi.read_region(f"0,0,{width - 1},{height // 2}", network)
    assert 0 < len(half.pixels) < network.pixels
    both = corgi.verify(network, image, k=2, property="topk+overlap", k2=3, keep=1)
    assert both.certificate.statement.name == "topk+overlap"


@pytest.mark.parametrize("k2", [2, 4])
def test_the_rank_of_a_property_is_the_one_in_the_answer(tmp_path, k2: int) -> None:
    """Whoever asks by `Topk(k2)` is told the k2 that is claimed, and not the size of the set."""
    network = corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    asked = corgi.properties.Topk(k2)
    by_value = corgi.verify(network, image, k=2, property=asked).certificate
    by_rank = corgi.verify(network, image, k=2, k2=k2).certificate
    assert (by_value.k2, by_value.statement, by_value.radius) == (k2, by_rank.statement, by_rank.radius)
    assert by_rank.k2 == corgi.attack(network, image, k=2, property=asked).k2 == k2
    both = corgi.properties.Both((asked, corgi.properties.Overlap(1)))
    assert corgi.verify(network, image, k=2, property=both).certificate.k2 == k2
    for call in (corgi.verify, corgi.attack):
        with pytest.raises(UsageError, match="k2 = 3 beside property topk"):
            call(network, image, k=2, k2=3, property=asked)
