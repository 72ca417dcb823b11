"""The relaxation is believed as far as its multipliers prove, whatever HiGHS says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highspy
import numpy as np
import pytest
import torch
from clarabel import DefaultSolver
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from corgi.decide.decider import Counterexample, Proved, Undecided
from corgi.decide.linear import LinearRelaxation
from corgi.decide.solver import Vector
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone
from corgi.terms import Norm
from tests.decide.cases import Case, raised, subjects

SEEDS = range(4000, 4040)
Relaxed = tuple[Case, LinearRelaxation]


def relaxed_cases(
    folder: Path, margins: int = 1, share: float = 1.1, norm: Norm = Norm.LINF
) -> Iterator[Relaxed]:
    """Cones with some undecided windows, and their relaxations."""
    for subject, rng in subjects(SEEDS, folder):
        case = subject.case(rng, share, margins, norm)
        if 1 <= case.cone.undecided <= 30:
            yield case, LinearRelaxation(case.cone)


def true_minimum(relaxation: LinearRelaxation) -> float:
    """The least objective of the program as it stands, by another solver; inf where it is infeasible."""
    above, below = relaxation._least > -np.inf, relaxation._most < np.inf
    rows = np.concatenate([-relaxation._matrix.toarray()[above], relaxation._matrix.toarray()[below]])
    ends = np.concatenate([-relaxation._least[above], relaxation._most[below]])
    box = np.stack([relaxation._lower, relaxation._upper], 1)
    pixels, radius, norm = len(relaxation.cone.pixels), relaxation.cone.radius, relaxation.cone.norm
    if norm is Norm.L2:
        return _conic_minimum(relaxation, rows, ends, box)
    columns, cost = len(relaxation._cost), relaxation._cost
    if norm is Norm.L1:
        # w >= d, w >= -d, sum w <= r.
        ball = np.zeros((2 * pixels + 1, columns + pixels))
        ball[:pixels, :pixels], ball[pixels:-1, :pixels] = np.eye(pixels), -np.eye(pixels)
        ball[:pixels, columns:] = ball[pixels:-1, columns:] = -np.eye(pixels)
        ball[-1, columns:] = 1
        rows = np.concatenate([np.pad(rows, ((0, 0), (0, pixels))), ball])
        ends = np.concatenate([ends, np.zeros(2 * pixels), [radius]])
        box, cost = np.pad(box, ((0, pixels), (0, 0))), np.pad(cost, (0, pixels))
        box[columns:, 1] = radius
    found = linprog(cost, rows, ends, bounds=box)
    assert found.status in (0, 2), found.message
    return relaxation._offset + found.fun if found.status == 0 else math.inf


def _conic_minimum(relaxation: LinearRelaxation, rows: Vector, ends: Vector, box: Vector) -> float:
    """Over a ball of l_2, the objective at the solver's own point, which must be one of the program."""
    values, pixels = relaxation.solve({}).values, len(relaxation.cone.pixels)
    assert values is not None
    size = 1e-5 * relaxation._size.max()
    assert np.linalg.norm(values[:pixels]) <= relaxation.cone.radius * (1 + 1e-4)
    assert (rows @ values <= ends + size * (1 + abs(rows).sum(1))).all()
    assert (values >= box[:, 0] - size).all()
    assert (values <= box[:, 1] + size).all()
    return relaxation._offset + float(relaxation._cost @ values)


def optimal(relaxation: LinearRelaxation, fixed: Mapping[int, int]) -> Vector:
    """The multipliers a node is bounded with: what HiGHS says, in the units of the cone."""
    seen: list[Vector] = []

    def spied(given_ones: Vector, cost: Vector, offset: float) -> float:
        seen.append(given_ones)
        return LinearRelaxation._bound(relaxation, given_ones, cost, offset)

    relaxation._bound = spied  # type: ignore[method-assign]
    relaxation.solve(fixed)
    del relaxation._bound
    return seen[-1]


