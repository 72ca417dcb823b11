"""What is written of a property against the property itself, and the exports of every kind decided back."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import vnnlib.compat
from hypothesis import given, settings
from hypothesis import strategies as st

import corgi
from corgi import AttackOptions, ExactOptions, Status
from corgi.errors import CorgiError, UsageError
from corgi.properties import Both, Centre, Inside, Iou, Order, Overlap, Pointing, Property, Topk
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.terms import Answer
from corgi.vnnlib.decide import decide_files
from corgi.vnnlib.export import Export, export_cam, write_instance
from corgi.vnnlib.read import parse_spec
from corgi.vnnlib.spec import Syntax
from corgi.vnnlib.violation import MOST, Outputs, size_of, violation
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.properties.maps import tensor
from tests.properties.test_formula import rankings


def satisfied(formula: Formula, cam: list[int]) -> bool:
    """Whether a map in eighths satisfies what is written, exactly."""
    outputs = Outputs(formula, len(cam))
    values = [Fraction(v, 8) for v in cam] * outputs.cam
    values += [Fraction(max(v, 0), 8) for v in cam] * outputs.positive
    assert len(values) == outputs.count
    return any(all(one.holds([], values) for one in part) for part in violation(outputs))


def formulas(draw: st.DrawFn, cam: list[int]) -> Formula:
    """Of any kind, for some maps; with factors that eighths bear, and pixels on both sides."""
    size = len(cam)

    def ranking() -> Ranking:
        return draw(rankings(size, factors=True, shared=True))

    def balance() -> Balance:
        rows = draw(
            st.lists(st.lists(st.integers(-3, 3), min_size=size, max_size=size), min_size=1, max_size=2)
        )
        return Balance(tuple(tuple(map(float, row)) for row in rows))

    match draw(st.sampled_from(["ranking", "balance", "all", "any", "iou", "mixed"])):
        case "balance":
            return balance()
        case "all":
            return All((ranking(), ranking()))
        case "any":
            return Any((ranking(), ranking()))
        case "mixed":
            return All((balance(), Any((ranking(), balance()))))
        case "iou" if max(cam) > 0:
            asked = Iou(draw(st.sampled_from([0.25, 0.5])), draw(st.sampled_from([0.25, 0.5, 0.75])))
            try:
                return asked.formula(tensor(cam, 1, size), corgi.TopK(1, (0,), 1.0, False))
            except CorgiError:  # no map breaks it
                return ranking()
    return ranking()


@settings(max_examples=200)
@given(st.data())
def test_what_is_written_is_satisfied_exactly_where_the_margin_is_not_positive(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 5))
    maps = st.lists(st.integers(-6, 12), min_size=size, max_size=size)
    formula = formulas(data.draw, data.draw(maps))
    for _ in range(3):
        cam = data.draw(maps)
        assert satisfied(formula, cam) == bool(formula.margin(tensor(cam)) <= 0)
    count, constraints = size_of(formula)
    found = violation(Outputs(formula, size))
    assert len(found) == count
    assert sum(map(len, found)) <= constraints


def test_of_masks_the_third_ranking_is_left_out() -> None:
    """It is broken where the other two are; what is written has no constraint of it."""
    cam = tensor([8, 7, 6, 1, 1, 0], 2, 3)
    formula = Iou(0.5, 0.5).formula(cam, corgi.TopK(1, (0,), 1.0, False))
    with_both = [part for part in getattr(formula, "parts", ()) if isinstance(part, Any)]
    assert with_both
    for part in with_both:
        first, second, third = part.parts
        assert size_of(part) == size_of(Any((first, second)))
        assert size_of(part)[0] < size_of(Any((first, second)))[0] * size_of(third)[0]
    one, other = Ranking((0,), (1,), 1, 1), Ranking((1,), (2,), 1, 1)
    # What follows from itself is kept.
    assert size_of(Any((one, one)))[0] == 1
    assert size_of(Any((one, other, Ranking((0,), (2,), 1, 1))))[1] == 2


@pytest.mark.parametrize("asked", [Overlap(12), Inside(12, tuple(range(40))), Topk(30), Iou(0.5, 0.5)])
def test_what_would_explode_is_counted_and_refused(asked: Property) -> None:
    """On the paper's map of 14 x 14."""
    cam = torch.linspace(1, 0, 196, dtype=torch.float64).reshape(14, 14)
    formula = asked.formula(cam, corgi.TopK(15, tuple(range(15)), 1.0, False))
    started = time.monotonic()
    with pytest.raises(UsageError, match=rf"{asked.name}: what breaks it are [\d,]+ alternatives") as error:
        violation(Outputs(formula, 196), asked.name)
    assert f"at most {MOST:,}" in error.value.message
    assert "cannot count" in error.value.hint
    assert time.monotonic() - started < 30


