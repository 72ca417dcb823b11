"""What can be asked of a comparison; imports nothing heavy (`corgi/terms.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from corgi.budget import check_limit
from corgi.errors import UsageError
from corgi.terms import Size


@dataclass(frozen=True)
class CompareOptions:
    """What to compare and how.

    Attributes:
        k: size of the set.
        class_id: class to explain; None means the predicted one.
        region: map pixels, flat indices: also whether the largest pixel stays among them; None for not asked.
        share: of the k pixels, for the weaker claim "at least so many of them stay".
        sigma: standard deviation of the noise, pixel scale.
        samples: noisy images a smoothed map.
        failure: failure probability of each statistical answer.
        time_limit: seconds that all of it may take; None for no limit beyond those around.
        seed: of the noise.
    """

    k: Size = None
    class_id: int | None = None
    region: tuple[int, ...] | None = None
    share: float = 0.8
    sigma: float = 0.1
    samples: int = 2000
    failure: float = 0.05
    time_limit: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"--share {self.share}: expected a share of the k pixels in (0, 1]")
        if self.samples < 1:
            raise UsageError(f"--samples {self.samples}: expected at least 1")
        if not 0 < self.failure < 1:
            raise UsageError(f"--failure {self.failure}: expected a probability in (0, 1)")
        check_limit(self.time_limit)
