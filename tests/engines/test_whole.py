"""Ctrl-C at any line of a bound: the next one is that of a fresh bounder, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import corgi
from corgi.certify.verify import Bounders, VerifyOptions, verify
from corgi.engines.forms import ClassMargins, Forms, pairs
from corgi.engines.patch.alpha import Alpha
from corgi.engines.patch.forms import FormBounds
from corgi.engines.patch.prepare import prepare
from corgi.errors import EngineError
from corgi.types import Ball, Interval
from tests.interrupts import interrupted, interrupted_at, lines_of, meetings, some
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.rankings import outside

MODELS = Path(__file__).parents[2] / "models"
STATE = frozenset(
    {"decide", "learn", "learned", "require", "note", "forward", "_update_windows", "update"}
    | {"_bound_everywhere", "note_signs", "joined", "put"}
)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> corgi.Network:
    return corgi.load(random_cam_network(np.random.default_rng(9), tmp_path_factory.mktemp("net")))


@pytest.fixture(scope="module")
def ball(network) -> Ball:
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    return Ball(torch.from_numpy(image), 0.02)


ABOVE, BELOW = torch.tensor([0, 1, 2]), torch.tensor([4, 5, 3])

QUESTIONS: dict[str, Callable[[object, Ball], object]] = {
    "pixels": lambda bounder, ball: bounder.pixels(ball).lower,
    "cheap": lambda bounder, ball: bounder.intervals(ball).lower,
    "differences": lambda bounder, ball: bounder.differences(ball, ABOVE, BELOW),
    "sharpened": lambda bounder, ball: bounder.sharpened(ball, ABOVE, BELOW),
    "features": lambda bounder, ball: bounder.features(ball).lower,
    "scores": lambda bounder, ball: bounder.lower(ball, ClassMargins(bounder._network.head, 0)),
    "unfolded": lambda bounder, ball: getattr(bounder.unfold(ball, pairs(ABOVE, BELOW)), "constant", ABOVE),
    "constants": lambda bounder, ball: bounder.constants(ball, bounder._all_rows),
}

ENGINES = {
    "crown": corgi.PatchEngine(),
    "focus": corgi.PatchEngine(corgi.PatchMethod.FOCUS, Alpha(iterations=1), rounds=1),
    "lipschitz": corgi.LipschitzEngine(),
    "lirpa": corgi.LirpaEngine(),
}

ASKED = [
    *(("crown", name) for name in ("pixels", "cheap", "differences", "features", "scores", "unfolded")),
    ("focus", "sharpened"),
    *(("lipschitz", name) for name in ("pixels", "cheap", "constants")),
    ("lirpa", "differences"),
]


def assert_whole_or_refused(bound: Callable[[], Any], ask: Callable[[Any], Tensor], lines: list[int]) -> None:
    """Interrupted at each line, what `bound()` gives answers as a fresh one does, or not at all."""
    fresh, refused = ask(bound()), 0
    for at in lines:
        bounder = bound()
        interrupted(lambda bounder=bounder: ask(bounder), "engines", at)
        try:
            assert torch.allclose(ask(bounder), fresh, rtol=1e-4), at
        except EngineError:
            refused += 1
            assert not bounder.whole
    assert refused >= len(lines) - 4  # before anything is done, and after all is


def lines_to_try(bound: Callable[[], Any], ask: Callable[[Any], Tensor], count: int) -> list[int]:
    """Lines all over the computation, the last ones among them: there it is marked as done."""
    ask(bound())  # what is kept for the whole process is there from now on
    bounder = bound()
    lines = lines_of(lambda: ask(bounder), "engines")
    return [*some(lines[:-4], count), *lines[-4:]]


@pytest.mark.parametrize(("engine", "question"), ASKED)
def test_an_interrupted_bounder_answers_as_a_fresh_one_or_not_at_all(engine, question, network, ball) -> None:
    def bound() -> Any:
        return ENGINES[engine].bind(network, 0, torch.float64)

    def ask(bounder: Any) -> Tensor:
        return QUESTIONS[question](bounder, ball)

    assert_whole_or_refused(bound, ask, lines_to_try(bound, ask, 3))


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_a_bound_leaves_a_bounder_that_refuses_or_is_as_new(tmp_path) -> None:
    """Every line that `differences` meets when it first does; of what is kept, when it last does, too."""
    rng, model = np.random.default_rng(0), OnnxModel((1, 3, 3))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 2, 1, 2, 2)))
    value = model.node("MaxPool", value, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    value = model.node("Sigmoid", model.node("Conv", value, float32(rng, 1, 2, 1, 1)))
    tiny = corgi.load(model.save(tmp_path, model.head(value, np.ones((2, 1)))))
    around = Ball(torch.from_numpy(rng.random(tiny.input_shape, dtype=np.float32)), 0.1)

    def bound() -> Any:
        return corgi.PatchEngine().bind(tiny, 0, torch.float64)

    def ask(bounder: Any) -> Tensor:
        return bounder.differences(around, torch.tensor([0]), torch.tensor([1]))

    fresh = ask(bound())  # what is kept for the whole process is there from now on
    bounder = bound()
    met = meetings(lambda b=bounder: ask(b), "engines")
    for part in (
        "bounds",
        "state",
        "windows",
        "pools",
        "builder",
        "backward",
        "maximum",
        "curves",
        "patches",
    ):
        assert sum(file == f"engines/patch/{part}.py" for file, _ in met) >= 20, part
    keeping = ("bounds", "state", "windows", "plan", "pools", "builder", "inputs", "engine")
    keep, as_new = {"engines/whole.py", *(f"engines/patch/{name}.py" for name in keeping)}, set()
    for line, last in met.items():
        for meeting in {1, last} if line[0] in keep else {1}:
            bounder = bound()
            assert interrupted_at(lambda b=bounder: ask(b), line, meeting), line
            if bounder.whole:
                as_new.add(line)
                assert torch.equal(ask(bounder), fresh), line
            else:
                with pytest.raises(EngineError):
                    ask(bounder)
    # Where nothing is begun yet: forms are made there.
    assert {file for file, _ in as_new} == {f"engines/{name}.py" for name in ("whole", "forms", "interface")}


@pytest.mark.parametrize("question", ["by_intervals", "by_rows", "learn"])
def test_interrupted_bounds_of_forms_do_as_well(question, network, ball) -> None:
    graph, box = prepare(network), ball.box(torch.float64)
    centre = ball.center.to(torch.float64)
    forms = Forms(torch.arange(4), torch.arange(4), *torch.ones(2, 4, dtype=torch.float64))

    def bound() -> FormBounds:
        return FormBounds(
            corgi.PatchEngine(), graph, centre, Interval(box.lower - centre, box.upper - centre)
        )

    def ask(bounds: FormBounds) -> Tensor:
        if question == "learn":
            bounds.learn(forms)
        return bounds.by_rows(forms) if question == "by_rows" else bounds.by_intervals(forms)

    def once(bounds: FormBounds) -> Tensor:
        return bounds.learn(forms) if question == "learn" else ask(bounds)

    lines = lines_to_try(bound, once, 4)
    fresh = ask(bound())
    for at in lines:
        bounds = bound()
        interrupted(lambda bounds=bounds: once(bounds), "engines", at)
        try:
            assert torch.allclose(ask(bounds), fresh)
        except EngineError:
            assert not bounds.whole


def test_an_interrupt_while_rows_are_noted_leaves_no_bound_above_the_margin() -> None:
    """models/gtsrb.onnx and the demo picture: rows of one window, noted in the place of another."""
    network = corgi.load(MODELS / "gtsrb.onnx")
    image = corgi.read_image(MODELS / "demo" / "no_entry.png", network)
    found = corgi.explain(network, image, 15)
    others = outside(found.top, network.pixels)
    pairs = torch.tensor(found.top.pixels)[:3], others[:3]
    margins = torch.from_numpy(found.cam).reshape(-1)
    margins = margins[pairs[0]] - margins[pairs[1]]
    around = Ball(torch.from_numpy(image), 0.003)

    def bound() -> Any:
        return corgi.PatchEngine().bind(network, found.class_id, torch.float64)

    bound().differences(around, *pairs)  # what is kept for the whole process is there from now on
    bounder = bound()
    lines = lines_of(lambda: bounder.differences(around, *pairs), "engines/patch/", STATE)
    refused = 0
    for at in some(lines, 8):
        bounder = bound()
        ended = interrupted(lambda b=bounder: b.differences(around, *pairs), "engines/patch/", at)
        assert ended
        for radius in (0.003, 0.002):
            try:
                assert bool((bounder.differences(around.with_radius(radius), *pairs) <= margins).all())
            except EngineError:
                refused += 1
    assert refused == 2 * len(some(lines, 8))


def test_a_verification_that_was_interrupted_claims_no_more_and_spoils_none_that_follows(network) -> None:
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    options = VerifyOptions(k=3, attack=None, exact=None, label=True, tolerance=0.2)
    alone = verify(network, image, options)
    assert alone.label is not None
    assert min(alone.certificate.radius, alone.label.radius) > 0
    bounders = Bounders()
    verify(network, image, options, bounders=bounders)
    lines = lines_of(lambda: verify(network, image, options, bounders=bounders), "")
    answers = 0
    for at in some(lines, 14):
        results = []
        interrupted(lambda r=results: r.append(verify(network, image, options, bounders=bounders)), "", at)
        for result in results:  # Ctrl-C ended the search, not the answer
            answers += 1
            assert result.certificate.radius <= alone.certificate.radius
            assert result.label is None or result.label.radius <= alone.label.radius
        again = verify(network, image, options, bounders=bounders)
        assert again.certificate.radius == alone.certificate.radius
        assert again.label is not None
        assert again.label.radius == alone.label.radius
    assert answers
