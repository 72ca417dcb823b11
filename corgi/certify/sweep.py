"""A property of a map along a family of changes: where it holds, where it is broken, what is open.

For one parameter the answer is a list of intervals in order, and where it first breaks lies between two
numbers that differ by 1e-6 of themselves or less, unless time is over before. For several it is a cover of
their box by smaller ones. Sizes that are asked for are each proved, refuted or open.
"""

from __future__ import annotations

import builtins
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from corgi.ambient import settled
from corgi.attacks.along import FamilyWitness
from corgi.budget import Stoppable, check_limit, grace, limited
from corgi.certify.bounders import Bounders
from corgi.certify.explain import Explanation, explain
from corgi.certify.methods import default_engine, family_engine
from corgi.certify.options import check_alone, check_radius
from corgi.changes.family import Family
from corgi.changes.interface import Change
from corgi.decide.around import Around
from corgi.decide.parts import Fineness, Part, PartsSearch, Point
from corgi.engines.gate import check_engine_on_a_family
from corgi.errors import UsageError
from corgi.network.gate import check_equal_to_onnxruntime
from corgi.network.network import Network
from corgi.network.probes import check_at_probes
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.results import FloatArray, ImageArray, Statement
from corgi.terms import Finding, Norm, Size, Status

_VIEWS = 5
"""Points along one parameter that are drawn."""


@dataclass(frozen=True)
class SweepOptions:
    """What to decide.

    Attributes:
        sizes: how far parameters run, each to be decided; None for the usual one of
            the change.
        k: size of the top set; class_id: class to explain, None for the predicted one.
        k2: of the set's own property, None for k; property: another one.
        time_limit: seconds after which what is left stays open.
        fineness: how small parts become.
        eps: l_inf radius of a ball around each image, all of whose images count; 0 for the change alone.

    Raises:
        UsageError: a size, a radius or a time limit that is none, or k2 beside a property.
    """

    sizes: tuple[float, ...] | None = None
    k: Size = None
    k2: int | None = None
    class_id: int | None = None
    property: Property | None = None
    time_limit: float | None = None
    fineness: Fineness = field(default_factory=Fineness)
    eps: float = 0.0

    def __post_init__(self) -> None:
        check_limit(self.time_limit)
        check_radius("eps", self.eps or None, Norm.LINF)
        for size in self.ascending:
            if not (math.isfinite(size) and size > 0):
                raise UsageError(f"size {size}: expected a finite number > 0", hint="As 0.1, or 10%.")
        if self.sizes is not None and not self.sizes:
            raise UsageError("no size", hint="As 0.1, or several.")
        check_alone(self.k2, self.property)

    @builtins.property
    def ascending(self) -> tuple[float, ...]:
        """The sizes that are named, ascending, each once."""
        return tuple(sorted(set(self.sizes or ())))

    def along(self, change: Change) -> SweepOptions:
        """The same with sizes: the usual one of a change where none is named."""
        return self if self.sizes is not None else replace(self, sizes=(change.usual,))

    @builtins.property
    def asked(self) -> Property:
        """What must stay true of the map."""
        return Topk(self.k2) if self.property is None else self.property


@dataclass(frozen=True)
class View:
    """What a point of the family looks like, to be drawn.

    Attributes:
        parameters: t; finding: what is known of the property there.
        image: float32 [C, H, W]; cam: its map by float64, [h, w].
        witness: whether onnxruntime confirms there that it is broken.
    """

    parameters: Point
    finding: Finding
    image: ImageArray
    cam: FloatArray
    witness: bool = False


