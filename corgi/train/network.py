"""The network of Gu et al. as it is trained, and as it is exported.

    image [N, 3, 48, 48] -> conv 8 -> conv 8 -> max pool 2 -> dropout -> conv 16 -> conv 16
    -> global average pool -> dense

All convolutions are 3 x 3 with zero padding 1 and a ReLU behind them. Training puts a batch normalisation
between convolution and ReLU and one in front of the dense layer; `fold_batch_norms` takes them out again,
so the exported graph is the paper's. The last one matters most: averages over 576 pixels hardly differ
between images, and without it the dense layer learns several times more slowly.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

INPUT_SHAPE = (3, 48, 48)
"""C, H, W of the network input; pixels in [0, 1]."""


def gu2020_network(classes: int, dropout: float) -> nn.Sequential:
    """The network with batch normalisation, freshly initialised from torch's global generator.

    Args:
        classes: number of logits.
        dropout: probability behind the max pool.
    """
    return nn.Sequential(
        *_block(INPUT_SHAPE[0], 8),
        *_block(8, 8),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
        *_block(8, 16),
        *_block(16, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(16),
        nn.Linear(16, classes),
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def fold_batch_norms(network: nn.Sequential) -> nn.Sequential:
    """The same function in evaluation mode without batch normalisation and dropout.

    With s = gamma / sqrt(variance + epsilon) and t = beta - s mean, a normalisation is x -> s x + t:

    Case 1: behind a convolution.    s (w * x + b) + t = (s w) * x + (s b + t)
    Case 2: before a dense layer.    W (s x + t) + b = (W s) x + (W t + b)

    Computed in float64 and rounded once.

    Raises:
        TypeError: a normalisation stands elsewhere.
    """
    layers: list[nn.Module] = []
    pending: nn.BatchNorm1d | None = None
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            previous = layers.pop()
            if not isinstance(previous, nn.Conv2d):
                raise TypeError(f"batch normalisation behind {type(previous).__name__}, expected Conv2d")
            layers.append(_into_convolution(previous, layer))
        elif isinstance(layer, nn.BatchNorm1d):
            pending = layer
        elif pending is not None:
            if not isinstance(layer, nn.Linear):
                raise TypeError(f"batch normalisation before {type(layer).__name__}, expected Linear")
            layers.append(_into_dense(pending, layer))
            pending = None
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor s and offset t of a normalisation with running statistics, float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("expected a batch normalisation with running statistics")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - scale * norm.running_mean.double()


def _into_convolution(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    scale, shift = _scale_and_shift(norm)
    folded = copy.deepcopy(conv)
    with torch.no_grad():
        folded.weight.copy_(conv.weight.double() * scale[:, None, None, None])
        if conv.bias is None or folded.bias is None:
            raise TypeError("expected a convolution with bias")
        folded.bias.copy_(scale * conv.bias.double() + shift)
    return folded


def _into_dense(norm: nn.BatchNorm1d, dense: nn.Linear) -> nn.Linear:
    scale, shift = _scale_and_shift(norm)
    folded = copy.deepcopy(dense)
    with torch.no_grad():
        folded.weight.copy_(dense.weight.double() * scale)
        folded.bias.copy_(dense.weight.double() @ shift + dense.bias.double())
    return folded