def multipliers(rng: np.random.Generator, relaxation: LinearRelaxation) -> Iterator[tuple[str, Vector]]:
    """The optimal ones, and what is left when they are spoilt in every way."""
    good = optimal(relaxation, {})
    rows = len(good)
    yield "optimal", good
    yield "wrong sign", -good
    yield "none", np.zeros(rows)
    for power in (-300, -8, 0, 8, 300, 308):
        with np.errstate(over="ignore"):
            yield f"random of 1e{power}", rng.standard_normal(rows) * 10.0**power
            yield f"scaled by 1e{power}", good * 10.0**power
    for value in (np.nan, np.inf, -np.inf, 5e-324):
        yield f"all {value}", np.full(rows, value)
        spoilt = good.copy()
        spoilt[rng.random(rows) < 0.3] = value
        yield f"some {value}", spoilt
    for _ in range(4):
        yield "disturbed", good * (1 + 0.1 * rng.standard_normal(rows))
        yield "of all sizes", rng.standard_normal(rows) * 10.0 ** rng.integers(-12, 12, rows)


@pytest.mark.parametrize(("margins", "norm"), [(1, Norm.LINF), (2, Norm.LINF), (1, Norm.L2), (2, Norm.L1)])
def test_any_multipliers_give_a_lower_bound(margins: int, norm: Norm, tmp_path: Path) -> None:
    """Of the program's minimum, and of the margins at any point."""
    rng, checked, tight = np.random.default_rng(0), 0, 0
    # Of a cone the least is known as well as its solver's point lies in it.
    close = 1e-7 if norm is not Norm.L2 else 1e-4
    for case, relaxation in relaxed_cases(tmp_path, margins, norm=norm):
        least = true_minimum(relaxation)
        sampled = float(case.margins(case.images(case.deviations(100, 0))).amax(1).min())
        assert least <= sampled + close * case.subject.scale
        for kind, given_ones in multipliers(rng, relaxation):
            with np.errstate(all="ignore"):
                bound = relaxation._offset + relaxation._bound(
                    given_ones, relaxation._cost, relaxation._offset
                )
            # NaN is no bound: nothing compares with it.
            assert not bound > least + close * case.subject.scale, kind
            assert not bound > sampled + 1e-12 * case.subject.scale, kind
            checked += 1
            tight += kind == "optimal" and bound >= least - 10 * close * case.subject.scale
    assert checked > 200
    assert tight >= 5, "the optimal multipliers should give the minimum"


def exact_bound(relaxation: LinearRelaxation, given_ones: list[Fraction], cost: Vector) -> Fraction | None:
    """sum_i (m_i > 0 ? m_i L_i : m_i U_i) + sum_j min over [l_j, u_j] of (c - A^T m)_j v_j, no rounding."""
    total, reduced = Fraction(0), [Fraction(c) for c in cost.tolist()]
    matrix = relaxation._matrix
    for i, m in enumerate(given_ones):
        side = float((relaxation._least if m > 0 else relaxation._most)[i])
        if m == 0 or not math.isfinite(side):
            continue
        total += m * Fraction(side)
        for at in range(matrix.indptr[i], matrix.indptr[i + 1]):
            reduced[matrix.indices[at]] -= m * Fraction(float(matrix.data[at]))
    ends = zip(reduced, relaxation._lower.tolist(), relaxation._upper.tolist(), strict=True)
    return total + sum(min(r * Fraction(low), r * Fraction(high)) for r, low, high in ends)


@pytest.mark.parametrize("margins", [1, 3])
def test_rounding_is_set_aside(margins: int, tmp_path: Path) -> None:
    """The bound is at most what the same multipliers give without rounding, and hardly less."""
    rng, checked = np.random.default_rng(1), 0
    for case, relaxation in relaxed_cases(tmp_path, margins):
        if relaxation._matrix.nnz > 3000:
            continue
        for size in (0, 6, 12):
            rows = len(relaxation._least)
            chosen = rng.standard_normal(rows) * 10.0 ** rng.integers(-size, size + 1, rows)
            chosen[rng.random(rows) < 0.3] = 0
            for cost in (relaxation._cost, np.zeros_like(relaxation._cost)):
                found = relaxation._bound(chosen, cost, 0.0)
                exact = exact_bound(relaxation, [Fraction(m) for m in chosen.tolist()], cost)
                assert Fraction(found) <= exact
                terms = np.abs(chosen) @ abs(relaxation._matrix).toarray() + np.abs(cost)
                assert exact - Fraction(found) <= 1e-10 * float(terms.sum()) * case.subject.scale
                checked += 1
    assert checked >= 30