@dataclass(frozen=True, repr=False)
class SweepResult:
    """The answer to `corgi sweep`.

    Attributes:
        explanation: the map at the image, and its top set.
        statement: the property.
        change: as it was written; family: the set.
        sizes: each with PROVED, REFUTED (a witness in it) or UNKNOWN, which is open; ascending.
        certified: the property is proved for all parameters with max_j |t_j| up to this; 0 if for none.
        broken: the smallest max_j |t_j| at which it is proved or confirmed to be broken; None if nowhere.
        witness: the nearest image that onnxruntime confirms; None if there is none.
        parts: boxes of parameters that cover the largest size, in order, each with what is known of it.
        views: a few of its points.
        bounded: parts that were bounded on the way.
        status: of the largest size: PROVED, REFUTED, or why it is neither; reason: in words, else empty.
        holds: whether the property holds at the image itself; None if rounding hides it.
        interrupted: Ctrl-C or the time limit ended it early.
        engine: how it was bounded; seconds: wall time.
        eps: l_inf radius of the ball around each image, all of whose images count.
    """

    explanation: Explanation
    statement: Statement
    change: str
    family: Family
    sizes: tuple[tuple[float, Status], ...]
    certified: float
    broken: float | None
    witness: FamilyWitness | None
    parts: tuple[Part, ...]
    views: tuple[View, ...]
    bounded: int
    status: Status
    reason: str
    holds: bool | None
    interrupted: bool
    engine: str
    seconds: float
    eps: float = 0.0

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size}: {status}" for size, status in self.sizes)
        broken = "" if self.broken is None else f", broken at {self.broken}"
        return f"SweepResult({self.change}, {sizes}, certified up to {self.certified}{broken})"

    @property
    def largest(self) -> float:
        """The largest size."""
        return self.sizes[-1][0]

    @property
    def intervals(self) -> tuple[tuple[float, float, Finding], ...]:
        """Of one parameter: intervals in order, no two neighbours of the same kind; of several none."""
        found: list[tuple[float, float, Finding]] = []
        for part in self.parts if self.family.dimensions == 1 else ():
            low, high = part.lower[0], part.upper[0]
            if found and found[-1][2] is part.finding:
                low = found.pop()[0]
            found.append((low, high, part.finding))
        return tuple(found)

    def share(self, finding: Finding) -> float:
        """The share of the box of the largest size, by volume, of which that is known."""
        volumes = dict.fromkeys(Finding, 0.0)
        for part in self.parts:
            sides = (high - low for low, high in zip(part.lower, part.upper, strict=True))
            volumes[part.finding] += math.prod(sides)
        total = sum(volumes.values())
        return volumes[finding] / total if total > 0 else 0.0


@settled()
def sweep(
    network: Network, image: ImageArray, change: Change, options: SweepOptions | None = None
) -> SweepResult:
    """Decide a property of the map of an image [C, H, W] float32 in [0, 1] along a change.

    Ctrl-C and the time limit end the search, not the answer.

    Raises:
        ImageError, UsageError: the image, the change or an option does not fit the network.
        GateError: network or engine differ from onnxruntime, on this image or on changed ones.
        EngineError: the engine cannot bound this network; or a proof and a witness contradict each other.
    """
    options, started = options or SweepOptions(), time.monotonic()
    with limited(None if options.time_limit is None else started + options.time_limit):
        explained = explain(network, image, options.k, options.class_id)
        return sweep_explained(explained, change, options, started=started)


@settled()
def sweep_explained(
    explained: Explanation, change: Change, options: SweepOptions, *, started: float | None = None
) -> SweepResult:
    """The same of a map that was explained before: k and class are those of the explanation.

    `started`: when the time that there is began, by `time.monotonic()`; None for now.
    """
    started = time.monotonic() if started is None else started
    with limited(None if options.time_limit is None else started + options.time_limit):
        family = change.family(torch.from_numpy(explained.image).to(torch.float64))
        return _Sweep(explained, family, str(change), options.along(change), started).run()


