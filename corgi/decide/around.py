"""Lower bounds of a property's margin on small balls around all images of a part of a family.

The set of a part is every image z in [0, 1] with |z_i - y_i| <= eps for an image y of the family whose
parameters are in it. Each pixel of y lies in an interval, so z lies in an l_inf ball around the middles of
these intervals in which every pixel has a share of the radius of its own: half its interval, and eps. That
ball forgets that pixels move together, which costs less the smaller the part is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.budget import check
from corgi.decide.margins import Question, score
from corgi.engines.interface import Bounder
from corgi.types import Ball, Interval, Where

_UP = torch.tensor(torch.inf, dtype=torch.float64)

FINEST = 0.25
"""A part whose intervals add less than this share of eps to the ball is not split: halves gain little."""


@dataclass(frozen=True)
class Around:
    """Small balls around images, and how they are bounded.

    Attributes:
        question: the property; bounder: bounds of balls.
        eps: l_inf radius around each image, > 0.
    """

    question: Question
    bounder: Bounder
    eps: float

    def lower(self, images: Interval, known: Tensor) -> Tensor:
        """Lower bounds of the margin on N parts, float64 [N]; -inf where nothing was bounded.

        Args:
            images: bounds of the family's pixels over each, [N, C, H, W].
            known: lower bounds for the family itself: what they do not prove is not bounded.
        """
        found = torch.full_like(known, -torch.inf)
        for part in (known > 0).nonzero().reshape(-1).tolist():
            check()
            ball = ball_around(Interval(images.lower[part], images.upper[part]), self.eps)
            value = score(self.question, self.bounder, ball, sign_only=True).value
            found[part] = value if value < torch.inf else -torch.inf  # NaN and +inf say nothing
        return found

    def divisible(self, images: Interval) -> bool:
        """Whether halves of a part, of one or several, may be worth their work."""
        return not float((images.upper - images.lower).max()) / 2 <= FINEST * self.eps


def ball_around(images: Interval, eps: float) -> Ball:
    """A ball that holds every image in [0, 1] within eps of one between two, [C, H, W], in l_inf.

    Where nothing is known of a pixel it is between 0 and 1, as all are.
    """
    lower = images.lower.nan_to_num(nan=0.0).clamp(0, 1)
    upper = torch.maximum(images.upper.nan_to_num(nan=1.0).clamp(0, 1), lower)
    centre = ((lower + upper) / 2).clamp(0, 1)
    # A difference and a sum are off by half a unit each, which one step up is more than.
    reach = torch.maximum(upper - centre, centre - lower).nextafter(_UP)
    reach = (reach + eps).nextafter(_UP)
    radius = float(reach.max())
    # So is a quotient; and the share of what reaches as far as the radius is 1.
    shares = (reach / radius).nextafter(_UP).clamp(max=1)
    return Ball(centre, radius, where=Where(shares, "a part of the family"))