@pytest.mark.parametrize(("margins", "norm"), [(1, Norm.LINF), (2, Norm.LINF), (1, Norm.L2), (2, Norm.L1)])
def test_points_of_the_ball_satisfy_all_rows(margins: int, norm: Norm, tmp_path: Path) -> None:
    """The relaxation holds every point, and a node every point whose maxima it fixes."""
    rng = np.random.default_rng(2)
    for case, relaxation in relaxed_cases(tmp_path, margins, norm=norm):
        for deviations in case.deviations(6, 3):
            outputs = case.cone.outputs(deviations[None])[0]
            largest = case.cone.margins(deviations[None]).amax(1)
            point = torch.cat([deviations, outputs, *([largest] if margins > 1 else [])]).numpy()
            maxima = case.cone.maxima(deviations)
            some = {w: e for w, e in enumerate(maxima) if rng.random() < 0.5}
            for fixed in ({}, some, dict(enumerate(maxima)), {}):
                relaxation._move_to(fixed)
                slack = 1e-11 * case.subject.scale
                activity = relaxation._matrix @ point
                assert (relaxation._least - slack <= activity).all()
                assert (activity <= relaxation._most + slack).all()
                assert (relaxation._lower - slack <= point).all()
                assert (point <= relaxation._upper + slack).all()
                objective = relaxation._offset + relaxation._cost @ point
                assert objective == pytest.approx(float(largest[0]), abs=slack)
                # Fixed rows are equalities, others are not.
                equal = {w: e for (w, e), row in relaxation._row_of.items() if relaxation._most[row] < np.inf}
                assert equal == dict(fixed)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_errors_of_elements_are_allowed_for(sign: float, tmp_path: Path) -> None:
    """Elements of the last layer off by as much as the cone admits, here far beyond rounding.

    Planes hold for elements as they are, up . z' + shift: where all but the zero are off by e, the maximum
    grows by e at most, and falls by 0 at least.
    """
    rng, tight = np.random.default_rng(6), 0
    for case, _ in relaxed_cases(tmp_path):
        cone, off = case.cone, 0.03 * case.subject.scale
        last = cone.layers[-1]
        zero = last.up[:, 0]
        room = off * (zero if sign > 0 else 1 - zero)
        wider = replace(
            last,
            up_shift=last.up_shift + room,
            error=torch.full_like(last.error, off),
            lower=last.lower - off,
            upper=last.upper + off,
        )
        relaxation = LinearRelaxation(replace(cone, layers=(*cone.layers[:-1], wider)))
        # Random points, and where single elements are largest: there planes are tight.
        extreme = torch.where(last.image > 0, cone.upper, cone.lower)[:20]
        points = torch.cat([case.deviations(10, 7), extreme])
        outputs = cone.outputs(points)
        elements = last.elements(points, outputs)
        elements[:, :, 1:] += sign * off
        outputs[:, last.start :], maxima = elements.max(-1)
        variables = torch.cat([points, outputs], 1).numpy()
        slack = 1e-11 * case.subject.scale
        for point, ones in zip(variables, maxima.tolist(), strict=True):
            some = {last.start + w: e for w, e in enumerate(ones) if rng.random() < 0.5}
            relaxation.solve(some, rounds=2)  # cuts, too
            activity = relaxation._matrix @ point
            assert (activity >= relaxation._least - slack).all()
            assert (activity <= relaxation._most + slack).all()
            tight += int((activity <= relaxation._least + slack).sum())
            tight += int((activity >= relaxation._most - slack).sum())
    assert tight >= 20, "rows should allow for no more than that"


def test_a_node_is_solved_as_if_it_were_the_first(tmp_path: Path) -> None:
    """Whatever was fixed before."""
    rng = np.random.default_rng(3)
    for case, relaxation in relaxed_cases(tmp_path):
        for _ in range(5):
            fixed = {
                w: int(rng.choice(relaxation.live(w)))
                for w in range(case.cone.undecided)
                if rng.random() < 0.4
            }
            again = relaxation.solve(fixed)
            fresh = LinearRelaxation(case.cone).solve(fixed)
            assert again.bound == pytest.approx(fresh.bound, abs=1e-6 * case.subject.scale)
            least = true_minimum(relaxation)
            assert again.bound <= least + 1e-7 * case.subject.scale
            assert again.bound >= min(least, 1e9) - 1e-6 * case.subject.scale or again.bound == -math.inf
            if again.pixels is not None:
                assert (case.cone.lower <= again.pixels).all()
                assert (again.pixels <= case.cone.upper).all()


