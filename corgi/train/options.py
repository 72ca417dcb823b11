"""What can be asked of a training; imports nothing heavy (`corgi/terms.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from corgi.errors import UsageError

ARCHITECTURES = ("resnet18", "resnet18-8x8", "mobilenet", "squeezenet")
"""Names of `corgi.train.architectures.BUILDERS`."""

SIDE = 32
"""Height and width of the pictures of CIFAR-10."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of every training; a task adds its own and sets the defaults.

    Attributes:
        epochs: passes over the training images.
        seed: of split, initial weights, order, augmentation and dropout.
        validation: part of each class's tracks held out to choose the epoch.
        batch_size, learning_rate, weight_decay, label_smoothing: see `corgi.train.fit.Schedule`.
        threads: torch threads.
        workers: processes that pre-process pictures; 1 stays in this process.

    Raises:
        UsageError: a value outside its range.
    """

    epochs: int
    seed: int = 0
    validation: float = 0.05
    batch_size: int = 64
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0
    threads: int = 1
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("threads", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {self.seed}, expected 0 .. 2^63 - 1")
        self.check_parts("weight_decay", "label_smoothing")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"learning_rate is {self.learning_rate}, expected a positive number")
        if not 0 < self.validation < 1:
            raise UsageError(f"validation is {self.validation}, expected a number between 0 and 1")

    def check_parts(self, *names: str) -> None:
        """Refuse values outside [0, 1).

        Raises:
            UsageError: one of the named options is.
        """
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class GtsrbOptions(TrainOptions):
    """Options of `train_gtsrb`; the defaults made `models/gtsrb.onnx`.

    Attributes:
        dropout: probability behind the max pool.
        warp, stretch, saturation, contrast, tint: see `corgi.train.augment.Augmentation`.
    """

    epochs: int = 100
    learning_rate: float = 0.02
    weight_decay: float = 1e-3
    dropout: float = 0.05
    warp: float = 0.13
    stretch: float = 0.6
    saturation: float = 0.6
    contrast: float = 0.15
    tint: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_parts("dropout", "warp", "stretch", "saturation", "contrast", "tint")


@dataclass(frozen=True, kw_only=True)
class Cifar10Options(TrainOptions):
    """Options of `train_cifar10`; the defaults made `models/cifar10_*.onnx`.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        crop: see `corgi.train.augment.Augmentation`.
    """

    architecture: str = "resnet18"
    epochs: int = 60
    learning_rate: float = 0.003
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    crop: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in ARCHITECTURES:
            raise UsageError(
                f"architecture {self.architecture!r} is not known",
                hint=f"Expected one of: {', '.join(ARCHITECTURES)}.",
            )
        if not 0 <= self.crop < SIDE:
            raise UsageError(f"crop is {self.crop}, expected 0 .. {SIDE - 1} pixels")
