"""What every attack offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.progress import Listener, Progress, silent
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


def step_taken(step: int, steps: int, seconds: float) -> Progress:
    """What a listener is told after so many of at most so many steps, which took so long."""
    to_go = seconds / step * (steps - step)
    return Progress("attack", f"step {step} of at most {steps}, about {to_go:.0f} s to go")


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
        listener: Listener = silent,
    ) -> Attempt:
        """Attack one ball. `starts` are images [S, C, H, W] worth starting from (S may be 0).

        The listener is told of every gradient step, and how long the others may take.
        """