def test_what_is_large_but_can_be_written() -> None:
    cam = torch.linspace(1, 0, 196, dtype=torch.float64).reshape(14, 14)
    top = corgi.TopK(15, tuple(range(15)), 1.0, False)
    for asked, size in (
        (Topk(), (15 * 181, 15 * 181)),
        (Pointing(tuple(range(40))), (156, 156 * 40)),
        (Overlap(1), None),
        (Centre(1.0), (4, 4)),
        (Inside(1, tuple(range(40))), None),
    ):
        formula = asked.formula(cam, top)
        assert size is None or size_of(formula) == size
        if size is not None:
            assert len(violation(Outputs(formula, 196))) == size[0]


# Exports of every kind --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> corgi.Network:
    """A convolution and a ReLU, a 3 x 3 map of a 1 x 4 x 4 image, with values of both signs."""
    rng = np.random.default_rng(5)
    net = OnnxModel((1, 4, 4))
    value = net.node("Relu", net.node("Conv", IMAGE, float32(rng, 3, 1, 2, 2), float32(rng, 3, scale=0.3)))
    weight = float32(rng, 2, 3)
    weight[0] = 1.0, -0.5, 0.75
    return corgi.load(net.save(tmp_path_factory.mktemp("model"), net.head(value, weight)))


@pytest.fixture(scope="module")
def image(network: corgi.Network) -> np.ndarray:
    """Of which the map has a positive maximum."""
    for seed in range(100):
        found = np.random.default_rng(seed).random((1, 4, 4), dtype=np.float32)
        cam = np.sort(corgi.explain(network, found, 3, 0).cam.flatten())
        if cam[-1] > 0.2 and np.diff(cam).min() > 0.01:
            return found
    raise AssertionError


def kinds(network: corgi.Network, image: np.ndarray) -> dict[str, Property]:
    cam = corgi.explain(network, image, 3, 0).cam
    order = np.argsort(-cam, axis=None).tolist()
    places = [divmod(i, 3) for i in order]
    return {
        "topk": Topk(),
        "spare": Topk(4),
        "overlap": Overlap(2),
        "pointing": Pointing(tuple(sorted(order[:3]))),
        "inside": Inside(2, tuple(sorted(order[:4]))),
        "iou": Iou(0.5, 0.6),
        "order": Order(tuple(places[:2]), tuple(places[-2:])),
        "centre": Centre(0.3),
        "both": Both((Pointing(tuple(order[:4])), Centre(0.5))),
        "three": Both((Overlap(2), Iou(0.5, 0.5), Topk(5))),
    }


KINDS = ("topk", "spare", "overlap", "pointing", "inside", "iou", "order", "centre", "both", "three")
EXACT = {"topk", "spare", "overlap", "pointing", "inside", "order"}
"""What `corgi.verify` closes here; masks and balances it may leave open."""


def exported(network: corgi.Network, image: np.ndarray, kind: str, eps: float, **options) -> Export:
    asked = kinds(network, image)[kind]
    return export_cam(network, image, eps, k=3, class_id=0, property=asked, **options)


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_agree_with_verify(
    kind: str, syntax: Syntax, network: corgi.Network, image: np.ndarray, tmp_path: Path
) -> None:
    """Just below the certified radius unsat, just beyond the witness sat, with a witness that breaks it."""
    asked = kinds(network, image)[kind]
    result = corgi.verify(
        network, image, k=3, class_id=0, property=asked,
        exact=ExactOptions(seconds=5.0), attack=AttackOptions(steps=60, restarts=6),
    )  # fmt: skip
    assert result.attack is not None
    assert result.attack.radius is not None
    certified, broken = result.certificate.radius, result.attack.radius
    if kind in EXACT:
        assert broken <= 1.01 * certified
    radii = [(0.98 * certified, Answer.UNSAT), (1.02 * broken, Answer.SAT)]
    for eps, answer in radii if certified > 0 else radii[1:]:
        export = exported(network, image, kind, eps, syntax=syntax)
        model, spec = write_instance(export, tmp_path, 60)
        outcome = decide_files(model, spec, time.monotonic() + 60)
        assert outcome.answer is answer, outcome.reason
        if outcome.witness is not None:
            point = outcome.witness.inputs.reshape(image.shape)
            assert np.abs(point.astype(np.float64) - image).max() <= eps + 1e-7
            formula = asked.formula(torch.from_numpy(result.cam), result.top)
            assert float(formula.margin(network.cam(point, 0).flatten())) <= 1e-6