@pytest.mark.parametrize(
    ("margins", "norm", "forgetful"),
    [
        (1, Norm.LINF, False),
        (2, Norm.LINF, True),
        (1, Norm.L2, False),
        (2, Norm.L2, True),
        (1, Norm.L1, True),
        (2, Norm.L1, False),
    ],
)
def test_cuts_hold_at_every_point(
    margins: int, norm: Norm, forgetful: bool, tmp_path: Path, monkeypatch
) -> None:
    """Whatever nodes they were found at; they raise bounds, and are dropped where they are of no use."""
    if forgetful:
        monkeypatch.setattr("corgi.decide.linear._CUTS_A_WINDOW", 0)
        monkeypatch.setattr("corgi.decide.linear._IDLE", 1)
    rng, added, raised, dropped = np.random.default_rng(5), 0, 0, 0
    for case, relaxation in relaxed_cases(tmp_path, margins, norm=norm):
        plain, slack = len(relaxation._least), 1e-11 * case.subject.scale
        cone, points = case.cone, case.deviations(10, 6)
        outputs, largest = cone.outputs(points), cone.margins(points).amax(1)
        t = [largest[:, None]] if margins > 1 else []
        variables = torch.cat([points, outputs, *t], 1).numpy()
        maxima = [cone.maxima(point) for point in points]
        for trial in range(6):
            before = len(relaxation._least)
            some = [w for w in range(cone.undecided) if rng.random() < 0.3]
            which = int(rng.integers(len(points)))
            fixed = {} if trial == 0 else {w: maxima[which][w] for w in some}
            without = LinearRelaxation(cone).solve(fixed)
            found = relaxation.solve(fixed, rounds=4)
            # The point has the maxima that were fixed.
            assert not found.bound > float(largest[which]) + slack
            raised += found.bound > without.bound + 1e-5 * case.subject.scale
            dropped += len(relaxation._least) < before
            activity = relaxation._matrix @ variables.T
            assert (activity[plain:] <= relaxation._most[plain:, None] + slack).all()
            assert (relaxation._least[plain:] == -np.inf).all()
            assert len(relaxation._least) == relaxation._matrix.shape[0]
            assert relaxation._absolute.shape == relaxation._matrix.shape
            assert set(relaxation._above[1]) == set(relaxation._plane) | {
                *range(plain, len(relaxation._least))
            }
            for window, row in zip(*relaxation._above, strict=True):
                assert relaxation._matrix[row, len(cone.pixels) + window] == 1
        added += len(relaxation._least) - plain
    assert added >= 10 or forgetful
    assert raised >= 10
    assert (dropped > 0) == forgetful


@pytest.mark.parametrize("norm", Norm)
def test_no_multipliers_prove_a_node_with_a_point_empty(norm: Norm, tmp_path: Path) -> None:
    rng, checked = np.random.default_rng(4), 0
    for case, relaxation in relaxed_cases(tmp_path, norm=norm):
        for deviations in case.deviations(3, 5):
            maxima = dict(enumerate(case.cone.maxima(deviations)))
            relaxation._move_to(maxima)
            rays = [ray for _, ray in multipliers(rng, LinearRelaxation(case.cone))]
            own = optimal(relaxation, maxima)
            rays += [own, own * (1 + 1e-3 * rng.standard_normal(len(own)))]
            for ray in rays:
                with np.errstate(all="ignore"):
                    assert not relaxation._proves_empty(ray)
                    assert not relaxation._proves_empty(-ray)
                checked += 1
        assert not relaxation._proves_empty(np.ones(len(relaxation._least) + 1)), "of another length"
    assert checked > 200


def test_subnormal_multipliers_prove_no_node_empty(tmp_path: Path) -> None:
    """Their products are rounded by up to all of their size, which no relative error covers."""
    for case, relaxation in relaxed_cases(tmp_path, share=6.0):
        for deviations in case.deviations(4, 5):
            relaxation._move_to(dict(enumerate(case.cone.maxima(deviations))))
            for row in range(len(relaxation._least)):
                ray = np.zeros(len(relaxation._least))
                for size in (5e-324, 1.5e-323, 2.5e-323, 1e-315):
                    ray[row] = size
                    assert not relaxation._proves_empty(ray)
                    assert not relaxation._proves_empty(-ray)


