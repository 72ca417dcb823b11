"""The small networks PyTorch exports: a trunk that ends in 4 feature maps, and a head over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 4
CLASSES = 3


class Apply(nn.Module):
    """A function as a layer; the function may call the layers given beside it."""

    def __init__(self, function: Callable[..., Tensor | tuple[Tensor, Tensor]], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.function(x, *self.parts)


def conv(inputs: int, outputs: int, kernel: int = 3, **settings: int | str) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **settings})


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel, bias=False, **settings), nn.BatchNorm2d(outputs))


# --- trunks: number of input channels -> [N, WIDTH, h, w] ---


def plain(channels: int) -> nn.Module:
    return nn.Sequential(conv(channels, 3), nn.ReLU(), nn.MaxPool2d(2), conv(3, WIDTH), nn.ReLU(inplace=True))


def residual(channels: int) -> nn.Module:
    def block(x: Tensor, branch: nn.Module, shortcut: nn.Module) -> Tensor:
        return F.relu(branch(x) + shortcut(x))

    def branch(inputs: int, stride: int) -> nn.Module:
        return nn.Sequential(
            conv_bn(inputs, WIDTH, stride=stride), nn.ReLU(inplace=True), conv_bn(WIDTH, WIDTH)
        )

    stem = nn.Sequential(conv_bn(channels, 3), nn.ReLU(inplace=True))
    down = Apply(block, branch(3, 2), conv_bn(3, WIDTH, 1, stride=2))
    return nn.Sequential(stem, down, Apply(block, branch(WIDTH, 1), nn.Identity()))


def dense(channels: int) -> nn.Module:
    """DenseNet: BN -> ReLU -> conv, joined to its input; a transition of 1x1 conv and AvgPool; a last BN."""

    def grow(inputs: int) -> nn.Module:
        layers = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, 2, bias=False))
        return Apply(lambda x, f: torch.cat([x, f(x)], 1), layers)

    transition = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2, 1, bias=False), nn.AvgPool2d(2))
    return nn.Sequential(conv(channels, 2), grow(2), transition, grow(2), nn.BatchNorm2d(4), nn.ReLU())


def depthwise(channels: int) -> nn.Module:
    """MobileNetV2: expand, depthwise with stride, project without activation; ReLU6."""
    return nn.Sequential(
        *(conv_bn(channels, 4, 1), nn.ReLU6()),
        *(conv_bn(4, 4, groups=4, stride=2), nn.ReLU6(), conv_bn(4, 3, 1)),
        *(conv_bn(3, WIDTH, 1), nn.ReLU6()),
    )


def dilated(channels: int) -> nn.Module:
    return nn.Sequential(
        conv(channels, 3, dilation=2, padding=2), nn.ReLU(), conv(3, WIDTH, dilation=3, padding=3), nn.ReLU()
    )


def same_dilated(channels: int) -> nn.Module:
    """Dilation with padding="same": PyTorch writes auto_pad, which onnxruntime does not run."""
    return nn.Sequential(conv(channels, WIDTH, padding="same", dilation=2), nn.ReLU())


def wide(channels: int) -> nn.Module:
    """16 channels, enough for the blocked layout of onnxruntime's optimiser; padding="same" is auto_pad."""
    return nn.Sequential(
        conv(channels, 16, padding="same"), nn.ReLU(), conv(16, WIDTH, padding="same"), nn.ReLU()
    )


def grouped(channels: int) -> nn.Module:
    return nn.Sequential(
        conv(channels, 4),
        nn.ReLU(),
        conv(4, 4, groups=2, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, WIDTH, (1, 3)),
        nn.ReLU(),
    )


def shuffled(channels: int) -> nn.Module:
    """ShuffleNetV2: split the channels, treat one half, join, shuffle."""

    def unit(x: Tensor, branch: nn.Module) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, branch(right)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    branch = nn.Sequential(conv_bn(2, 2), nn.ReLU())
    return nn.Sequential(conv_bn(channels, 4, stride=2), nn.ReLU(), Apply(unit, branch), nn.ReLU())


def padded(channels: int) -> nn.Module:
    """Asymmetric padding, as TensorFlow's "same" is written in PyTorch; the last pad holds a value."""
    return nn.Sequential(
        Apply(lambda x, f: f(F.pad(x, (0, 1, 0, 1))), conv(channels, 3, stride=2, padding=0)),
        nn.ReLU(),
        nn.ConstantPad2d((1, 0, 2, 1), 0.25),
        conv(3, WIDTH, padding=0),
        nn.ReLU(),
    )


def reflected(channels: int) -> nn.Module:
    return nn.Sequential(
        conv(channels, 3, padding_mode="reflect"), nn.ReLU(), conv(3, WIDTH, padding_mode="replicate")
    )


def ceil_pools(channels: int) -> nn.Module:
    return nn.Sequential(
        *(conv(channels, 3), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(conv(3, WIDTH), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True)),
    )


