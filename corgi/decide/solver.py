"""Solvers of the programs that `linear.py` writes. Nothing they say is believed.

A program is min c . v, L <= A v <= U, l <= v <= u, its numbers of about size 1, and its first variables may
also lie in a ball, ||s v||_p <= 1 with a scale s for each. HiGHS goes from one program to the next by a few
steps of the dual simplex method; a ball of l_1 is one more row there. Clarabel, an interior-point method,
takes a ball of l_2 as a cone and begins anew each time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import clarabel
import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from corgi.budget import left
from corgi.terms import Norm

Vector = npt.NDArray[np.float64]
INFINITE = highspy.kHighsInf
"""Ends from here on are none."""

_FULL = 0.7
"""Up to which share of all directions it pays to keep those apart that rows read."""


@dataclass(frozen=True)
class Solution:
    """What a solver says of a program.

    Attributes:
        values: of the variables, where there are some.
        multipliers: of the rows; of a program without a point those that show it, of either sign.
        empty: whether the program has no point.
    """

    values: Vector | None
    multipliers: Vector | None
    empty: bool = False


@dataclass(frozen=True)
class Program:
    """A program as it begins.

    Attributes:
        cost: c.
        lower, upper: ends of the variables.
        matrix: A; least, most: L and U.
        norm: p of the ball; l_inf where there is none.
        scale: s, of its variables, > 0.
    """

    cost: Vector
    lower: Vector
    upper: Vector
    matrix: sp.csr_matrix
    least: Vector
    most: Vector
    norm: Norm
    scale: Vector


class Solver(ABC):
    """Solves a program whose rows change."""

    @abstractmethod
    def bound(self, row: int, least: float, most: float) -> None:
        """Other ends of a row."""

    @abstractmethod
    def add(self, rows: sp.csr_matrix, most: Vector) -> None:
        """More rows, each with an upper end only."""

    @abstractmethod
    def drop(self, rows: npt.NDArray[np.int64]) -> None:
        """Forget some rows; those behind them are numbered anew."""

    @abstractmethod
    def solve(self, beyond: float) -> Solution:
        """Solve it in the time that is left (budget.py); it may end where the objective exceeds `beyond`."""


def solver_of(program: Program) -> Solver:
    """The one that suits a program."""
    return Conic(program) if program.norm is Norm.L2 else Simplex(program)


class Simplex(Solver):
    """HiGHS, for boxes and balls of l_1.

    There a variable of the ball is the difference of two that are >= 0, and the first row says that they add
    up to 1 at most.
    """

    def __init__(self, program: Program) -> None:
        self._solver = highspy.Highs()
        # Its own scaling takes longer than it brings: programs come in units that fit.
        settings = ("output_flag", False), ("threads", 1), ("presolve", "off"), ("simplex_scale_strategy", 0)
        for option, setting in settings:
            self._solver.setOptionValue(option, setting)
        self._split = len(program.scale) if program.norm is Norm.L1 else 0
        self._rows, split = 0, self._split
        lower, upper = program.lower, program.upper
        cost = self._wide(program.cost[None]).toarray()[0]
        columns = len(cost)
        if split:
            lower = np.concatenate([np.zeros(split), lower[split:], np.zeros(split)])
            upper = np.concatenate([upper, -program.lower[:split]])
        self._solver.addVars(columns, lower, upper)
        self._solver.changeColsCost(columns, np.arange(columns, dtype=np.int32), cost)
        if split:
            both = np.concatenate([program.scale, np.zeros(columns - 2 * split), program.scale])
            self._append(sp.csr_matrix(both[None]), np.array([-INFINITE]), np.array([1.0]))
        self._first = self._rows
        self._append(self._wide(program.matrix), program.least, program.most)

    def _wide(self, rows: sp.csr_matrix | Vector) -> sp.csr_matrix:
        """Rows with the second part of variables that are two."""
        rows = sp.csr_matrix(rows)
        return sp.hstack([rows, -rows[:, : self._split]], format="csr") if self._split else rows

    def _append(self, rows: sp.csr_matrix, least: Vector, most: Vector) -> None:
        self._rows += len(most)
        self._solver.addRows(len(most), least, most, rows.nnz, rows.indptr[:-1], rows.indices, rows.data)

    def bound(self, row: int, least: float, most: float) -> None:
        """See `Solver.bound`."""
        self._solver.changeRowBounds(self._first + row, least, most)

    def add(self, rows: sp.csr_matrix, most: Vector) -> None:
        """See `Solver.add`."""
        self._append(self._wide(rows), np.full(len(most), -INFINITE), most)

    def drop(self, rows: npt.NDArray[np.int64]) -> None:
        """See `Solver.drop`."""
        self._rows -= len(rows)
        self._solver.deleteRows(len(rows), (self._first + rows).astype(np.int32))

    def solve(self, beyond: float) -> Solution:
        """See `Solver.solve`."""
        solver, time_left, split = self._solver, left(), self._split
        solver.setOptionValue("objective_bound", beyond if beyond < math.inf else INFINITE)
        # Set again where there is no limit: one of an earlier program may stand.
        solver.setOptionValue("time_limit", min(solver.getRunTime() + max(time_left, 0.0), INFINITE))
        solver.run()
        if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            _, exists, ray = solver.getDualRay()  # type: ignore[attr-defined]
            found = np.asarray(ray, dtype=np.float64)
            return Solution(None, self._of_rows(found) if exists else None, empty=True)
        solution = solver.getSolution()
        values, duals = (np.asarray(v, dtype=np.float64) for v in (solution.col_value, solution.row_dual))
        if split and len(values):
            values, second = values[:-split], values[-split:]
            values[:split] -= second
        return Solution(values, self._of_rows(duals))

    def _of_rows(self, multipliers: Vector) -> Vector | None:
        return multipliers[self._first :] if len(multipliers) == self._rows else None


class Conic(Solver):
    """Clarabel, for balls of l_2.

    Of the ball's variables only the directions count that a row reads. The cuts of `cuts.py` are made of rows
    and solutions and read no others, so they are found once. A variable that has an end of its own inside of
    the ball is a direction, too.
    """

    def __init__(self, program: Program) -> None:
        count = len(program.scale)
        own = [np.abs(end[:count]) * program.scale < 1 for end in (program.upper, program.lower)]
        self._basis = _directions(program, own[0] | own[1])
        self._count, self._scale = count, program.scale
        size, columns = self._basis.shape[1], len(program.cost) - count
        self._cost = self._narrow(program.cost[None]).toarray()[0]
        self._matrix = self._narrow(program.matrix)
        self._least, self._most = program.least.copy(), program.most.copy()
        unit = self._narrow(sp.identity(len(program.cost), format="csr"))
        above, below = (
            np.flatnonzero(np.append(inside, np.ones(columns, dtype=np.bool_)) & (np.abs(end) < INFINITE))
            for inside, end in zip(own, (program.upper, program.lower), strict=True)
        )
        self._ends = sp.vstack([unit[above], -unit[below]], format="csr")
        self._end_sides = np.concatenate([program.upper[above], -program.lower[below]])
        # (1, u) is in the second-order cone, u the ball's variables in these directions.
        ball = sp.hstack([-sp.identity(size), sp.csr_matrix((size, columns))])
        self._ball = sp.vstack([sp.csr_matrix((1, size + columns)), ball])
        self._ball_sides = np.append([1.0], np.zeros(size))
        self._settings = clarabel.DefaultSettings()
        self._settings.verbose, self._settings.max_threads = False, 1
        # Any multipliers prove a bound: five digits are enough, and take half as long.
        self._settings.tol_gap_rel = self._settings.tol_gap_abs = 1e-5
        self._settings.tol_feas, self._settings.iterative_refinement_enable = 1e-6, False

    def _narrow(self, rows: sp.csr_matrix | Vector) -> sp.csr_matrix:
        """Rows on directions and other variables."""
        rows = sp.csr_matrix(rows)
        return sp.hstack(
            [rows[:, : self._count] / self._scale @ self._basis, rows[:, self._count :]], format="csr"
        )

    def bound(self, row: int, least: float, most: float) -> None:
        """See `Solver.bound`."""
        self._least[row], self._most[row] = least, most

    def add(self, rows: sp.csr_matrix, most: Vector) -> None:
        """See `Solver.add`."""
        self._matrix = sp.vstack([self._matrix, self._narrow(rows)], format="csr")
        self._least = np.append(self._least, np.full(len(most), -INFINITE))
        self._most = np.append(self._most, most)

    def drop(self, rows: npt.NDArray[np.int64]) -> None:
        """See `Solver.drop`."""
        kept = np.setdiff1d(np.arange(len(self._most)), rows)
        self._matrix, self._least, self._most = self._matrix[kept], self._least[kept], self._most[kept]

    def solve(self, beyond: float) -> Solution:
        """See `Solver.solve`; it never ends early because of `beyond`."""
        self._settings.time_limit = max(left(), 1e-3)
        above, below = self._most < INFINITE, self._least > -INFINITE
        plain = sp.vstack([self._matrix[above], -self._matrix[below], self._ends], format="csr")
        rows = sp.vstack([plain, self._ball], format="csc")
        parts = self._most[above], -self._least[below], self._end_sides, self._ball_sides
        sides = np.concatenate(parts)
        if not all(np.isfinite(numbers).all() for numbers in (rows.data, sides, self._cost)):
            return Solution(None, None)
        cones = [clarabel.NonnegativeConeT(plain.shape[0]), clarabel.SecondOrderConeT(len(self._ball_sides))]
        square = sp.csc_matrix((len(self._cost), len(self._cost)))
        try:
            solver = clarabel.DefaultSolver(square, self._cost, rows, sides, cones, self._settings)
            found = solver.solve()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of Rust is no Exception; without a solution nothing is claimed
            return Solution(None, None)
        dual, multipliers, upper = np.asarray(found.z), np.zeros(len(self._most)), int(above.sum())
        multipliers[above] -= dual[:upper]
        multipliers[below] += dual[upper : upper + int(below.sum())]
        if "Infeasible" in str(found.status):
            return Solution(None, multipliers, empty=True)
        values, size = np.asarray(found.x), self._basis.shape[1]
        return Solution(np.append(self._basis @ values[:size] / self._scale, values[size:]), multipliers)


def _directions(program: Program, own: npt.NDArray[np.bool_]) -> sp.csr_matrix | Vector:
    """An orthonormal basis [n, directions] of what rows read and of variables with ends of their own."""
    count = len(program.scale)
    rows = sp.vstack([program.matrix[:, :count], sp.csr_matrix(program.cost[None, :count])])
    rows = rows[np.diff(rows.tocsr().indptr) > 0].toarray() / program.scale
    if len(rows) + int(own.sum()) > _FULL * count:
        return sp.identity(count, format="csr")
    found: Vector = np.linalg.qr(np.concatenate([rows, np.eye(count)[own]]).T)[0]
    return found
