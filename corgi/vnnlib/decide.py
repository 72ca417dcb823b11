"""Decide a specification: attack, bound, attack what is left, decide that exactly.

A case is unsatisfiable in its box if every alternative has, at every input, a constraint that is > 0. An
alternative is refuted where one constraint has a positive lower bound over the whole box, or where a decider
proves that its constraints are never <= 0 all at once (decide/decider.py). "sat" needs a witness that
onnxruntime confirms on the file; "unsat" needs every alternative of every case refuted; anything else is
"unknown" or "timeout", with a reason.

What is proved is held against what was seen: at every point that onnxruntime has run, no constraint may be
below its proved bound by more than float32 explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.budget import OutOfTime, left, limited, tell
from corgi.certify.methods import default_engine
from corgi.decide.branch import BranchDecider
from corgi.decide.decider import (
    Counterexample,
    Decider,
    Proved,
    Undecided,
    Verdict,
    all_of,
    contradiction,
    decided,
    usable,
)
from corgi.decide.inner import narrowed
from corgi.decide.lines import Rate
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone, NotUnfolded, with_inputs
from corgi.engines.forms import Forms
from corgi.engines.interface import BoundEngine, BoxBounds
from corgi.engines.layered import Layered
from corgi.errors import EngineError
from corgi.network.gate import TOLERANCE
from corgi.terms import Answer
from corgi.types import Interval
from corgi.vnnlib.attack import AttackOptions, Witness, confirm, search
from corgi.vnnlib.constraints import ArrayCase, Box, forms_of, inputs_of
from corgi.vnnlib.network import PlainNetwork, check_equal, check_fits, load_plain
from corgi.vnnlib.read import read_spec
from corgi.vnnlib.spec import Spec

_SEEN = 8
"""Points of a box at which the network is held against onnxruntime."""

_SMALL = 100
"""Undecided windows of a cone up to which the tree of linear programs is asked first."""

_INNER = 0.3
"""Share of the time there is that narrower bounds of inner units may take, at most."""


@dataclass(frozen=True)
class Outcome:
    """What became of a specification.

    Attributes:
        answer: the result.
        reason: why it is neither sat nor unsat; empty otherwise.
        witness: with sat, and only then.
        spec: what was decided; None with an error before it was read.
        notes: how the network was read (`PlainNetwork`).
    """

    answer: Answer
    reason: str = ""
    witness: Witness | None = None
    spec: Spec | None = None
    notes: tuple[str, ...] = ()


Finding = Proved | Witness | Undecided
"""Of something to be refuted: it is, an input satisfies it, or neither is known."""


@dataclass(frozen=True)
class DecideOptions:
    """How to decide.

    Attributes:
        engine: how to bound.
        decider: how to decide what bounds leave open, on cones.
        branch: how to decide it where cones are larger than `_SMALL`; None: never so.
        inner: how lines of inner units are improved first.
        attack: how to look for witnesses.
    """

    engine: BoundEngine = field(default_factory=default_engine)
    decider: Decider = field(default_factory=TreeDecider)
    branch: BranchDecider | None = field(default_factory=BranchDecider)
    inner: Rate = field(default_factory=lambda: Rate(5))
    attack: AttackOptions = field(default_factory=AttackOptions)


@settled()
def decide_files(onnx: Path, vnnlib: Path, deadline: float, options: DecideOptions | None = None) -> Outcome:
    """Decide a specification of a network.

    Args:
        onnx: the network.
        vnnlib: the specification, .vnnlib or .vnnlib.gz.
        deadline: `time.monotonic()` after which nothing new is begun.
        options: how.

    Raises:
        SpecError: the specification cannot be read or does not fit the network.
        ModelError: the network is not served (see `load_plain`).
        EngineError: a layer cannot be bounded, or a proof contradicts what onnxruntime computes.
    """
    tell("read", vnnlib.name)
    spec = read_spec(vnnlib)
    try:
        with limited(deadline):
            network = load_plain(onnx)
    except OutOfTime:
        return Outcome(Answer.TIMEOUT, "time was up while the network was loaded", spec=spec)
    check_fits(network, spec)
    return replace(decide(network, spec, deadline, options), notes=network.notes)


@settled()
def decide(
    network: PlainNetwork, spec: Spec, deadline: float, options: DecideOptions | None = None
) -> Outcome:
    """Decide a specification that fits a network; see `decide_files`."""
    try:
        with limited(deadline):
            return _decide(network, spec, options or DecideOptions())
    except OutOfTime:
        return Outcome(Answer.TIMEOUT, "time was up in the middle of a bound", spec=spec)


def _decide(network: PlainNetwork, spec: Spec, options: DecideOptions) -> Outcome:
    cases = [_CaseDecision(network, ArrayCase.of(case), options) for case in spec.cases]
    for case in cases:
        witness = case.attacked()
        if witness is not None:
            return Outcome(Answer.SAT, "", witness, spec)
    over = options.engine.boxes(network)
    match all_of(case.run(over) for case in cases):
        case Witness() as witness:
            return Outcome(Answer.SAT, "", witness, spec)
        case Proved():
            return Outcome(Answer.UNSAT, spec=spec)
        case Undecided(reason=reason):
            return Outcome(Answer.TIMEOUT if left() <= 0 else Answer.UNKNOWN, reason, spec=spec)


class _CaseDecision:
    """Decides one case."""

    def __init__(self, network: PlainNetwork, array: ArrayCase, options: DecideOptions) -> None:
        self.network, self.array, self.options = network, array, options
        self.box = Box.of(array.case, network)
        if self.box.empty:
            points = self.box.lower[None]  # beside the box; the networks must be equal there, too
        else:
            points = self.box.random(_SEEN, torch.Generator().manual_seed(0))
        found = torch.from_numpy(check_equal(network, points.numpy()))
        inside = 0 if self.box.empty else _SEEN
        self.inputs, self.outputs = points[:inside], found[:inside]

    def attacked(self, starts: Tensor | None = None, only: Tensor | None = None) -> Witness | None:
        """A witness by attack."""
        if self.box.empty or left() <= 0:
            return None
        tell("attack", f"{self.array.count} alternatives")
        return search(self.network, self.array, self.box, self.options.attack, starts, only)

    def run(self, over: Callable[[Tensor, Interval], BoxBounds]) -> Finding:
        """Whether the case is refuted: `Proved` if each alternative has, everywhere, a constraint > 0."""
        if left() <= 0:
            return Undecided("time was up before anything was bounded", 0)
        tell("bound", f"{len(self.array.constraints)} constraints by intervals")
        forms, of_inputs = forms_of(self.array, self.network, self.box)
        bounds = over(self.box.centre, self.box.deviations)
        lower = self.by_rows(bounds, forms, of_inputs)
        self.check(lower)
        open_ones = self.open(lower)
        if len(open_ones) == 0:
            return Proved(min(self.array.worst(lower[None])[0].tolist(), default=math.inf), 0)
        if left() <= 0:
            return Undecided(f"time was up with {len(open_ones)} alternatives left by bounds", 0)
        witness = self.attacked(only=open_ones)
        return self.exactly(bounds, forms, open_ones) if witness is None else witness

    def open(self, lower: Tensor) -> Tensor:
        """Alternatives no constraint of which is proved > 0, the likeliest to be satisfied first: int64."""
        best = self.array.worst(lower[None])[0]
        still = (~(best > 0)).nonzero().reshape(-1)
        return still[best[still].argsort()]

    def by_rows(self, bounds: BoxBounds, forms: Forms, of_inputs: Tensor) -> Tensor:
        """Lower bounds of all constraints [R]: by intervals, those of open alternatives by rows."""
        lower = _usable(bounds.by_intervals(forms) + of_inputs)
        members = self.array.member[torch.isin(self.array.alternative, self.open(lower))]
        some = forms.chosen(torch.unique(members))
        if len(some) > some.distinct:
            # Fewer outputs than constraints: rows for the outputs first.
            tell("bound", f"{some.distinct} outputs by rows")
            bounds.learn(some)
            lower = _usable(bounds.by_intervals(forms) + of_inputs)
        tried = torch.zeros(len(forms), dtype=torch.bool)
        while left() > 0:
            # Of each open alternative the constraint that is nearest to a proof.
            still = torch.isin(self.array.alternative, self.open(lower)) & ~tried[self.array.member]
            if not bool(still.any()):
                break
            alternative, member = self.array.alternative[still], self.array.member[still]
            best = lower.new_full((self.array.count,), -math.inf)
            best = best.scatter_reduce(0, alternative, lower[member], "amax")
            chosen = torch.unique(member[lower[member] >= best[alternative]])
            tell("bound", f"{len(chosen)} of {len(forms)} constraints by rows")
            found = _usable(bounds.by_rows(forms.chosen(chosen)) + of_inputs[chosen])
            lower[chosen] = torch.maximum(lower[chosen], found)
            tried[chosen] = True
        return lower

    def exactly(self, bounds: BoxBounds, forms: Forms, open_ones: Tensor) -> Finding:
        """Decide open alternatives one by one."""
        count = len(open_ones)
        branching = _Branching(bounds, forms, self.array, open_ones, self.options)

        def each() -> Iterator[Finding]:
            for done, alternative in enumerate(open_ones.tolist()):
                if left() <= 0:
                    yield Undecided(f"time was up with {count - done} alternatives open", 0)
                    return
                yield self.one(bounds, forms, alternative, f"{done + 1} of {count}", branching)

        return all_of(each())

    def one(
        self, bounds: BoxBounds, forms: Forms, alternative: int, detail: str, branching: _Branching
    ) -> Finding:
        """Decide one alternative: on its cone where that is small, else by branching if that is served."""
        members = torch.unique(self.array.members(alternative))
        if len(members) == 0:
            return Undecided("nothing is asked of the outputs, and the box holds no float32 point", 0)
        cone = bounds.unfold(forms.chosen(members))
        reads = any(self.array.constraints[i].inputs for i in members.tolist())
        small = isinstance(cone, Cone) and cone.undecided <= _SMALL
        if not small and not reads:
            tell("decide", f"alternative {detail}, by branching")
            found = self.settled_by(branching.decide(members), alternative, None)
            if not isinstance(found, Undecided) or isinstance(cone, NotUnfolded):
                return found
        if isinstance(cone, NotUnfolded):
            return Undecided(cone.reason, 0)
        if reads:
            cone = with_inputs(cone, *inputs_of(self.array, members, self.network, self.box))
        tell("decide", f"alternative {detail}, {cone.undecided} undecided windows")
        return self.settled_by(decided(self.options.decider, cone, nodes=2**31), alternative, cone.pixels)

    def settled_by(self, verdict: Verdict, alternative: int, pixels: Tensor | None) -> Finding:
        """What a verdict says of an alternative; `pixels`: those of the deviations, None for all."""
        if isinstance(verdict, Counterexample):
            return self.witnessed(slice(None) if pixels is None else pixels, verdict, alternative)
        if isinstance(verdict, Proved):
            self.check_alternative(alternative, verdict.least)
        return verdict

    def witnessed(
        self, pixels: Tensor | slice, found: Counterexample, alternative: int
    ) -> Witness | Undecided:
        """The counterexample as an input, if onnxruntime confirms it or something near it."""
        if self.box.empty:
            reason = "a counterexample of the reals; the box holds no float32 point that could be a witness"
            return Undecided(reason, found.nodes)
        given = self.box.centre.flatten().clone()
        given[pixels] += found.deviations
        point = torch.empty_like(given)
        point[self.network.order] = given
        start = point.to(torch.float32).clamp(self.box.lower, self.box.upper)
        witness = confirm(self.network, self.array, start, alternative)
        if witness is None:
            witness = self.attacked(start[None], torch.tensor([alternative]))
        if witness is not None:
            return witness
        reason = f"onnxruntime does not confirm a counterexample of the reals ({found.margin:.3g})"
        return Undecided(reason, found.nodes)

    def check(self, lower: Tensor) -> None:
        """Hold proved bounds [R] against what onnxruntime computed.

        Raises:
            EngineError: a constraint is below its bound.
        """
        if len(self.inputs):
            values = self.array.values(self.inputs, self.outputs)
            if bool((values + self.slack() < lower).any()):
                raise self.contradiction()

    def check_alternative(self, alternative: int, least: float) -> None:
        """The same for what a decider proved of one alternative: its largest constraint."""
        members = self.array.members(alternative)
        values = (self.array.values(self.inputs, self.outputs) + self.slack())[:, members]
        if bool((values.amax(1) < least).any()):
            raise self.contradiction()

    def slack(self) -> Tensor:
        """What float32 in onnxruntime may change of the constraints [R], float64."""
        of_inputs, of_outputs = (
            float(v.abs().max()) if v.numel() else 0.0 for v in (self.inputs, self.outputs)
        )
        sizes = [
            of_inputs * sum(abs(float(a)) for _, a in constraint.inputs)
            + of_outputs * sum(abs(float(b)) for _, b in constraint.outputs)
            + abs(float(constraint.constant))
            for constraint in self.array.constraints
        ]
        return TOLERANCE * torch.tensor(sizes, dtype=torch.float64)

    def contradiction(self) -> EngineError:
        path = self.network.path
        return contradiction(f"a bound for {path} excludes what onnxruntime computes in the box")


class _Branching:
    """Branching over the units of the whole network, whose inner bounds all alternatives of a case share."""

    def __init__(
        self, bounds: BoxBounds, forms: Forms, array: ArrayCase, alternatives: Tensor, options: DecideOptions
    ) -> None:
        self._bounds, self._forms, self._options = bounds, forms, options
        self._members = torch.unique(array.member[torch.isin(array.alternative, alternatives)])
        self._problem: Layered | None = None

    def decide(self, members: Tensor) -> Verdict:
        """Whether some constraints, int64, are nowhere <= 0 all at once."""
        if self._options.branch is None:
            return Undecided("branching is not asked for", 0)
        if self._problem is None:
            found = self._bounds.layered(self._forms.chosen(self._members))
            if not isinstance(found, Layered):
                return Undecided(found.reason, 0)
            # What is found in a share of the time is used; what is left open stays as the engine knows it.
            share = min(left(), 1e9)
            self._problem = narrowed(found, self._options.inner, until=(1 - _INNER) * share)
        rows = torch.searchsorted(self._members, members)
        return usable(self._options.branch.decide(self._problem.asking(rows), nodes=2**31))


def _usable(lower: Tensor) -> Tensor:
    """Lower bounds of which NaN and +inf say nothing."""
    return torch.where(lower < math.inf, lower, -math.inf)
