"""The network of Gu et al. as it is trained.

    image [N, 3, 48, 48] -> conv 8 -> conv 8 -> max pool 2 -> dropout -> conv 16 -> conv 16
    -> global average pool -> dense

All convolutions are 3 x 3 with zero padding 1 and a ReLU behind them. Training puts a batch normalisation
between convolution and ReLU and one in front of the dense layer; the export folds them in, so its graph is
the paper's. The last one matters most: averages over 576 pixels hardly differ between images, and without it
the dense layer learns several times more slowly.
"""

from __future__ import annotations

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
        nn.BatchNorm1d(16),
        nn.Linear(16, classes),
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
