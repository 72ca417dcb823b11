"""The linear relaxation of a cone, solved by others (solver.py), believed only as far as multipliers prove.

Variables are pixels d and windows y, and t where there are several margins. For every undecided window

    y_w >= lead_e + X_e . d + Y_e . y    for its live elements e,
    y_w <= sum_e up_e (X_e . d + Y_e . y) + shift;

and cuts y_w <= a . v + b that a solution violates (cuts.py). A node of the tree turns the first into an
equality for the element it takes as the maximum. Minimised is the margin, or t >= every margin: at a point
where all margins are <= 0, t can be 0.

A linear program min c . v, L <= A v <= U, l <= v <= u has for ANY multipliers m the lower bound

    sum_i (m_i > 0 ? m_i L_i : m_i U_i) + sum_j min over [l_j, u_j] of (c - A^T m)_j v_j

(Neumaier and Shcherbina 2004). So what a solver returns is only a suggestion; the bound is computed here, in
float64 with its rounding set aside. The same with c = 0 proves a node empty. Where the pixels are also in a
ball of l_2 or l_1 their part of the last sum is the least over box and ball (reach.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from corgi.decide.cuts import envelope
from corgi.decide.reach import Reach
from corgi.decide.solver import INFINITE, Program, Vector, solver_of
from corgi.engines.cone import Cone, ConeLayer
from corgi.engines.rigour import LOST_PRODUCT, SPARE, gamma, roundings

_WORTHWHILE = 0.03
"""Share of a bound that a round of cuts must gain to be followed by another."""

_BEYOND = 1e-6
"""By how much more than enough, of an objective of size 1, the solver's bound must be for it to end."""

_NEGLIGIBLE = 1e-150
"""Multipliers below this count as 0."""

_UNUSED = 1e-6
"""Multipliers up to this share of the largest count as unused."""

_VIOLATED = 1e-5
"""Share of a window's size by which a solution must violate a cut for it to be added."""

_CUTS_A_WINDOW, _IDLE = 6, 30
"""With more cuts than that a window, those are dropped that this many solutions in a row did not use."""


def _power_of_two(sizes: Vector) -> Vector:
    """The nearest power of 2 to each size; 1 for 0 and what is not finite."""
    usable = np.isfinite(sizes) & (sizes > 1e-200) & (sizes < 1e200)
    return np.exp2(np.round(np.log2(np.where(usable, sizes, 1.0))))


@dataclass(frozen=True)
class Relaxed:
    """What the relaxation of one node says.

    Attributes:
        bound: a lower bound of the objective, rounding set aside; inf where the node is empty.
        pixels: the pixels at the solver's solution, None where it gave none.
        gap: by how much each window is off its maximum there, weighted with what it could matter: [windows].
        values: all variables of that solution.
    """

    bound: float
    pixels: Tensor | None
    gap: Vector
    values: Vector | None


