"""Deciding windows by rows: which elements can be the largest, and the planes around those that stay open."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.patch.builder import RowBuilder
from corgi.engines.patch.cones import readers
from corgi.engines.patch.intervals import cast_up
from corgi.engines.patch.maximum import best_weights, pairs_of
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.state import State
from corgi.engines.patch.tournament import Tournament, first_games, none_played
from corgi.engines.patch.windows import Rowed, Undecided, Windows
from corgi.engines.rigour import SPARE, roundings
from corgi.network.convert import Step


class PoolPlanes:
    """Spends rows on the windows of Maxima, and keeps what they say in their tables.

    Attributes:
        disputed: which units of every value have a window with rival planes in their cone: bool [B, h, w].
    """

    def __init__(self, state: State, builder: RowBuilder, *, thorough: bool, tournaments: bool) -> None:
        self.state, self.builder = state, builder
        self._thorough, self._tournaments = thorough, tournaments
        self._marked: dict[str, Tensor] = {}
        self.disputed: dict[str, Tensor] = {}

    def decide(self, step: Step, todo: Tensor) -> None:
        """Spend rows on the undecided windows at [B, H', W'], and keep what they say."""
        windows = self.state.windows[step.output]
        if self.state.needs_none(step):
            return
        if self._thorough and windows.many(todo):
            self._bound_everywhere(step, windows, todo)
        units = (windows.undecided & todo[:, None]).nonzero()
        if len(units) == 0 or (windows.many(todo) and self._thorough):
            return
        at, disputed = units.unbind(1), self._disputed_windows(step, units)
        by_intervals, lower, upper = windows.above(units), windows.lower[at], windows.upper[at]
        live, by_rows, by_rivals = self._rows_decide(
            step, units, windows.live[at], windows.lead[at], by_intervals, disputed
        )
        windows.live[at] = live
        # Joint planes are drawn from rows of their own kind: tighter ones would change which are chosen.
        above, place = torch.fmin(by_intervals, by_rows), windows.place[at]
        before = place >= 0
        above[before] = torch.fmin(above[before], windows.rowed.above[place[before]])
        windows.note_signs(at, live, above)
        known = Undecided(units, live, above, by_rows, by_rivals, disputed, lower, upper)
        left = known.chosen((live.sum(1) > 1).nonzero()[:, 0])
        start = len(windows.rowed.above)
        places = torch.arange(start, start + len(left.units), device=place.device)
        # First the rows, then what points at them: no place is ever one that other windows could fill.
        windows.rowed = windows.rowed.joined(self._around(step, left))
        windows.place[left.units.unbind(1)] = places

    def _rows_decide(
        self,
        step: Step,
        units: Tensor,
        live: Tensor,
        lead: Tensor,
        by_intervals: Tensor,
        disputed: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows for the differences of elements of undecided windows: what stays live, `above`, and by rivals.

        At the middle of the ball one element is the largest, and only its lead can be proved: those rows come
        first and are dropped once they are >= 0. All other pairs are bounded where several elements stay.
        """
        count = live.shape[1]
        live, entrants = live.clone(), lead > -torch.inf
        above = torch.full((len(units), count, count), torch.inf, device=units.device)
        above = above.to(self.state.relaxation.dtype)
        ranks = torch.arange(count, device=live.device)
        above[:, ranks, ranks] = 0
        leader = torch.where(live, lead, -torch.inf).argmax(1)
        leads = ranks[None] == leader[:, None]
        rivalling = live & ~leads
        unit, other = rivalling.nonzero(as_tuple=True)
        least = self.builder.difference_rows(step, units[unit], leader[unit], other, enough=0.0)
        live[unit, other] &= ~(least >= 0)
        above[unit, other, leader[unit]] = cast_up(-least, above.dtype)
        # [unit, j, i] bounds x_j - x_i. Those against the leader are known; a tournament wants some of
        # elements that have been beaten, but not what the leader has over them.
        wanted = pairs_of(live)
        if count > 2 and self._plays(live, disputed):
            wanted |= pairs_of(entrants) & first_games(count).to(live.device) & (by_intervals > 0)
            wanted &= ~(leads[:, :, None] & ~live[:, None, :])
        wanted &= (live.sum(1) > 1)[:, None, None] & (ranks[:, None] != ranks)
        pairs = (wanted & ~(rivalling[:, :, None] & leads[:, None, :])).nonzero()
        rivals, known = (wanted & disputed[:, None, None]).nonzero(), len(pairs)
        unit, over, under = torch.cat([pairs, rivals]).unbind(1)
        rival = None if len(rivals) == 0 else torch.arange(len(unit), device=unit.device) >= known
        found = cast_up(
            -self.builder.difference_rows(step, units[unit], under, over, rival=rival), above.dtype
        )
        above[unit[:known], over[:known], under[:known]] = found[:known]
        if rival is None:
            return live, above, above
        by_rivals = above.clone()
        by_rivals[unit[known:], over[known:], under[known:]] = found[known:]
        return live, above, by_rivals

    def _bound_everywhere(self, step: Step, windows: Windows, todo: Tensor) -> None:
        """Rows for all live elements of all windows at [B, H', W'], from both sides.

        Without, elements of decided windows keep the deviations of their intervals, which grow with every
        layer, and with them those of all that reads them, and what is set aside for rounding.
        """
        layer = step.layer
        assert isinstance(layer, Maximum)
        live = windows.live[..., 1:] & todo[:, None, :, :, None]
        *at, element = live.nonzero(as_tuple=True)
        lower, upper, error = self.builder.two_sided_rows(step, layer, torch.stack(at, 1), element)
        where = (*at, element + 1)
        lead = windows.lead[where]
        slack = error * SPARE + roundings(8) * (lead.abs() + lower.abs() + upper.abs())
        low = -cast_up(slack - lead - lower, windows.lower.dtype)
        high = cast_up(lead + upper + slack, windows.upper.dtype)
        windows.lower[where] = torch.fmax(windows.lower[where], low)
        windows.upper[where] = torch.fmin(windows.upper[where], high)
        windows.drop_beaten()

    def _around(self, step: Step, known: Undecided) -> Rowed:
        """Planes around windows as a whole: joint ones of three or more live elements, and tournaments.

        Tournaments are played where their planes can differ: for those windows, and where the rows of others
        read such windows. All rows that are known share passes.
        """
        layer, units, live, above = step.layer, known.units, known.live, known.above
        assert isinstance(layer, Maximum)
        weights, shift = torch.zeros_like(above[:, 0]), torch.full_like(above[:, 0, 0], torch.inf)
        rowed = Rowed(above, known.by_rows, weights, shift, none_played(live))
        joint = (live.sum(1) > 2).nonzero()[:, 0]
        played = torch.arange(len(units) * self._plays(live, known.disputed), device=units.device)
        if len(joint) + len(played) == 0:
            return rowed
        lead = self.state.windows[step.output].lead[units.unbind(1)]
        entrants = lead > -torch.inf
        lead = torch.where(entrants, lead, 0)
        weights[joint] = best_weights(
            live[joint],
            torch.where(pairs_of(live[joint]), above[joint], 0),
            torch.where(live[joint], lead[joint], 0),
        )
        place, element = live[joint].nonzero(as_tuple=True)
        window, sums = joint[place], weights[joint[place]].to(torch.float64)
        sums[torch.arange(len(place), device=place.device), element] -= 1
        ends = known.lower[played], known.upper[played]
        game = Tournament(layer, entrants[played], known.by_rivals[played], *ends)
        while len(window) + len(game.windows):
            asked, wanted = torch.cat([window, played[game.windows]]), torch.cat([sums, game.coefficients])
            terms = wanted * lead[asked]
            at_centre = terms.sum(1) - roundings(32) * terms.abs().sum(1)
            rival = torch.arange(len(asked), device=asked.device) >= len(window)
            least = self.builder.window_rows(step, layer, units[asked], wanted[:, 1:], at_centre, rival=rival)
            most = torch.full_like(lead[:, 0], -torch.inf)
            most = most.scatter_reduce(0, window, -least[: len(window)], "amax")
            shift[window] = cast_up(most, shift.dtype)[window]
            if len(game.windows):
                game.play(least[len(window) :])
            window, sums = window[:0], sums[:0]
        rowed.outcome.put(played, game.outcome)
        if self._tournaments and len(joint):
            self._note_dispute(step.output, units[joint])
        return rowed

    def _plays(self, live: Tensor, disputed: Tensor) -> bool:
        """Whether the planes of tournaments, around windows with live elements [U, E], are of use."""
        undecided = live.sum(1)
        return self._tournaments and bool(((undecided > 2) | (disputed & (undecided > 1))).any())

    def _note_dispute(self, value: str, units: Tensor) -> None:
        """Rows that read these windows are to be bounded with rival planes, too."""
        marked = self._marked.get(value)
        if marked is None:
            marked = torch.zeros_like(self.state.windows[value].done)
        ball, _, y, x = units.unbind(1)
        marked[ball, y, x] = True
        self._marked[value] = marked
        self.disputed = readers(self.state.graph, self._marked, self.state.relaxation.shape)

    def _disputed_windows(self, step: Step, units: Tensor) -> Tensor:
        """Which windows [U, 4] have a window with rival planes in the cone of their elements: bool [U]."""
        nothing = torch.zeros_like(units[:, 0], dtype=torch.bool)
        if not self._tournaments or step.inputs[0] not in self.disputed:
            return nothing
        ball, _, y, x = units.unbind(1)
        return self.disputed[step.output][ball, y, x]