class _Sweep:
    """One sweep, step by step."""

    def __init__(
        self, explained: Explanation, family: Family, change: str, options: SweepOptions, started: float
    ) -> None:
        if not options.ascending[-1] < family.limit:
            raise UsageError(
                f"change {change}: size {options.ascending[-1]:g}, expected sizes below {family.limit:g}"
                f" {family.unit}".rstrip(),
                hint=f"Its images are {family.formula}.",
            )
        self.explained, self.family, self.change = explained, family, change
        self.options, self.started = options, started
        self.bounder = family_engine().bind(explained.network, explained.class_id)
        question = explained.question(options.asked)
        self.engines, around = Bounders(), None
        if options.eps:
            balls = self.engines.prepared(default_engine(), explained.network, explained.class_id)
            around = Around(question, balls, options.eps)
        sizes, fineness = options.ascending, options.fineness
        self.search = PartsSearch(question, family, self.bounder, sizes, fineness, around)

    def run(self) -> SweepResult:
        nothing = self.why_nothing()
        if nothing is not None:
            return self.result(Status.UNKNOWN, nothing)
        with Stoppable() as end:
            self.pass_gates()
            self.search.run()
            self.search.nearest()
        ended = self.checked() or end.status
        status, reason = self.search.decided()[-1][1], ""
        if status is Status.UNKNOWN:
            reason = "parts as small as they may become are neither proved nor refuted"
            if ended is not None:
                status, reason = ended, self.why(ended)
        return self.result(status, reason, interrupted=ended is not None)

    def checked(self) -> Status | None:
        """Hold the answer against itself; whether Ctrl-C came meanwhile, which does not spare it this.

        Raises:
            EngineError: it contradicts itself.
        """
        with Stoppable() as end:
            self.search.refuse_contradiction()
        if end.status is not None:
            self.search.refuse_contradiction()
        return end.status

    def why_nothing(self) -> str | None:
        """Why nothing can be decided; None if it can."""
        holds, what = (
            self.explained.holds(self.options.asked),
            self.options.asked.statement(self.explained.top.k),
        )
        if holds is None:
            return f"at the image itself rounding hides whether {what}"
        return self.explained.doubt if holds else f"at the image itself it is not true that {what}"

    def pass_gates(self) -> None:
        """Hold the network against onnxruntime, also where the change leads, and the engine against both.

        Raises:
            GateError: something differs.
            OutOfTime: there was no time for it, so nothing is decided.
        """
        explained, dimensions = self.explained, self.family.dimensions
        noise = np.random.default_rng(0).random(explained.network.input_shape, dtype=np.float32)
        check_at_probes(explained.network, explained.class_id, noise)
        low, high = self.family.box(self.options.ascending[-1])
        share = np.random.default_rng(1).random((2, dimensions))
        inner = np.asarray(low) + share * (np.asarray(high) - np.asarray(low))
        points = torch.tensor([low, high, *inner.tolist()], dtype=torch.float64)
        check_equal_to_onnxruntime(explained.network, self.family.at(points).to(torch.float32).numpy())
        check_engine_on_a_family(explained.network, explained.class_id, self.bounder, self.family, points)
        if self.search.around is not None:
            self.engines.bind(default_engine(), explained.network, explained.class_id)

    @property
    def engine(self) -> str:
        """How parts are bounded."""
        if self.search.around is None:
            return self.bounder.name
        return f"{self.bounder.name}; around images {default_engine().name}"

    def why(self, ended: Status) -> str:
        limit = self.options.time_limit
        late = "time limit reached" if limit is None else f"time limit of {limit:g} s reached"
        return "interrupted" if ended is Status.INTERRUPTED else late

    def shown(self) -> tuple[View, ...]:
        """Views, as many as there is time for when all else is done."""
        found: list[View] = []
        with grace(), Stoppable():
            found.extend(self.views())
        return tuple(found)

    def views(self) -> Iterator[View]:
        """Along one parameter evenly, of several at two corners and 0; and at the witness."""
        low, high = self.family.box(self.options.ascending[-1])
        points: list[Point] = [low, (0.0,) * self.family.dimensions, high]
        if self.family.dimensions == 1:
            points = [(float(t),) for t in np.linspace(low[0], high[0], _VIEWS)]
        if (witness := self.search.witness) is not None:
            at = witness.parameters
            # In place of the point that is nearest to it, but not of the image itself.
            others = [point for point in points if any(point)]
            points[points.index(min(others, key=lambda point: math.dist(point, at)))] = at
        for point in sorted(set(points)):
            image = self.family.at(torch.tensor([point], dtype=torch.float64))[0]
            confirmed = witness is not None and point == witness.parameters
            if witness is not None and confirmed and witness.beside:
                image = torch.from_numpy(witness.witness.image).to(torch.float64)
            cam = self.explained.network.cam(image, self.explained.class_id)
            kinds = {part.finding for part in self.search.parts if part.holds_point(point)}
            finding = kinds.pop() if len(kinds) == 1 else Finding.OPEN
            yield View(point, finding, image.to(torch.float32).numpy(), cam.numpy(), confirmed)

    def result(self, status: Status, reason: str, *, interrupted: bool = False) -> SweepResult:
        search, explained = self.search, self.explained
        return SweepResult(
            explanation=explained,
            statement=self.options.asked.statement(explained.top.k),
            change=self.change,
            family=self.family,
            sizes=search.decided(),
            certified=search.certified,
            broken=search.broken,
            witness=search.witness,
            parts=tuple(search.parts),
            views=self.shown(),
            bounded=search.bounded,
            status=status,
            reason=reason,
            holds=explained.holds(self.options.asked),
            interrupted=interrupted,
            engine=self.engine,
            eps=self.options.eps,
            seconds=time.monotonic() - self.started,
        )
