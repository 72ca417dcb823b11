"""The training loop: AdamW on a one-cycle schedule, averaged weights, the best epoch by validation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
        averaging: decay per step of the exponential average of weights and statistics.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch (counted from 1) ended with: mean training loss, validation accuracy of the average."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Fitted:
    """The chosen network, in evaluation mode, and the epoch it is of."""

    network: nn.Sequential
    epoch: Epoch


def fit(
    network: nn.Sequential,
    training: LabelledImages,
    validation: LabelledImages,
    schedule: Schedule,
    augmentation: Augmentation,
    generator: torch.Generator,
    progress: Callable[[Epoch], None],
) -> Fitted:
    """Train `network` in place; of its averages after each epoch, return the best on `validation`.

    The best has the highest accuracy; among equals it is the latest.

    Args:
        network: with batch normalisation; dropout draws from torch's global generator.
        training: images to learn from.
        validation: images of other physical signs, for the choice of the epoch.
        schedule: how to fit.
        augmentation: changes of each batch.
        generator: of order and augmentation.
        progress: called after every epoch.
    """
    steps = -(-len(training) // schedule.batch_size) * schedule.epochs
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=steps, pct_start=WARM_UP
    )
    average = AveragedModel(
        network,
        multi_avg_fn=get_ema_multi_avg_fn(schedule.averaging),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    # Convolutions of few channels run about a third faster in this layout on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    best: Fitted | None = None
    for number in range(1, schedule.epochs + 1):
        network.train()
        total = 0.0
        order = torch.randperm(len(training), generator=generator)
        for batch in torch.split(order, schedule.batch_size):
            images, labels = augmentation.apply(training.images[batch], training.labels[batch], generator)
            loss = F.cross_entropy(network(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            average.update_parameters(network)
            total += loss.item() * len(batch)
        epoch = Epoch(number, total / len(training), accuracy(average.module, validation))
        progress(epoch)
        if best is None or epoch.accuracy >= best.epoch.accuracy:
            best = Fitted(_copy(network, average.module), epoch)
    assert best is not None
    return best


def _copy(network: nn.Sequential, weights: nn.Module) -> nn.Sequential:
    """A new network of the same layers with these weights, in evaluation mode."""
    copied = copy.deepcopy(network)
    copied.load_state_dict(weights.state_dict())
    return copied.eval()


def accuracy(network: nn.Module, data: LabelledImages, batch: int = 512) -> float:
    """Part of the images whose largest logit is their class's; leaves the network in evaluation mode."""
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(images).argmax(1) for images in torch.split(data.images, batch)])
    return float((guesses == data.labels).double().mean())