@pytest.mark.parametrize("kind", ["iou", "centre", "both", "three"])
def test_what_verify_leaves_open_is_decided_from_the_file(
    kind: str, network: corgi.Network, image: np.ndarray, tmp_path: Path
) -> None:
    """Between certificate and witness: an answer, monotone in the radius, that contradicts neither."""
    asked = kinds(network, image)[kind]
    options = {"k": 3, "class_id": 0, "property": asked}
    result = corgi.verify(network, image, **options, exact=ExactOptions(seconds=3.0))
    assert result.attack is not None
    assert result.attack.radius is not None
    certified, broken = result.certificate.radius, result.attack.radius
    answers = []
    for share in (0.2, 0.5, 0.8):
        eps = certified + share * (broken - certified)
        model, spec = write_instance(exported(network, image, kind, eps), tmp_path, 60)
        outcome = decide_files(model, spec, time.monotonic() + 60)
        answers.append(outcome.answer)
        status = corgi.verify(network, image, **options, eps=eps, exact=ExactOptions(seconds=3.0)).status
        if outcome.answer is Answer.UNSAT:
            assert status is not Status.REFUTED
        if outcome.answer is Answer.SAT:
            assert status is not Status.PROVED
    assert set(answers) <= {Answer.SAT, Answer.UNSAT}
    assert answers == sorted(answers, key=lambda answer: answer is Answer.SAT)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_the_map_and_its_positive_part(
    kind: str, network: corgi.Network, image: np.ndarray
) -> None:
    export = exported(network, image, kind, 0.01)
    session = ort.InferenceSession(export.model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image[None]})
    cam = network.cam(image, 0).numpy().flatten()
    expected = {"centre": np.maximum(cam, 0), "both": np.concatenate([cam, np.maximum(cam, 0)])}
    assert found[0] == pytest.approx(expected.get(kind, cam), abs=1e-5)
    assert export.model_name.endswith(
        {"centre": "_positive.onnx", "both": "_and_positive.onnx"}.get(kind, "0.onnx")
    )
    said = export.spec.decode()
    assert str(export.statement.verb) in said
    assert ("outputs 9 to 17 are the positive part" in said) == (kind == "both")


@pytest.mark.parametrize("kind", KINDS)
def test_the_independent_parser_reads_every_kind(
    kind: str, network: corgi.Network, image: np.ndarray
) -> None:
    """Each of its polytopes is one of ours, coefficient for coefficient."""
    export = exported(network, image, kind, 0.01, syntax=Syntax.V2)
    (case,) = vnnlib.compat.transform(vnnlib.parse_query_string(export.spec.decode()))
    (ours,) = parse_spec(export.spec.decode()).cases
    found = {
        frozenset(
            (tuple((j, v) for j, v in enumerate(row) if v), side)
            for row, side in zip(polytope.coeff_matrix, polytope.rhs, strict=True)
        )
        for polytope in case.output_constraints
    }
    expected = {
        frozenset((tuple((j, float(v)) for j, v in one.outputs), float(-one.constant)) for one in part)
        for part in ours.alternatives
    }
    assert found == expected


def test_names_tell_properties_apart(network: corgi.Network, image: np.ndarray) -> None:
    """Of another region, too; and the plain one keeps its name."""
    names = {kind: exported(network, image, kind, 0.01).spec_name for kind in KINDS}
    other = Pointing(tuple(kinds(network, image)["pointing"].region[:2]))
    names["other"] = export_cam(network, image, 0.01, k=3, class_id=0, property=other).spec_name
    assert len(set(names.values())) == len(names)
    plain = export_cam(network, image, 0.01, k=3, class_id=0)
    assert plain.spec_name == names["topk"]
    assert "_cam0_k3_eps0.01." in plain.spec_name
    assert "_cam0_k3_pointing_" in names["pointing"]


def test_what_is_not_true_at_the_image_is_refused(network: corgi.Network, image: np.ndarray) -> None:
    lowest = int(np.argmin(corgi.explain(network, image, 3, 0).cam))
    with pytest.raises(
        UsageError, match="at the image itself it is not strictly true that the largest pixel"
    ):
        export_cam(network, image, 0.01, k=3, class_id=0, property=Pointing((lowest,)))