class LinearRelaxation:
    """The relaxation of a cone; nodes are solved one after the other, each from the basis of the last."""

    def __init__(self, cone: Cone) -> None:
        self.cone = cone
        self._reach = Reach(cone.lower.numpy(), cone.upper.numpy(), cone.norm, cone.radius)
        self._beyond = math.inf
        self._fixed: dict[int, int] = {}
        self._build()
        self._scale()
        program = Program(
            cost=self._objective_scale * self._cost * self._column_scale,
            lower=self._lower / self._column_scale,
            upper=self._upper / self._column_scale,
            matrix=(sp.diags(self._row_scale) @ self._matrix @ sp.diags(self._column_scale)).tocsr(),
            least=self._row_scale * self._least,
            most=self._row_scale * self._most,
            norm=cone.norm,
            scale=self._column_scale[: len(cone.pixels)] / cone.radius,
        )
        self._solver = solver_of(program)

    def _scale(self) -> None:
        """Units in which the solver's absolute tolerances make sense: powers of 2, so nothing is rounded.

        A column has size 1, a row the unit of its window (or margin), the objective size 1. Only the solver
        sees them; what it returns is put back into the units of the cone, in which every bound is computed.
        """
        columns = len(self._cost)
        self._column_scale = _power_of_two(self._size)
        own = np.full(self._matrix.shape[0], columns - 1)
        for (window, _), row in self._row_of.items():
            own[row] = len(self.cone.pixels) + window
        own[self._plane] = len(self.cone.pixels) + np.arange(self.cone.undecided)
        self._row_scale = 1 / self._column_scale[own]
        reach = float((np.abs(self._cost) * self._size).sum()) + abs(self._offset)
        self._objective_scale = float(1 / _power_of_two(np.array([reach]))[0])

    def _build(self) -> None:
        cone = self.cone
        pixels, windows, margins = len(cone.pixels), cone.undecided, len(cone.constant)
        several = margins > 1
        lower = [cone.lower, *(layer.lower for layer in cone.layers)]
        upper = [cone.upper, *(layer.upper for layer in cone.layers)]
        self._lower, self._upper = torch.cat(lower).numpy(), torch.cat(upper).numpy()
        self._offset = 0.0 if several else float(cone.constant[0])
        objective = torch.cat([cone.image, cone.windows], 1)
        self._cost = objective[0].numpy()
        size = torch.from_numpy(np.maximum(np.abs(self._lower), np.abs(self._upper)))
        blocks, least, most = [], [], []
        self._row_of: dict[tuple[int, int], int] = {}
        self._plane = np.zeros(windows, dtype=np.int64)
        self._live: list[list[int]] = []
        count = 0
        for layer in cone.layers:
            rows, low, high = self._window_rows(layer, size)
            blocks.append(rows)
            least.append(low)
            most.append(high)
            at = layer.live.nonzero().tolist()
            for i, (window, element) in enumerate(at):
                self._row_of[layer.start + window, element] = count + i
            self._plane[layer.start : layer.start + len(layer)] = count + len(at) + np.arange(len(layer))
            self._live.extend(live.nonzero().reshape(-1).tolist() for live in layer.live)
            count += len(rows)
        if several:
            reach = (objective.abs() * size).sum(1)
            # Wider than any margin can be, rounding included.
            wide = SPARE * float((cone.constant.abs() + reach).max()) + 1e-300
            self._lower, self._upper = np.append(self._lower, -wide), np.append(self._upper, wide)
            self._cost = np.append(np.zeros(pixels + windows), 1.0)
            blocks = [np.pad(block, ((0, 0), (0, 1))) for block in blocks]
            blocks.append(np.concatenate([-objective.numpy(), np.ones((margins, 1))], 1))
            least.append(cone.constant.numpy())
            most.append(np.full(margins, INFINITE))
        empty = np.zeros((0, len(self._cost)))
        self._matrix = sp.csr_matrix(np.concatenate([empty, *blocks]))
        self._matrix.sum_duplicates()
        self._least, self._most = np.concatenate([[], *least]), np.concatenate([[], *most])
        self._size = np.maximum(np.abs(self._lower), np.abs(self._upper))
        self._absolute = abs(self._matrix)
        self._first_cut = len(self._least)
        self._idle = np.zeros(self._first_cut, dtype=np.int64)
        self._above = np.arange(windows), self._plane.copy()
        # The equality y_w = element: its right side from above, with the slack of both roundings.
        self._equal = {key: self._equal_side(key) for key in self._row_of}

    def _window_rows(self, layer: ConeLayer, size: Tensor) -> tuple[Vector, Vector, Vector]:
        """First a row for every live element, in order, then the upper plane of every window."""
        pixels, windows = len(self.cone.pixels), self.cone.undecided
        count, elements = layer.live.shape
        values = torch.zeros(count, elements, pixels + windows, dtype=torch.float64)
        values[layer.window, layer.element, :pixels] = layer.image
        values[layer.window, layer.element, pixels : pixels + layer.start] = layer.earlier
        error = torch.zeros(count, elements, dtype=torch.float64)
        error[layer.window, layer.element] = layer.error
        own = torch.zeros(count, pixels + windows, dtype=torch.float64)
        own[torch.arange(count), pixels + layer.start + torch.arange(count)] = 1
        at = layer.live.nonzero(as_tuple=True)
        below = own[at[0]] - values[at]
        lead = layer.lead[at]
        least = lead - roundings(4) * lead.abs() - SPARE * error[at]
        planar = own - (layer.up[:, :, None] * values).sum(1)
        # The weighted sum of rows was rounded; on the ball by at most this.
        reach = (layer.up.abs()[:, :, None] * values.abs() * size).sum((1, 2))
        rounded = gamma(elements + 4, torch.float64) * reach
        shift = layer.up_shift + SPARE * (rounded + (layer.up.abs() * error).sum(1))
        shift = shift + roundings(8) * shift.abs()
        rows = torch.cat([below, planar]).numpy()
        free = np.full(len(lead), INFINITE)
        return (
            rows,
            np.concatenate([least.numpy(), np.full(count, -INFINITE)]),
            np.concatenate([free, shift.numpy()]),
        )

    def _equal_side(self, key: tuple[int, int]) -> float:
        """What y_w - element is at most where the element is the maximum: the lower side mirrored."""
        window, element = key
        layer = next(part for part in reversed(self.cone.layers) if part.start <= window)
        lead = float(layer.lead[window - layer.start, element])
        slack = lead - self._least[self._row_of[key]]
        return float(lead + slack * (1 + roundings(8)) + roundings(8) * abs(lead))

    def live(self, window: int) -> list[int]:
        """The elements a window's maximum can be."""
        return self._live[window]

    def solve(self, fixed: Mapping[int, int], rounds: int = 0, enough: float = math.inf) -> Relaxed:
        """Bound the node in which each of some windows has its maximum at a given element.

        Args:
            fixed: the element of each of those windows.
            rounds: how often cuts that the solution violates are added, while that gains anything.
            enough: work ends once the bound exceeds it.
        """
        self._move_to(fixed)
        self._drop_idle_cuts()
        # The dual simplex ends at once where its bound, somewhat more for its tolerances, is enough.
        beyond = self._objective_scale * (enough - self._offset)
        self._beyond = beyond + _BEYOND * (1 + abs(beyond))
        found = self._solve_once()
        for _ in range(rounds):
            if found.bound > enough or found.values is None:
                break
            violated = [w for w in range(self.cone.undecided) if w not in fixed and found.gap[w] > 0]
            if self._tighten(found.values, violated) == 0:
                break
            before, found = found, self._solve_once()
            found = found if found.bound > before.bound else replace(found, bound=before.bound)
            if found.bound - before.bound < _WORTHWHILE * abs(found.bound):
                break
        return found

    def _solve_once(self) -> Relaxed:
        found, nothing = self._solver.solve(self._beyond), np.zeros(self.cone.undecided)
        multipliers = found.multipliers
        if multipliers is not None:
            multipliers = self._row_scale * multipliers
        if found.empty:
            # A ray has no natural size or sign convention: both signs are tried, any that proves it does.
            empty = multipliers is not None and any(
                self._proves_empty(sign * multipliers) for sign in (1.0, -1.0)
            )
            return Relaxed(math.inf if empty else -math.inf, None, nothing, None)
        bound = -math.inf
        if multipliers is not None:
            multipliers = multipliers / self._objective_scale
            bound = self._offset + self._bound(multipliers, self._cost, self._offset)
            used = np.abs(multipliers) > _UNUSED * np.abs(multipliers).max(initial=0.0)
            self._idle = np.where(used, 0, self._idle + 1)
        if (
            found.values is None
            or len(found.values) != len(self._cost)
            or not np.isfinite(found.values).all()
        ):
            return Relaxed(bound, None, nothing, None)
        values = found.values * self._column_scale
        pixels = torch.from_numpy(self._reach.within(values[: len(self.cone.pixels)]))
        return Relaxed(bound, pixels, self._gap(values, multipliers), values)

    def _move_to(self, fixed: Mapping[int, int]) -> None:
        for window, element in list(self._fixed.items()):
            if fixed.get(window) != element:
                self._set(window, element, INFINITE)
                del self._fixed[window]
        for window, element in fixed.items():
            if window not in self._fixed:
                self._set(window, element, self._equal[window, element])
                self._fixed[window] = element

    def _set(self, window: int, element: int, most: float) -> None:
        row = self._row_of[window, element]
        self._most[row] = most
        scale = self._row_scale[row]
        self._solver.bound(row, scale * self._least[row], scale * most)

    def _bound(self, multipliers: Vector, cost: Vector, offset: float) -> float:
        """The bound above for any multipliers, without `offset` but with its share of the rounding."""
        m = np.nan_to_num(multipliers, nan=0.0, posinf=0.0, neginf=0.0)
        # Any multipliers will do, and products shall not underflow.
        m = np.where(np.abs(m) < _NEGLIGIBLE, 0.0, m)
        side = np.where(m > 0, self._least, self._most)
        m = np.where(np.abs(side) < INFINITE, m, 0.0)
        side = np.where(m == 0, 0.0, side)
        reduced = cost - self._matrix.T @ m
        amounts = np.abs(cost) + self._absolute.T @ np.abs(m)
        rows, columns = self._matrix.shape
        share = gamma(rows + 4, torch.float64)
        pixels = len(self.cone.pixels)
        at_ends = np.minimum(reduced * self._lower, reduced * self._upper)[pixels:]
        at_ends = np.append(at_ends, self._reach.least(reduced[:pixels]))
        sides = m * side
        total = float(at_ends.sum() + sides.sum())
        # What products may lose by underflow all the same: less than the smallest normal number each.
        largest = 2 + float(self._size.max(initial=0.0))
        underflow = LOST_PRODUCT * float(self._matrix.nnz + rows + columns) * largest
        lost = share * float((amounts * self._size).sum()) + underflow
        whole = float(np.abs(at_ends).sum() + np.abs(sides).sum()) + abs(offset) + lost
        return total - SPARE * lost - gamma(rows + columns + 8, torch.float64) * whole

    def _tighten(self, values: Vector, windows: list[int]) -> int:
        """Add the cuts (cuts.py) that a solution violates at some windows; how many."""
        rows, most, owners, pixels = [], [], [], len(self.cone.pixels)
        for window in windows:
            column = pixels + window
            at = [self._row_of[window, element] for element in self._live[window]]
            # Rows are y_w - element.
            elements = -self._matrix[at].toarray()
            elements[:, column] = 0
            constants = np.array([self._equal[window, element] for element in self._live[window]])
            others = self._lower[pixels:], self._upper[pixels:]
            cut, side = envelope(elements, constants, self._reach, *others, values)
            if values[column] - cut @ values - side > _VIOLATED * self._size[column]:
                cut = -cut
                cut[column] = 1
                rows.append(cut)
                most.append(side)
                owners.append(window)
        if rows:
            self._append(np.stack(rows), np.array(most), np.array(owners))
        return len(rows)

    def _drop_idle_cuts(self) -> None:
        """Forget cuts that no solution has used for a while, once there are many."""
        first, rows = self._first_cut, len(self._least)
        if rows - first <= _CUTS_A_WINDOW * self.cone.undecided:
            return
        drop = first + np.flatnonzero(self._idle[first:] > _IDLE)
        if len(drop) == 0:
            return
        kept = np.setdiff1d(np.arange(rows), drop)
        self._solver.drop(drop)
        self._matrix, self._absolute = self._matrix[kept], self._absolute[kept]
        self._least, self._most = self._least[kept], self._most[kept]
        self._row_scale, self._idle = self._row_scale[kept], self._idle[kept]
        # Rows of windows come first and stay; planes and cuts are numbered anew.
        used = np.isin(self._above[1], kept)
        self._above = self._above[0][used], np.searchsorted(kept, self._above[1][used])

    def _append(self, rows: Vector, most: Vector, owners: npt.NDArray[np.int64]) -> None:
        """Add rows y_w - cut <= side, of windows `owners`."""
        first, count = len(self._least), len(rows)
        added = sp.csr_matrix(rows)
        self._matrix = sp.vstack([self._matrix, added]).tocsr()
        self._absolute = abs(self._matrix)
        self._least = np.concatenate([self._least, np.full(count, -INFINITE)])
        self._most = np.concatenate([self._most, most])
        scale = 1 / self._column_scale[len(self.cone.pixels) + owners]
        self._row_scale = np.concatenate([self._row_scale, scale])
        self._idle = np.concatenate([self._idle, np.zeros(count, dtype=np.int64)])
        self._above = (
            np.concatenate([self._above[0], owners]),
            np.concatenate([self._above[1], first + np.arange(count)]),
        )
        entries = (sp.diags(scale) @ added @ sp.diags(self._column_scale)).tocsr()
        self._solver.add(entries, scale * most)

    def _proves_empty(self, ray: Vector) -> bool:
        """Whether multipliers show that no point satisfies all rows: 0 would be > 0."""
        if len(ray) != len(self._least):
            return False
        return self._bound(ray, np.zeros_like(self._cost), 0.0) > 0

    def _gap(self, values: Vector, multipliers: Vector | None) -> Vector:
        """How far above its largest element each window stands, times what its upper plane costs."""
        activity = self._matrix @ values
        above = np.full(self.cone.undecided, np.inf)
        for (window, _), row in self._row_of.items():
            above[window] = min(above[window], activity[row] - self._least[row])
        weight = np.zeros_like(above)
        if multipliers is not None:
            np.add.at(weight, self._above[0], np.abs(multipliers[self._above[1]]))
        gap: Vector = np.maximum(above, 0) * (weight + 1e-9)
        return gap


def to_branch(gap: Vector, fixed: dict[int, int]) -> int | None:
    """The open window with the largest gap, None where all are fixed."""
    if len(fixed) == len(gap):
        return None
    open_gaps = gap.copy()
    open_gaps[list(fixed)] = -math.inf
    return int(open_gaps.argmax())
