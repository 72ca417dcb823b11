"""Sums of a base map over noise, in batches: what every statistical certificate is computed from."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from corgi.budget import Pace, Stoppable, tell
from corgi.errors import EngineError, UsageError
from corgi.results import FloatArray, ImageArray, Sampling
from corgi.smoothing import ladder
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.noise import Noise

ONCE = "all of it at once"
"""How the failure probability of a tally was spent that no other certificate may follow."""

MEMORY = 2**26
"""Bytes that the noisy images evaluated at once may hold: what no cache holds only makes them slower."""

LARGEST_BATCH = 16
"""More images at once save next to nothing."""


@dataclass(frozen=True)
class Tally:
    """Sums over samples 0 to samples - 1 of the noise at one image.

    Attributes:
        map_name, map_shape, binary: of the base map.
        subject: digest of the base map's model and of the image: sums of another are never continued.
        noise: what was added; inputs: values C * H * W of the image.
        batch: how many noisy images are evaluated at once: a map's last digit in float32 may depend on it.
        samples: how many.
        sums, squares: sum of the values and of their squares, float64 [n].
        rung_sums, rung_squares: both as they were at the highest complete rung (`ladder.py`), 0 below the
            first: what certificates of sums that grow are computed from.
        rung: the rung that `samples` are, of `at_rung`; None for sums that are used once.
        spent: what the failure probability of these samples was spent on: ONCE, or how certificates of rungs
            were computed; empty if nothing was certified yet.
    """

    map_name: str
    map_shape: tuple[int, int]
    binary: bool
    subject: str
    noise: Noise
    inputs: int
    batch: int
    samples: int
    sums: FloatArray
    squares: FloatArray
    rung_sums: FloatArray
    rung_squares: FloatArray
    rung: int | None = None
    spent: str = ""

    @property
    def n(self) -> int:
        """Values of one map."""
        return self.sums.size

    @property
    def mean(self) -> FloatArray:
        """The empirical smoothed map, [n]; 0 without samples."""
        return self.sums / max(self.samples, 1)

    @property
    def order(self) -> tuple[int, ...]:
        """Pixels by their empirical value, largest first, the first pixel first among equals."""
        return tuple(int(i) for i in np.argsort(-self.sums, kind="stable"))

    def share(self, failure: float) -> float:
        """The part of a failure probability that intervals of these sums may use.

        All of it for sums that are used once, whose number was chosen without seeing any of them; else that
        of their rung.

        Raises:
            UsageError: not between 0 and 1.
        """
        if not 0 < failure < 1:
            raise UsageError(f"failure probability {failure:g}: expected more than 0 and less than 1")
        return failure if self.rung is None else failure * ladder.share_of(self.rung)

    def at_rung(self) -> Tally:
        """The tally as it was at its highest complete rung; without samples below the first."""
        rung = ladder.rung_of(self.samples)
        samples = 0 if rung is None else ladder.samples_of(rung)
        return replace(self, samples=samples, sums=self.rung_sums, squares=self.rung_squares, rung=rung)

    def sampling(self, confidence: str, correction: str, failure: float) -> Sampling:
        """What a certificate computed from these sums rests on."""
        return Sampling(
            map_name=self.map_name,
            map_shape=self.map_shape,
            noise=self.noise.name,
            sigma=self.noise.sigma,
            seed=self.noise.seed,
            samples=self.samples,
            inputs=self.inputs,
            confidence=confidence,
            correction=correction,
            failure_probability=failure,
            rung=self.rung,
            failure_share=self.share(failure),
        )


def batch_of(base: BaseMap, inputs: int) -> int:
    """How many noisy images of so many values fit into `MEMORY` at once, at least 1.

    A function of map and image size alone: who goes on with samples evaluates them as who began.
    """
    # Noise and sum are drawn in float64 and rounded to float32; the map is computed in float32.
    each = (8 + 4) * inputs + 4 * base.live
    return max(1, min(MEMORY // each, LARGEST_BATCH))


def empty(base: BaseMap, image: ImageArray, noise: Noise, batch: int | None = None) -> Tally:
    """No samples yet of a base map at an image [C, H, W]; `batch` at once, or what memory allows."""
    image = np.ascontiguousarray(image)
    about = f"{base.model} {image.dtype} {image.shape} "
    subject = hashlib.sha256(about.encode() + image.tobytes()).hexdigest()
    zeros = np.zeros(base.n)
    return Tally(
        map_name=base.name,
        map_shape=base.shape,
        binary=base.binary,
        subject=subject,
        noise=noise,
        inputs=image.size,
        batch=batch_of(base, image.size) if batch is None else batch,
        samples=0,
        sums=zeros,
        squares=zeros,
        rung_sums=zeros,
        rung_squares=zeros,
    )


def check_continues(saved: Tally, asked: Tally, where: str) -> None:
    """Refuse saved counts of anything else than what is asked for.

    Args:
        saved: the counts.
        asked: what they shall be of.
        where: the counts are from, for the message.

    Raises:
        UsageError: model, image, map or noise differ; the message says which.
    """
    pairs: dict[str, tuple[object, object]] = {
        "model or image": (saved.subject, asked.subject),
        "map": (saved.map_name, asked.map_name),
        "map size": (saved.map_shape, asked.map_shape),
        "0/1 values": (saved.binary, asked.binary),
        "image size": (saved.inputs, asked.inputs),
        "noise": (saved.noise.name, asked.noise.name),
        "noise shape": (saved.noise.shape, asked.noise.shape),
        "sigma": (saved.noise.sigma, asked.noise.sigma),
        "seed": (saved.noise.seed, asked.noise.seed),
        "batch": (saved.batch, asked.batch),
    }
    for what, (there, here) in pairs.items():
        if there != here:
            shown = "" if what == "model or image" else f" ({there}, not {here})"
            raise UsageError(
                f"{where}: saved counts of another {what}{shown}",
                hint="Begin with no samples, or name another file with --state.",
            )


def sample(
    tally: Tally,
    base: BaseMap,
    image: ImageArray,
    samples: int,
) -> Tally:
    """The tally continued to `samples` samples; shorter where Ctrl-C or time (budget.py) ends it.

    Sample i is always evaluated in batch i // batch, at place i % batch of it, and values are added one
    sample after the other. So each is a function of seed and i, and sums do not depend on where runs end.

    A batch counts whole or not at all. Whether one is begun, and whether it comes to its end, follows from
    the clock and not from values: none is looked at before its batch is added. So how many samples there are
    is as good as chosen beforehand.

    Args:
        tally: where to go on.
        base: the map the tally is of.
        image: [C, H, W], float32, pixel scale.
        samples: how many there shall be in all; fewer than the tally has changes nothing.

    Raises:
        EngineError: the base map breaks its contract (`interface.py`): NaN, values outside [0, 1].
    """
    started, before, pace = time.monotonic(), tally.samples, Pace()
    with Stoppable():  # the batch under way is dropped
        while tally.samples < samples and pace.goes_on():
            begun = tally.samples % tally.batch
            noisy = _noisy(tally, image, tally.samples - begun)
            tally = _added(tally, _checked(base, noisy)[begun:][: samples - tally.samples])
            left = (time.monotonic() - started) / (tally.samples - before) * (samples - tally.samples)
            # Counts and times only: who could see values could stop at lucky ones.
            tell("sampling", f"{tally.samples} of {samples} noisy images, about {left:.0f} s to go")
    return tally


def _noisy(tally: Tally, image: ImageArray, first: int) -> torch.Tensor:
    """The noisy images of one batch: float32 [batch, C, H, W]."""
    drawn = tally.noise.draw(first, tally.batch, image.shape)
    # Added in float64 and rounded once: the smoothed map is that of z -> h(float32(z)).
    drawn += image
    return torch.from_numpy(drawn.astype(np.float32))


def _checked(base: BaseMap, images: torch.Tensor) -> FloatArray:
    """Values [B, n] of a base map, as its contract says.

    Raises:
        EngineError: they are not.
    """
    values = base(images).to(torch.float64).numpy()
    if values.shape != (len(images), base.n):
        raise EngineError(
            f"base map '{base.name}' returned shape {values.shape}, expected {(len(images), base.n)}"
        )
    allowed = (values == 0) | (values == 1) if base.binary else (values >= 0) & (values <= 1)  # never NaN
    if not allowed.all():
        wrong = float(values[~allowed][0])
        expected = "0 or 1" if base.binary else "values in [0, 1]"
        raise EngineError(
            f"base map '{base.name}' returned {wrong} for a noisy image, expected {expected}",
            hint="Nothing is certified from such values; try a smaller --sigma.",
        )
    return values


def _added(tally: Tally, values: FloatArray) -> Tally:
    sums, squares = tally.sums.copy(), tally.squares.copy()
    at_rung = tally.rung_sums, tally.rung_squares
    for samples, row in enumerate(values, tally.samples + 1):
        sums += row
        squares += row * row
        rung = ladder.rung_of(samples)
        if rung is not None and samples == ladder.samples_of(rung):
            at_rung = sums.copy(), squares.copy()
    return replace(
        tally,
        rung=None,
        samples=tally.samples + len(values),
        sums=sums,
        squares=squares,
        rung_sums=at_rung[0],
        rung_squares=at_rung[1],
    )