@given(st.data())
def test_drawn_multipliers_give_a_lower_bound(relaxed_one, data) -> None:
    case, relaxation, least = relaxed_one
    floats = st.one_of(st.floats(), st.floats(-10, 10), st.sampled_from([0.0, 1e300, -1e300, 5e-324]))
    rows = len(relaxation._least)
    drawn = np.array(data.draw(st.lists(floats, min_size=rows, max_size=rows)))
    with np.errstate(all="ignore"):
        bound = relaxation._offset + relaxation._bound(drawn, relaxation._cost, relaxation._offset)
        assert not bound > least + 1e-7 * case.subject.scale
        assert not relaxation._proves_empty(drawn), "the ball has points"


@pytest.fixture(scope="module")
def relaxed_one(tmp_path_factory) -> tuple[Case, LinearRelaxation, float]:
    """A cone with some ten rows, its relaxation and that one's minimum."""
    cases = relaxed_cases(tmp_path_factory.mktemp("networks"))
    case, relaxation = min(cases, key=lambda pair: abs(len(pair[1]._least) - 12))
    return case, relaxation, true_minimum(relaxation)


# A solver that lies -----------------------------------------------------------------------------------------


class Liar(highspy.Highs):
    """HiGHS that says of every program what `lie` makes of it."""

    lie = "nothing"
    rng = np.random.default_rng(0)

    def getModelStatus(self) -> Any:  # noqa: N802 - HiGHS's name
        lies = "empty" in self.lie and ("sometimes" not in self.lie or self.rng.random() < 0.5)
        return highspy.HighsModelStatus.kInfeasible if lies else highspy.HighsModelStatus.kOptimal

    def getDualRay(self) -> Any:  # noqa: N802 - HiGHS's name
        duals = np.asarray(super().getSolution().row_dual)
        ray = {
            "sometimes empty, a random ray": self.rng.standard_normal(len(duals)),
            "empty, a random ray": self.rng.standard_normal(len(duals)),
            "empty, a huge ray": self.rng.standard_normal(len(duals)) * 1e300,
            "empty, the multipliers as ray": duals,
            "empty, NaN as ray": np.full(len(duals), np.nan),
            "empty, a ray of another length": duals[:-1],
        }.get(self.lie)
        return highspy.HighsStatus.kOk, ray is not None, np.zeros(0) if ray is None else ray

    def getSolution(self) -> Any:  # noqa: N802 - HiGHS's name
        honest = super().getSolution()
        duals, values = np.asarray(honest.row_dual), np.asarray(honest.col_value)
        random = self.rng.standard_normal(len(duals))
        with np.errstate(all="ignore"):
            return self._solution(duals, values, random)

    def _solution(self, duals: Vector, values: Vector, random: Vector) -> Any:
        lies = {
            "multipliers are random": (random, values),
            "multipliers are huge": (random * 1e300, values),
            "multipliers have the wrong sign": (-duals, values),
            "multipliers are ten times too large": (10 * duals, values),
            "multipliers are NaN": (duals * np.nan, values),
            "multipliers are infinite": (duals * np.inf, values),
            "multipliers are too few": (duals[:-1], values),
            "no multipliers": (duals[:0], values),
            "values are NaN": (duals, values * np.nan),
            "values are missing": (duals, values[:0]),
            "values lie outside": (duals, values + 1e3),
            "all of it is 0": (duals * 0, values * 0),
        }
        solution = highspy.HighsSolution()
        solution.row_dual, solution.col_value = lies.get(self.lie, (duals, values))
        return solution


class ConicLiar:
    """Clarabel that does the same."""

    def __init__(self, *program: Any) -> None:
        self.honest = DefaultSolver(*program)

    def solve(self) -> Any:
        honest, rng, lie = self.honest.solve(), Liar.rng, Liar.lie
        dual, values = np.asarray(honest.z), np.asarray(honest.x)
        status, random = "Solved", rng.standard_normal(len(dual))
        with np.errstate(all="ignore"):
            if "empty" in lie and ("sometimes" not in lie or rng.random() < 0.5):
                status = "PrimalInfeasible"
                rays = {"random": random, "huge": random * 1e300, "NaN": dual * np.nan}
                dual = next((ray for name, ray in rays.items() if name in lie), dual)
            else:
                solution = Liar()._solution(dual, values, random)
                dual, values = (
                    np.resize(np.append(found, 0.0), len(of))
                    for found, of in ((solution.row_dual, dual), (solution.col_value, values))
                )
        return SimpleNamespace(x=values, z=dual, status=status)


