"""Modern architectures with a class activation map, in the sizes that pictures of 32 x 32 pixels ask for.

    resnet18        stem -> 4 stages of 2 basic blocks -> global average pool -> dense
    mobilenet       stem -> depthwise separable convolutions -> global average pool -> dense
    squeezenet      stem -> fire modules -> 1 x 1 convolution, one channel a class -> global average pool

All take [N, 3, 32, 32] in [0, 1], normalise it themselves, and have a batch normalisation behind every
convolution but the classifier, which the export folds in. ReLU is the only activation.

He et al., "Deep residual learning", CVPR 2016; Howard et al., "MobileNets", arXiv 1704.04861 (2017);
Iandola et al., "SqueezeNet", arXiv 1602.07360 (2016); Zhou et al., "Learning deep features for
discriminative localization", CVPR 2016, for the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

INPUT_SHAPE = (3, 32, 32)
"""C, H, W of the network input; pixels in [0, 1]."""


class Normalise(nn.Module):
    """x -> (x - mean) / std, channel by channel.

    It stays a layer of its own: a shift cannot move into a convolution that pads with zeros.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return (x - self.mean) / self.std


class BasicBlock(nn.Module):
    """x -> relu(body(x) + shortcut(x)), the shortcut a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs, 3, stride), *_convolution(outputs, outputs, 3)[:-1]
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential(*([] if same else _convolution(inputs, outputs, 1, stride)[:-1]))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        result: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return result


class Fire(nn.Module):
    """x -> concat(expand1(squeeze(x)), expand3(squeeze(x))): few channels between many."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(*_convolution(inputs, squeezed, 1))
        self.expand1 = nn.Sequential(*_convolution(squeezed, outputs // 2, 1))
        self.expand3 = nn.Sequential(*_convolution(squeezed, outputs // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W]."""
        squeezed = self.squeeze(x)
        return torch.cat([self.expand1(squeezed), self.expand3(squeezed)], 1)


def resnet18(classes: int, normalise: nn.Module, strides: tuple[int, int, int, int]) -> nn.Sequential:
    """ResNet-18 for small pictures: 3 x 3 stem without pooling, stages of 16, 32, 64, 128 channels.

    Args:
        classes: number of logits.
        normalise: the first layer.
        strides: of the first block of each stage; (1, 2, 2, 2) ends in a 4 x 4 map, (1, 2, 2, 1) in 8 x 8.
    """
    blocks, inputs = [], 16
    for outputs, stride in zip((16, 32, 64, 128), strides, strict=True):
        blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(normalise, *_convolution(3, 16, 3), *blocks, *_dense_head(inputs, classes))


def mobilenet(classes: int, normalise: nn.Module) -> nn.Sequential:
    """MobileNet for small pictures: six depthwise separable convolutions up to 256 channels, 8 x 8 map."""
    layers, inputs = _convolution(3, 32, 3), 32
    for outputs, stride in ((64, 2), (128, 1), (128, 2), (256, 1), (256, 1), (256, 1)):
        layers += _convolution(inputs, inputs, 3, stride, groups=inputs) + _convolution(inputs, outputs, 1)
        inputs = outputs
    return nn.Sequential(normalise, *layers, *_dense_head(inputs, classes))


def squeezenet(classes: int, normalise: nn.Module) -> nn.Sequential:
    """SqueezeNet for small pictures: six fire modules, 8 x 8 map; its class maps are the last features."""
    return nn.Sequential(
        normalise,
        *_convolution(3, 32, 3),
        nn.MaxPool2d(2),
        Fire(32, 16, 64),
        Fire(64, 16, 64),
        nn.MaxPool2d(2),
        Fire(64, 32, 128),
        Fire(128, 32, 128),
        Fire(128, 48, 192),
        Fire(192, 48, 192),
        nn.Conv2d(192, classes, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        build: (classes, first layer) -> the network, initialised from torch's global generator.
        description: what it is, for the model card.
    """

    build: Callable[[int, nn.Module], nn.Sequential]
    description: str


BUILDERS: Mapping[str, Architecture] = MappingProxyType(
    {
        "resnet18": Architecture(
            partial(resnet18, strides=(1, 2, 2, 2)), "a ResNet-18 of 16 to 128 channels, map 4 x 4"
        ),
        "resnet18-8x8": Architecture(
            partial(resnet18, strides=(1, 2, 2, 1)), "a ResNet-18 of 16 to 128 channels, map 8 x 8"
        ),
        "mobilenet": Architecture(
            mobilenet, "a MobileNet (depthwise separable convolutions) of 32 to 256 channels, map 8 x 8"
        ),
        "squeezenet": Architecture(
            squeezenet, "a SqueezeNet of six fire modules with a convolution as classifier, map 8 x 8"
        ),
    }
)
"""The architectures by the name that `corgi train cifar10 --architecture` takes."""


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size but for the stride, batch normalisation, ReLU."""
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _dense_head(filters: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, classes)]
