"""What can be asked of a smoothed map; imports nothing heavy (`corgi/terms.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corgi.errors import UsageError
from corgi.terms import Claim, Confidence, Correction, MapForm, MapName, Size

if TYPE_CHECKING:
    from corgi.smoothing.noise import Noise


def order_of(norm: str) -> float:
    """The d of l_d: `l1`, `l2`, `linf`, or any `l4`.

    Raises:
        UsageError: not of that form, or d < 1.
    """
    try:
        order = float(norm.removeprefix("l")) if norm.startswith("l") else math.nan
    except ValueError:
        order = math.nan
    if not order >= 1:
        raise UsageError(f"--norm {norm}: expected linf, l2, l1 or another l with a number >= 1 behind it")
    return order


@dataclass(frozen=True)
class SmoothOptions:
    """What to certify and how.

    Attributes:
        claim: kind of certificate; k: size of the top set.
        map, form, tau, gamma: the map that `corgi.smooth` averages: which, what becomes of its values (None:
            sparsified), the share of values kept (None: k values), the share that becomes 1 (None: 0.01).
            Calls that are given a base map do not read them.
        overlap: wanted overlap of overlap and Renyi certificates; None for the largest that is certified.
        radius: wanted radius, pixel scale; None for the largest (pixel-wise: sigma Phi^-1(0.75)).
        norm: the d of l_d; 2 for all but Renyi certificates.
        sigma: standard deviation of the noise, pixel scale.
        samples: how many noisy images, in all.
        failure: probability that the claim may be wrong.
        confidence: how intervals are found; None for the narrower ones.
        correction: of pixel-wise tests; None for Holm's.
        eta, center: of the scores by rank of Renyi certificates (`RankScores`): how steeply they fall per
            rank, None for 10 / center; and around which rank, None for k.
        as_published: overlap: the index as published, which certifies less. Renyi: no guarantee.
        seed: of the noise; batch: noisy images evaluated at once, None for what memory allows (`batch_of`).
        time_limit: seconds of sampling; then what there is certifies. None for no limit beyond those around.
    """

    claim: Claim = Claim.OVERLAP
    k: Size = None
    map: MapName = MapName.CAM
    form: MapForm | None = None
    tau: float | None = None
    gamma: float | None = None
    overlap: int | None = None
    radius: float | None = None
    norm: float = 2.0
    sigma: float = 0.1
    samples: int = 1000
    failure: float = 0.001
    confidence: Confidence | None = None
    correction: Correction | None = None
    eta: float | None = None
    center: int | None = None
    as_published: bool = False
    seed: int = 0
    batch: int | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for refused, message in self._refusals():
            if refused:
                raise UsageError(message)

    def _refusals(self) -> Iterator[tuple[bool, str]]:
        """What cannot be asked, or would change nothing: whether it is, and the message."""
        claim, form, limit = self.claim, self.form, self.time_limit
        pixels, renyi = claim is Claim.PIXELS, claim is Claim.RENYI
        keeps = not renyi and form in (None, MapForm.SPARSIFIED, MapForm.RELAXED)
        no_overlap = claim in (Claim.RANK, Claim.PIXELS)
        for option, number in (("--samples", self.samples), ("--batch", self.batch)):
            yield number is not None and number < 1, f"{option} {number}: expected at least 1"
        yield limit is not None and not limit >= 0, f"--time-limit {limit}: expected seconds, 0 or more"
        wrong = f"failure probability {self.failure:g}: expected more than 0 and less than 1"
        yield not 0 < self.failure < 1, wrong
        by_rank = "renyi certificates score values by rank, whatever their form"
        yield form is not None and renyi, f"--form {form}: {by_rank}"
        yield self.tau is not None and not keeps, f"--tau {self.tau}: only of sparsified and relaxed maps"
        relaxed = self.gamma is None or form is MapForm.RELAXED
        yield not relaxed, f"--gamma {self.gamma}: only of relaxed maps"
        tested = f"--interval {self.confidence}: pixels are tested, not bounded; see --correction"
        yield self.confidence is not None and pixels, tested
        only = f"--correction {self.correction}: only of pixel-wise certificates"
        yield self.correction is not None and not pixels, only
        in_l_2 = f"--norm: {claim} certificates hold in l_2; other norms: --certificate renyi"
        yield not renyi and self.norm != 2, in_l_2
        scores = "--eta and --center: only of renyi certificates, which score values by rank"
        yield not renyi and not (self.eta is None and self.center is None), scores
        ranks = "--certificate rank: needs --radius, the ranks are certified for it"
        yield claim is Claim.RANK and self.radius is None, ranks
        about = f"--overlap: {claim} certificates are not about an overlap"
        yield no_overlap and self.overlap is not None, about
        published = f"--as-published: there is no other form of {claim} certificates"
        yield no_overlap and self.as_published, published

    def noise(self, inputs: int) -> Noise:
        """The noise for images of `inputs` values: Gaussian, or what theory 7.7 takes for the norm."""
        from corgi.smoothing.divergence import noise_for
        from corgi.smoothing.noise import Noise

        if self.claim is Claim.RENYI:
            return noise_for(self.norm, self.sigma, inputs, self.seed)
        return Noise(self.sigma, seed=self.seed)