def average_pools(channels: int) -> nn.Module:
    """AvgPool2d with padding, both ways to count it."""
    return nn.Sequential(
        *(conv(channels, 3), nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), nn.ReLU()),
        *(conv(3, WIDTH), nn.AvgPool2d(3, 1, padding=1, count_include_pad=True), nn.ReLU()),
    )


def ceil_average_padded(channels: int) -> nn.Module:
    """AvgPool2d with ceil_mode and counted padding: the last window reaches past what counts."""
    pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=True)
    return nn.Sequential(conv(channels, WIDTH), nn.ReLU(), pool)


def activated(*activations: nn.Module) -> Callable[[int], nn.Module]:
    """A trunk with one convolution before each of the activations."""

    def trunk(channels: int) -> nn.Module:
        widths = [channels, *[3] * (len(activations) - 1), WIDTH]
        pairs = [(conv(a, b), act) for a, b, act in zip(widths, widths[1:], activations, strict=False)]
        return nn.Sequential(*(layer for pair in pairs for layer in pair))

    return trunk


def squeeze_excite(channels: int) -> nn.Module:
    gate = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), conv(WIDTH, 2, 1), nn.ReLU(), conv(2, WIDTH, 1), nn.Sigmoid()
    )
    return nn.Sequential(
        conv(channels, WIDTH, stride=2), nn.ReLU(), Apply(lambda x, g: x * g(x), gate), nn.ReLU()
    )


def normalised(channels: int) -> nn.Module:
    """(x - mean) / std inside the network."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def normalise(x: Tensor) -> Tensor:
        return (x - mean[:channels, None, None]) / std[:channels, None, None]

    return nn.Sequential(Apply(normalise), plain(channels))


def from_bytes(channels: int) -> nn.Module:
    """A network that takes the picture's bytes."""
    return nn.Sequential(Apply(lambda x: x.float() / 255), plain(channels))


def group_norm(channels: int) -> nn.Module:
    return nn.Sequential(
        *(conv(channels, 4, stride=2), nn.GroupNorm(2, 4), nn.ReLU()),
        *(conv(4, WIDTH), nn.InstanceNorm2d(WIDTH, affine=True), nn.ReLU()),
    )


def convnext(channels: int) -> nn.Module:
    """ConvNeXt: patches, depthwise conv, LayerNorm and a GELU MLP over channels behind a permute."""

    def block(x: Tensor, spatial: nn.Module, channelwise: nn.Module) -> Tensor:
        return x + 0.7 * channelwise(spatial(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 6), nn.GELU(), nn.Linear(6, WIDTH))
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 2, 2), Apply(block, conv(WIDTH, WIDTH, groups=WIDTH), mlp)
    )


def upsampled(channels: int) -> nn.Module:
    """A map read at two scales, the coarse one enlarged by repetition."""

    def join(x: Tensor, fine: nn.Module, coarse: nn.Module) -> Tensor:
        return F.relu(fine(x) + F.interpolate(coarse(x), scale_factor=2, mode="nearest"))

    return nn.Sequential(conv(channels, 3), nn.ReLU(), Apply(join, conv(3, WIDTH), conv(3, WIDTH, stride=2)))


# --- heads: [N, WIDTH, h, w] -> [N, CLASSES] ---


def gap() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def linear(bias: bool = True) -> nn.Linear:
    return nn.Linear(WIDTH, CLASSES, bias=bias)


def gap_linear() -> nn.Module:
    return nn.Sequential(gap(), linear())


def gap_nobias() -> nn.Module:
    return nn.Sequential(gap(), linear(bias=False))


def gap_softmax() -> nn.Module:
    return nn.Sequential(gap(), linear(), nn.Softmax(1))


def gap_logsoftmax() -> nn.Module:
    return nn.Sequential(gap(), linear(), nn.LogSoftmax(1))


def mean_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(x.mean([2, 3])), linear())


def means_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(x.mean(3).mean(2)), linear())


def flatmean_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(x.flatten(2).mean(2)), linear())


def viewmean_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(x.view(x.size(0), x.size(1), -1).mean(-1)), linear())


def sum_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(x.sum([2, 3])), linear())


def avgpool_linear(size: tuple[int, int]) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(size), nn.Flatten(), linear())


def fullpool_linear() -> nn.Module:
    """F.avg_pool2d over the size it finds, as research code has it."""
    return Apply(lambda x, dense: dense(F.avg_pool2d(x, x.shape[2:]).view(x.size(0), -1)), linear())


def view_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)), linear())


def squeezed_linear() -> nn.Module:
    return Apply(lambda x, dense: dense(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1)), linear())


def conv_gap() -> nn.Module:
    return nn.Sequential(conv(WIDTH, CLASSES, 1), gap())


