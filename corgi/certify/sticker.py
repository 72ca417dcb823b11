"""A sticker of some size, anywhere in the image: at which places it can break a property of the map.

A sticker at a place is the l_inf ball whose pixels change there alone, as far as asked: the whole range by
default. All places are attacked at once. Then blocks of places are bounded together, as what the stickers of
a block can do is what one large sticker over all of them can; a block that is not proved so is divided, and
what is left at single places is decided exactly.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.ambient import settled
from corgi.attacks.places import PlacesAttack
from corgi.attacks.witness import confirm
from corgi.budget import Stoppable, cancelled, check, check_limit, left, limited, tell
from corgi.certify.bounders import Bounders
from corgi.certify.explain import Explanation, explain
from corgi.certify.methods import default_engine
from corgi.certify.options import check_radius
from corgi.decide.ball import BallDecider, ExactOptions
from corgi.decide.decider import Proved, Undecided
from corgi.decide.margins import score
from corgi.engines.interface import BoundEngine, Bounder
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.results import FloatArray, ImageArray, Status, Witness
from corgi.terms import Size
from corgi.types import Ball, Norm, Where

_AT_ONCE = 128
"""Places attacked together: progress is told between."""

_ATTACK_SHARE = 0.4
"""Share of the time there is that the attack may take."""

_BLOCK = 8
"""Places along a side of the blocks that are bounded first."""

_VAIN = 12
"""Places in a row that exact decisions leave open before they are given up."""


@dataclass(frozen=True)
class StickerOptions:
    """What to decide.

    Attributes:
        size: side of the sticker, in pixels of the network's input; stride: between places.
        eps: how far its pixels may be from those below it, pixel scale; 1 for any sticker.
        k: size of the top set; property: what is asked of the map, None for that of the set.
        class_id: class to explain; None means the predicted one.
        engine: how to bound; exact: how to decide single places, None for bounds alone.
        attack: how to attack.
        time_limit: seconds after which what is left stays open.
        seed: of the attack's random starts.
    """

    size: int = 4
    stride: int = 1
    eps: float = 1.0
    k: Size = None
    property: Property | None = None
    class_id: int | None = None
    engine: BoundEngine = field(default_factory=default_engine)
    exact: ExactOptions | None = field(default_factory=lambda: ExactOptions(seconds=2.0))
    attack: PlacesAttack = field(default_factory=PlacesAttack)
    time_limit: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise UsageError(f"sticker of size {self.size}, stride {self.stride}: expected numbers >= 1")
        check_radius("eps =", self.eps, Norm.LINF)
        check_limit(self.time_limit)


@dataclass(frozen=True)
class StickerMap:
    """What a sticker can do at every place.

    Attributes:
        explanation: the map and its top-k set; asked: what is asked of it.
        options: what was decided.
        rows, columns: first row and first column of the sticker at the places, in pixels of the input.
        statuses: of each place, [rows, columns]: PROVED, no such sticker breaks the property; REFUTED, one
            does, confirmed by onnxruntime; UNKNOWN, which is open.
        margins: least margin of the property that the attack found there, float64 [rows, columns], below 0
            where it is broken; inf where it found no time. Empirical.
        worst: of all witnesses the one that breaks the property by most, None if there is none; worst_place:
            its row and column.
        reason: why nothing could be certified, empty if something could; places may be refuted all the same.
        interrupted: Ctrl-C or the time limit ended it early.
        seconds: wall time.
    """

    explanation: Explanation
    asked: Property
    options: StickerOptions
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    statuses: tuple[tuple[Status, ...], ...]
    margins: FloatArray
    worst: Witness | None
    worst_place: tuple[int, int] | None
    reason: str
    interrupted: bool
    seconds: float

    @property
    def counts(self) -> Counter[Status]:
        """How many places ended how."""
        return Counter(status for row in self.statuses for status in row)

    def __repr__(self) -> str:
        found = ", ".join(f"{count} {status.value}" for status, count in sorted(self.counts.items()))
        return f"StickerMap({self.options.size} x {self.options.size}, eps {self.options.eps}: {found})"


@settled()
def sticker_map(network: Network, image: ImageArray, options: StickerOptions | None = None) -> StickerMap:
    """Decide at every place of an image [C, H, W] float32 in [0, 1] whether a sticker breaks the property.

    Raises:
        ImageError, UsageError: the image or an option does not fit the network.
        GateError: network or engine differ from onnxruntime on this image.
        EngineError: the engine cannot bound this network.
    """
    options = options or StickerOptions()
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    places = _Places(network, image, options)
    with limited(deadline):
        return places.run()


class _Places:
    """State of one computation; a place is (row, column) of the grid."""

    def __init__(self, network: Network, image: ImageArray, options: StickerOptions) -> None:
        self.started, self.options = time.monotonic(), options
        self.explained = explain(network, image, options.k, options.class_id)
        self.asked = options.property or Topk()
        self.question = self.explained.question(self.asked)
        self.shape = network.input_shape
        height, width = self.shape[1:]
        if options.size > min(height, width):
            raise UsageError(f"sticker of size {options.size}: the input has {height} x {width} pixels")
        self.rows = tuple(range(0, height - options.size + 1, options.stride))
        self.columns = tuple(range(0, width - options.size + 1, options.stride))
        shape = len(self.rows), len(self.columns)
        self.proved, self.refuted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        self.margins, self.bounds = np.full(shape, math.inf), np.full(shape, -math.inf)
        self.worst: Witness | None = None
        self.worst_place: tuple[int, int] | None = None

    def run(self) -> StickerMap:
        reason = self.refusal()
        with Stoppable() as end:
            if not reason:
                self.attack()
                reason = self.explained.doubt or ""
            if not reason:
                self.certify()
        held = np.where(self.proved, Status.PROVED, np.where(self.refuted, Status.REFUTED, Status.UNKNOWN))
        return StickerMap(
            self.explained,
            self.asked,
            self.options,
            self.rows,
            self.columns,
            tuple(tuple(Status(status) for status in row) for row in held.tolist()),
            self.margins,
            self.worst,
            self.worst_place,
            reason,
            end.status is not None or cancelled(),
            time.monotonic() - self.started,
        )

    def refusal(self) -> str:
        """Why there is nothing to decide; empty if there is."""
        holds = self.explained.holds(self.asked)
        if holds:
            return ""
        return "the property does not hold at the image itself" if holds is False else "a tie at the image"

    def ball(self, block: NDArray[np.int64]) -> Ball:
        """All that stickers at some places [N, 2] can do: their pixels, all at once."""
        scale, size = torch.zeros(1, *self.shape[1:], dtype=torch.float64), self.options.size
        for row, column in block.tolist():
            top, left_ = self.rows[row], self.columns[column]
            scale[0, top : top + size, left_ : left_ + size] = 1
        return self.explained.ball(Norm.LINF, Where(scale, "below a sticker")).with_radius(self.options.eps)

    def attack(self) -> None:
        """Attack every place."""
        generator = torch.Generator().manual_seed(self.options.seed)
        places = np.argwhere(np.ones_like(self.proved))
        with Stoppable(), limited(time.monotonic() + _ATTACK_SHARE * left()):
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                balls = [self.ball(place[None]) for place in some]
                images, margins = self.options.attack.run(self.question, balls, generator)
                for place, ball, image, margin in zip(some, balls, images, margins.tolist(), strict=True):
                    self.margins[tuple(place)] = margin
                    if margin < 0:
                        self.keep(tuple(place.tolist()), confirm(self.question, ball, image))
                done = min(start + _AT_ONCE, len(places))
                detail = f"{done} of {len(places)} places attacked, {int(self.refuted.sum())} broken"
                tell("sticker", detail)

    def keep(self, place: tuple[int, ...], witness: Witness | None) -> None:
        """Note a witness."""
        if witness is None:
            return
        self.refuted[place] = True
        if self.worst is None or witness.margin > self.worst.margin:
            self.worst, self.worst_place = witness, (self.rows[place[0]], self.columns[place[1]])

    def certify(self) -> None:
        """Bound blocks of places that withstood, then decide those that stay open."""
        bounder = self.bounder()
        for block in self.blocks():
            self.bound(bounder, block)
        self.decide(bounder)

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """Blocks of places [N, 2], row by row."""
        height, width = self.proved.shape
        for top in range(0, height, _BLOCK):
            for left_ in range(0, width, _BLOCK):
                grid = np.mgrid[top : min(top + _BLOCK, height), left_ : min(left_ + _BLOCK, width)]
                yield grid.reshape(2, -1).T

    def bound(self, bounder: Bounder, block: NDArray[np.int64]) -> None:
        """Prove a block of places by bounds, or its quarters."""
        withstood = block[~self.refuted[block[:, 0], block[:, 1]]]
        if len(withstood) == 0:
            return
        check()
        if len(withstood) == len(block) or len(withstood) == 1:
            # With a place of the block refuted the block is no proof.
            at = withstood[:, 0], withstood[:, 1]
            self.bounds[at] = score(self.question, bounder, self.ball(withstood), None, sign_only=True).value
            self.proved[at] = self.bounds[at] > 0  # a NaN is no proof
            self.say()
            if len(withstood) == 1 or bool(self.proved[at].all()):
                return
        middle = (block.min(0) + block.max(0) + 1) // 2
        lower, right = block[:, 0] >= middle[0], block[:, 1] >= middle[1]
        for quarter in (~lower & ~right, ~lower & right, lower & ~right, lower & right):
            self.bound(bounder, block[quarter]) if quarter.any() else None

    def decide(self, bounder: Bounder) -> None:
        """Decide single places that are open, those first whose bounds were nearest to a proof.

        The others are farther from one: where some in a row stay open, so will they.
        """
        exact, vain = self.options.exact, 0
        if exact is None:
            return
        places = np.argwhere(~self.proved & ~self.refuted)
        order = np.argsort(-self.bounds[places[:, 0], places[:, 1]], kind="stable")
        for place in places[order]:
            check()
            vain += 1
            bounder = bounder if bounder.whole else self.bounder()
            decider = BallDecider(self.question, bounder, exact, lambda _: None)
            with Stoppable(), limited(time.monotonic() + exact.seconds):
                found = decider.decide(self.ball(place[None]), last=True)
                vain = vain if isinstance(found, Undecided) else 0
                if isinstance(found, Proved):
                    self.proved[tuple(place)] = True
                elif isinstance(found, Witness):
                    self.keep(tuple(place.tolist()), found)
            self.say()
            if vain == _VAIN:
                return

    def bounder(self) -> Bounder:
        """The engine, which passed its gate."""
        explained = self.explained
        return Bounders().bind(self.options.engine, explained.network, explained.class_id)

    def say(self) -> None:
        """Tell how far it is."""
        proved, refuted = int(self.proved.sum()), int(self.refuted.sum())
        tell("sticker", f"{proved} of {self.proved.size} places proved, {refuted} broken")