LIES = [
    "multipliers are random", "multipliers are huge", "multipliers have the wrong sign",
    "multipliers are ten times too large", "multipliers are NaN", "multipliers are infinite",
    "multipliers are too few", "no multipliers", "values are NaN", "values are missing",
    "values lie outside", "all of it is 0", "empty, no ray", "empty, a random ray", "empty, a huge ray",
    "empty, the multipliers as ray", "empty, NaN as ray", "empty, a ray of another length",
    "sometimes empty, no ray", "sometimes empty, a random ray",
]  # fmt: skip


SOME_LIES = [
    "multipliers are random", "multipliers are ten times too large", "multipliers are NaN",
    "values are missing", "values lie outside", "empty, the multipliers as ray",
    "sometimes empty, a random ray",
]  # fmt: skip


TREES = [TreeDecider(root_rounds=0, rounds=0), TreeDecider()]
"""Without cuts it takes more nodes: more chances to be lied to."""


_broken: dict[Norm, list[Cone]] = {}


def counterexamples(norm: Norm, folder: Path) -> list[Cone]:
    """Cones whose least margin was shifted to just below 0, so that it takes a tree to find out."""
    if norm in _broken:
        return _broken[norm]
    found, tree, wanted = [], TREES[0], 8 if norm is Norm.LINF else 4
    for margins in (1, 2):
        for case, _ in relaxed_cases(folder, margins, norm=norm):
            if len(found) == wanted:
                break
            low, high = -case.subject.scale, case.subject.scale
            for _ in range(10):
                middle = (low + high) / 2
                verdict = tree.decide(raised(case.cone, middle), 200)
                low, high = (low, middle) if isinstance(verdict, Proved) else (middle, high)
            verdict = tree.decide(raised(case.cone, low), 200)
            if isinstance(verdict, Counterexample) and verdict.nodes > 1:
                found.append(raised(case.cone, low))
    assert len(found) == wanted
    _broken[norm] = found
    return found


@pytest.mark.parametrize(
    ("norm", "lie"), [*((Norm.LINF, lie) for lie in LIES), *itertools.product((Norm.L2, Norm.L1), SOME_LIES)]
)
def test_whatever_the_solver_says_nothing_wrong_is_proved(
    norm: Norm, lie: str, tmp_path: Path, monkeypatch
) -> None:
    cones = counterexamples(norm, tmp_path)
    monkeypatch.setattr("corgi.decide.solver.highspy.Highs", Liar)
    monkeypatch.setattr("corgi.decide.solver.clarabel.DefaultSolver", ConicLiar)
    monkeypatch.setattr(Liar, "lie", lie)
    # Lies of the moment are told several times.
    times = 4 if "sometimes" in lie else 1
    for cone, tree in itertools.product(cones * times, TREES):
        with np.errstate(all="ignore"):
            verdict = tree.decide(cone, 60)
        assert not isinstance(verdict, Proved)
        if isinstance(verdict, Counterexample):
            assert float(cone.margins(verdict.deviations[None]).max()) < 0


@pytest.mark.parametrize("error", [RuntimeError, BaseException])
def test_a_solver_that_fails_proves_nothing(error: type[BaseException], tmp_path: Path, monkeypatch) -> None:
    """A panic of Rust is a BaseException; Ctrl-C is not taken for one."""
    cones = counterexamples(Norm.L2, tmp_path)

    def fails(*program: Any) -> None:
        raise error("panicked")

    monkeypatch.setattr("corgi.decide.solver.clarabel.DefaultSolver", fails)
    assert isinstance(TreeDecider().decide(cones[0], 10), Undecided)
    monkeypatch.setattr("corgi.decide.solver.clarabel.DefaultSolver", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TreeDecider().decide(cones[0], 10)


def interrupted(*program: Any) -> None:
    raise KeyboardInterrupt


def test_the_liar_can_be_believed_when_it_says_nothing_wrong(tmp_path: Path, monkeypatch) -> None:
    """The test above would pass of a solver that never works."""
    cases = [case for case, _ in relaxed_cases(tmp_path, share=0.9)]
    honest = [type(TreeDecider().decide(case.cone, 200)) for case in cases]
    monkeypatch.setattr("corgi.decide.solver.highspy.Highs", Liar)
    assert [type(TreeDecider().decide(case.cone, 200)) for case in cases] == honest
    assert honest.count(Proved) >= 3