def conv_relu_gap() -> nn.Module:
    """SqueezeNet: the class maps pass a ReLU before they are pooled."""
    return nn.Sequential(nn.Dropout(), conv(WIDTH, CLASSES, 1), nn.ReLU(inplace=True), gap())


def gap_conv() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(WIDTH, CLASSES, 1), nn.Flatten())


def gap_bn_linear() -> nn.Module:
    return nn.Sequential(gap(), nn.BatchNorm1d(WIDTH), linear())


def gap_dropout_linear() -> nn.Module:
    return nn.Sequential(gap(), nn.Dropout(0.3), linear())


def gap_twolinear() -> nn.Module:
    """Two dense layers with nothing between them are one."""
    return nn.Sequential(gap(), nn.Linear(WIDTH, 5), linear_from(5))


def linear_from(inputs: int) -> nn.Linear:
    return nn.Linear(inputs, CLASSES)


def gap_sigmoid() -> nn.Module:
    return nn.Sequential(gap(), linear(), nn.Sigmoid())


def gap_temperature_softmax() -> nn.Module:
    """Scores divided by a temperature before softmax, as calibration leaves them."""
    return nn.Sequential(gap(), linear(), Apply(lambda x: x / 0.7), nn.Softmax(1))


def conv_bn_gap() -> nn.Module:
    return nn.Sequential(conv(WIDTH, CLASSES, 1, bias=False), nn.BatchNorm2d(CLASSES), gap())


def two_outputs() -> nn.Module:
    def outputs(x: Tensor, pool: nn.Module, dense: nn.Module) -> tuple[Tensor, Tensor]:
        return dense(pool(x)), x

    return Apply(outputs, gap(), linear())


# --- heads that have no class activation map ---


def maxpool_linear() -> nn.Module:
    return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), linear())


def flatten_linear(pixels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(WIDTH * pixels, CLASSES))


def gap_hidden_linear() -> nn.Module:
    return nn.Sequential(gap(), nn.Linear(WIDTH, 5), nn.ReLU(), linear_from(5))


def gap_l2_linear() -> nn.Module:
    """Face-recognition style: the pooled vector is divided by its length."""
    return Apply(lambda x, pool, dense: dense(F.normalize(pool(x))), gap(), linear())


def gap_layernorm_linear() -> nn.Module:
    """ConvNeXt of torchvision: the pooled vector is normalised."""
    return nn.Sequential(gap(), nn.LayerNorm(WIDTH), linear())


def concatpool_linear() -> nn.Module:
    """fastai: average and maximum side by side."""

    def pools(x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1)

    return nn.Sequential(Apply(pools), nn.Flatten(), linear_from(2 * WIDTH))


def gem_linear() -> nn.Module:
    """Generalised-mean pooling."""
    return Apply(lambda x, dense: dense((x.clamp(min=1e-6) ** 3).mean([2, 3]) ** (1 / 3)), linear())


def twogaps_linear() -> nn.Module:
    """Two layers pooled side by side: no single map explains the scores."""

    def pools(x: Tensor, deeper: nn.Module, pool: nn.Module) -> Tensor:
        return torch.cat([pool(x), pool(F.relu(deeper(x)))], 1)

    return nn.Sequential(Apply(pools, conv(WIDTH, WIDTH, stride=2), gap()), linear_from(2 * WIDTH))


def pool_flatten_linear(size: tuple[int, int]) -> nn.Module:
    """AlexNet and VGG: pooled to more than one pixel, then flattened."""
    return nn.Sequential(nn.AvgPool2d(size), nn.Flatten(), linear_from(4 * WIDTH))


def gap_argmax() -> nn.Module:
    return nn.Sequential(gap(), linear(), Apply(lambda x: x.argmax(1)))


class VisionTransformer(nn.Module):
    """4x4 patches, one attention block, mean over tokens."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 4, 4)
        self.position = nn.Parameter(torch.randn(1, tokens, 8) * 0.1)
        self.block = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True)
        self.dense = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.dense(self.block(tokens).mean(1))


def seeded(module: nn.Module, seed: int) -> nn.Module:
    """The module in evaluation mode, its weights, biases and statistics far from their defaults."""
    generator = torch.Generator().manual_seed(seed)

    def normal(value: Tensor, scale: float, shift: float = 0.0) -> None:
        value.copy_(torch.randn(value.shape, generator=generator) * scale + shift)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                normal(part.running_mean, 0.3)
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) + 0.5)
            if isinstance(part, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                normal(part.weight, 0.3, 1.0)
                normal(part.bias, 0.2)
            elif isinstance(part, nn.PReLU):
                part.weight.copy_(torch.linspace(0.1, 0.4, part.num_parameters))
            elif isinstance(part, nn.Conv2d | nn.Linear):
                normal(part.weight, 1.4 * part.weight[0].numel() ** -0.5)
                if part.bias is not None:
                    normal(part.bias, 0.2)
    return module.eval()
