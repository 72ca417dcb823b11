"""The training loop: AdamW on a one-cycle schedule, the best epoch by validation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.train.augment import Augmentation

WARM_UP = 0.15
"""Part of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class LabelledImages:
    """Images [N, C, H, W], float32 in [0, 1], and their class ids [N], int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Schedule:
    """How a network is fitted.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: of AdamW.
        label_smoothing: part of each label that is spread over all classes.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch (counted from 1) ended with: mean training loss, validation accuracy."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Fitted:
    """The chosen network, in evaluation mode, and the epoch it is of."""

    network: nn.Module
    epoch: Epoch


def fit(
    network: nn.Module,
    training: LabelledImages,
    validation: LabelledImages,
    schedule: Schedule,
    augmentation: Augmentation,
    generator: torch.Generator,
    progress: Callable[[Epoch], None],
) -> Fitted:
    """Train `network` in place and return it as it was after the best epoch on `validation`.

    The best has the highest accuracy; among equals it is the latest.

    Args:
        network: with batch normalisation; dropout draws from torch's global generator.
        training: images to learn from.
        validation: images of other things, for the choice of the epoch.
        schedule: how to fit.
        augmentation: changes of each batch.
        generator: of order and augmentation.
        progress: called after every epoch.
    """
    # A batch of one image has no statistics to normalise by, so a last batch of one is left out.
    whole, rest = divmod(len(training), schedule.batch_size)
    steps = (whole + (rest > 1)) * schedule.epochs
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=steps, pct_start=WARM_UP
    )
    # Convolutions of few channels run about a third faster in this layout on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    best: Fitted | None = None
    for number in range(1, schedule.epochs + 1):
        network.train()
        total = 0.0
        order = torch.randperm(len(training), generator=generator)[: -1 if rest == 1 else None]
        for batch in torch.split(order, schedule.batch_size):
            images, labels = augmentation.apply(training.images[batch], training.labels[batch], generator)
            logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels, label_smoothing=schedule.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            total += loss.item() * len(batch)
        epoch = Epoch(number, total / len(order), accuracy(network, validation))
        progress(epoch)
        if best is None or epoch.accuracy >= best.epoch.accuracy:
            best = Fitted(copy.deepcopy(network).eval(), epoch)
    assert best is not None
    return best


def accuracy(network: nn.Module, data: LabelledImages, batch: int = 512) -> float:
    """Part of the images whose largest logit is their class's; leaves the network in evaluation mode."""
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(images).argmax(1) for images in torch.split(data.images, batch)])
    return float((guesses == data.labels).double().mean())
