"""The network of Gu et al. as it is trained, and as it is exported.

    image [N, 3, 48, 48] -> conv 8 -> conv 8 -> max pool 2 -> dropout -> conv 16 -> conv 16
    -> global average pool -> dense

All convolutions are 3 x 3 with zero padding 1 and a ReLU behind them. Training puts a batch normalisation
between convolution and ReLU; `fold_batch_norms` takes it out again, so the exported graph is the paper's.
"""

from __future__ import annotations

import torch
from torch import nn

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
        nn.Linear(16, classes),
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def fold_batch_norms(network: nn.Sequential) -> nn.Sequential:
    """The same function in evaluation mode without batch normalisation and dropout.

    With s = gamma / sqrt(variance + epsilon):  bn(w * x + b) = (s w) * x + s (b - mean) + beta.
    Computed in float64 and rounded once.
    """
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            previous = layers.pop()
            if not isinstance(previous, nn.Conv2d):
                raise TypeError(f"batch normalisation behind {type(previous).__name__}, expected Conv2d")
            layers.append(_folded(previous, layer))
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    if norm.running_mean is None or norm.running_var is None or conv.bias is None:
        raise TypeError("expected a convolution with bias and a normalisation with running statistics")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, (3, 3), padding=1)
    with torch.no_grad():
        folded.weight.copy_(conv.weight.double() * scale[:, None, None, None])
        folded.bias.copy_((conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double())  # type: ignore[union-attr]
    return folded
