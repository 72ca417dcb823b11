"""What every attack offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.budget import tell
from corgi.types import Ball


@dataclass(frozen=True)
class Attempt:
    """What an attack brings home from one ball.

    Attributes:
        image: its best image [C, H, W] float32, inside the ball.
        margin: decision margin of that image by our own float32 arithmetic; < 0 suggests a witness.
        gradients: gradient evaluations spent.
    """

    image: Tensor
    margin: float
    gradients: int


def tell_step(step: int, steps: int, seconds: float) -> None:
    """Tell that so many of at most so many steps took so long."""
    to_go = seconds / step * (steps - step)
    tell("attack", f"step {step} of at most {steps}, about {to_go:.0f} s to go")


class Attack(Protocol):
    """A way to look for a witness in one ball: a frozen value whose fields are its options."""

    @property
    def name(self) -> str:
        """Name, for results."""

    def run(
        self,
        target: Target,
        ball: Ball,
        starts: Tensor,
        generator: torch.Generator,
    ) -> Attempt:
        """Attack one ball. `starts` are images [S, C, H, W] worth starting from (S may be 0).

        Every gradient step is told, and how long the others may take.
        """
