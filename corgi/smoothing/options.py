"""What can be asked of a smoothed map; imports nothing heavy (`corgi/terms.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corgi.errors import UsageError
from corgi.terms import Claim, Confidence, Correction

if TYPE_CHECKING:
    from corgi.smoothing.noise import Noise


@dataclass(frozen=True)
class SmoothOptions:
    """What to certify and how.

    Attributes:
        claim: kind of certificate; k: size of the top set.
        overlap: wanted overlap of overlap and Renyi certificates; None for the largest that is certified.
        radius: wanted radius, pixel scale; None for the largest (pixel-wise: sigma Phi^-1(0.75)).
        norm: the d of l_d; 2 for all but Renyi certificates.
        sigma: standard deviation of the noise, pixel scale.
        samples: how many noisy images, in all.
        failure: probability that the claim may be wrong.
        confidence: how intervals are found; None for the narrower ones.
        correction: of pixel-wise tests.
        eta, center: of the scores by rank of Renyi certificates (`RankScores`): how steeply they fall per
            rank, None for 10 / center; and around which rank, None for k.
        as_published: overlap: the index as published, which certifies less. Renyi: no guarantee.
        seed: of the noise; batch: noisy images evaluated at once, None for what memory allows (`batch_of`).
        time_limit: seconds of sampling; then what there is certifies. None for no limit beyond those around.
    """

    claim: Claim = Claim.OVERLAP
    k: int = 15
    overlap: int | None = None
    radius: float | None = None
    norm: float = 2.0
    sigma: float = 0.1
    samples: int = 1000
    failure: float = 0.001
    confidence: Confidence | None = None
    correction: Correction = Correction.HOLM
    eta: float | None = None
    center: int | None = None
    as_published: bool = False
    seed: int = 0
    batch: int | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for option, number in (("--samples", self.samples), ("--batch", self.batch)):
            if number is not None and number < 1:
                raise UsageError(f"{option} {number}: expected at least 1")
        if self.time_limit is not None and not self.time_limit >= 0:
            raise UsageError(f"--time-limit {self.time_limit:g}: expected seconds, 0 or more")
        if not 0 < self.failure < 1:
            raise UsageError(f"failure probability {self.failure:g}: expected more than 0 and less than 1")
        if self.claim is not Claim.RENYI and self.norm != 2:
            raise UsageError(
                f"--norm: {self.claim} certificates hold in l_2", hint="Use --certificate renyi."
            )
        if self.claim is not Claim.RENYI and not (self.eta is None and self.center is None):
            raise UsageError("--eta and --center: only of renyi certificates, which score values by rank")
        if self.claim is Claim.RANK and self.radius is None:
            raise UsageError("--certificate rank: needs --radius, the ranks are certified for it")
        if self.claim in (Claim.RANK, Claim.PIXELS) and self.overlap is not None:
            raise UsageError(f"--overlap: {self.claim} certificates are not about an overlap")
        if self.claim in (Claim.RANK, Claim.PIXELS) and self.as_published:
            raise UsageError(f"--as-published: there is no other form of {self.claim} certificates")

    def noise(self, inputs: int) -> Noise:
        """The noise for images of `inputs` values: Gaussian, or what theory 7.7 takes for the norm."""
        from corgi.smoothing.divergence import noise_for
        from corgi.smoothing.noise import Noise

        if self.claim is Claim.RENYI:
            return noise_for(self.norm, self.sigma, inputs, self.seed)
        return Noise(self.sigma, seed=self.seed)
