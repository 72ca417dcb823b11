"""The typed layers a converted network consists of.

Engines dispatch on these types, so there is one type a meaning: constants are folded into `Affine`, every
padding is explicit, and the batch axis is always the first and never touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Elementwise(nn.Module):
    """The same function of every entry of a value, whose shape is kept."""


class Conv(nn.Module):
    """2-D convolution, zero padding symmetric in each direction, dilation and groups as in torch.

    `bias_magnitude` bounds the absolute terms that were added up to the bias before it came here: where they
    cancelled, rounding was larger than the bias shows. `roundings`: of a weight, while it was computed.
    """

    weight: Tensor
    bias: Tensor
    bias_magnitude: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias_magnitude: Tensor | None = None,
        roundings: int = 0,
    ) -> None:
        super().__init__()
        self.roundings = roundings
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.bias_magnitude = bias.abs() if bias_magnitude is None else bias_magnitude
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Affine(nn.Module):
    """x * scale + shift with constants that broadcast against one image's value.

    `shift_magnitude`: as `Conv.bias_magnitude`, for the shift. `rest`: what float64 lost of scale and shift
    when they were computed (a head of several layers is composed of both parts); None: they are exact.
    """

    scale: Tensor
    shift: Tensor
    shift_magnitude: Tensor

    def __init__(
        self,
        scale: Tensor,
        shift: Tensor,
        shift_magnitude: Tensor | None = None,
        *,
        rest: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.shift_magnitude = shift.abs() if shift_magnitude is None else shift_magnitude
        self.rest = rest
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Affine:
        """The same map of a value whose entries stand elsewhere: `move` takes each constant there."""
        rest = None if self.rest is None else (move(self.rest[0]), move(self.rest[1]))
        return Affine(move(self.scale), move(self.shift), move(self.shift_magnitude), rest=rest)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape; memory is what this takes, so the product is added to where it lies."""
        return (x * self.scale).add_(self.shift)


class Linear(nn.Module):
    """x @ weight + bias over the last axis."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, ..., F] -> [N, ..., F']."""
        return x @ self.weight + self.bias


class Relu(Elementwise):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyRelu(Elementwise):
    """max(x, 0) + slope * min(x, 0)."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)


class PRelu(nn.Module):
    """max(x, 0) + slope * min(x, 0) with slopes that broadcast against one image's value."""

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class Tanh(Elementwise):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class Erf(Elementwise):
    """The error function (no engine bounds it by itself; part of GELU)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x)


class Curve(Elementwise):
    """An activation whose second derivative is bounded between a few kinks.

    What bounding it takes is in `engines/patch/smooth.py`.

    Attributes:
        steepest: bound of the absolute slope, everywhere.
    """

    steepest: float


class Silu(Curve):
    """factor * x * sigmoid(beta * x), factor and beta not 0; also Swish and QuickGELU."""

    def __init__(self, beta: float = 1.0, factor: float = 1.0) -> None:
        super().__init__()
        self.beta, self.factor = beta, factor
        self.steepest = 1.1 * abs(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x * torch.sigmoid(self.beta * x)


class Gelu(Curve):
    """factor * x * (1 + erf(scale * x)), factor and scale not 0."""

    def __init__(self, scale: float = math.sqrt(0.5), factor: float = 0.5) -> None:
        super().__init__()
        self.scale, self.factor = scale, factor
        self.steepest = 2.26 * abs(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape; 1 + erf(z) = erfc(-z) without cancellation."""
        return self.factor * x * torch.erfc(-self.scale * x)


class TanhGelu(Curve):
    """factor * x * (1 + tanh(linear * x + cubic * x^3)), linear and cubic > 0, factor not 0."""

    def __init__(self, linear: float, cubic: float, factor: float = 0.5) -> None:
        super().__init__()
        self.linear, self.cubic, self.factor = linear, cubic, factor
        # With q the argument, x q' <= 3 q, and 1 + tanh(q) + 3 q / cosh(q)^2 is at most 3.04.
        self.steepest = 3.05 * abs(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape; 1 + tanh(q) = 2 sigmoid(2 q) without cancellation."""
        return 2 * self.factor * x * torch.sigmoid(2 * x * (self.linear + self.cubic * x * x))


class HardSwish(Curve):
    """factor * x * min(max(alpha * x + beta, 0), 1), alpha > 0, factor not 0."""

    def __init__(self, alpha: float, beta: float, factor: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.beta, self.factor = alpha, beta, factor
        # Between the kinks the slope is 2 alpha x + beta, from -beta to 2 - beta.
        self.steepest = max(1.0, abs(beta), abs(2 - beta)) * abs(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x * torch.clamp(self.alpha * x + self.beta, 0, 1)


class Elu(Curve):
    """scale * x where x > 0, scale * alpha * (exp(rate * x) - 1) elsewhere, all >= 0; also Selu and Celu."""

    def __init__(self, alpha: float = 1.0, rate: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.rate, self.scale = alpha, rate, scale
        self.steepest = scale * max(1.0, alpha * rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.where(x > 0, x, self.alpha * torch.expm1(self.rate * x.clamp(max=0)))


class Softplus(Curve):
    """log(1 + exp(x))."""

    steepest = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape; torch's own softplus is x itself beyond 20."""
        return torch.logaddexp(x, torch.zeros_like(x))


class Exp(Elementwise):
    """exp(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Log(Elementwise):
    """log(x), NaN below 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Power(Elementwise):
    """x^exponent, exponent neither 0 nor 1.

    Attributes:
        least: what is known of x from below, whatever the image.
    """

    def __init__(self, exponent: float, least: float = -math.inf) -> None:
        super().__init__()
        self.exponent, self.least = exponent, least

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape. A root's slope at 0, which is infinite, counts as 0: gradients stay numbers."""
        if 0 < self.exponent < 1:
            zero = x == 0
            root = x.masked_fill(zero, 1.0)
            root = root.sqrt() if self.exponent == 0.5 else root**self.exponent
            return root.masked_fill(zero, 0.0)
        match self.exponent:
            case 2:
                return x * x
            case -1:
                return 1 / x
            case -0.5:
                return 1 / x.sqrt()
        return x**self.exponent


class HardSigmoid(Elementwise):
    """min(max(alpha * x + beta, 0), 1)."""

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.alpha * x + self.beta, 0, 1)


class Clip(Elementwise):
    """min(max(x, low), high)."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class MaxPool(nn.Module):
    """Maximum over windows; the padding (top, left, bottom, right) never wins."""

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        top, left, bottom, right = self.pads
        if any(self.pads):
            x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        return F.max_pool2d(x, self.kernel, self.stride, 0, self.dilation, self.ceil_mode)


class AveragePool(nn.Module):
    """Mean over windows; padding (top, left, bottom, right), counted or not.

    The sum of a window over how much of it lies in the image, or in the padded image.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        counted = self.sums(torch.ones_like(x[:1, :1]), float(self.count_include_pad))
        return self.sums(x, 0.0) / counted

    def sums(self, x: Tensor, padding: float) -> Tensor:
        """Sums over the windows of a padded value; none begins behind the image (ceil_mode)."""
        top, left, bottom, right = self.pads
        padded = F.pad(x, (left, right, top, bottom), value=padding)
        sums = F.avg_pool2d(padded, self.kernel, self.stride, 0, self.ceil_mode, divisor_override=1)
        high, wide = (
            min(count, -(-(size + before) // stride))
            for count, size, before, stride in zip(
                sums.shape[2:], x.shape[2:], (top, left), self.stride, strict=True
            )
        )
        return sums[:, :, :high, :wide]


class Standardise(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + shift: layer, instance and group normalisation.

    Attributes:
        axes: over which mean and variance are taken, never the batch axis.
        epsilon: > 0.
        scale, shift: broadcast against one image's value.
        groups: into how many the channels are split first, each with a mean and a variance of its own.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, axes: tuple[int, ...], epsilon: float, scale: Tensor, shift: Tensor, groups: int = 1
    ) -> None:
        super().__init__()
        self.axes, self.epsilon, self.groups = axes, epsilon, groups
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        # Channels as [groups, channels of one]: the axes behind move by one.
        split = x.reshape(len(x), self.groups, -1, *x.shape[2:])
        axes = tuple(axis + 1 for axis in self.axes)
        off = split - split.mean(axes, keepdim=True)
        variance = (off * off).mean(axes, keepdim=True)
        return (off / (variance + self.epsilon).sqrt()).reshape(x.shape) * self.scale + self.shift


class Reduction(nn.Module):
    """One value for the given axes (never the batch axis), which are dropped, or kept with size 1."""

    def __init__(self, axes: tuple[int, ...], keepdims: bool) -> None:
        super().__init__()
        self.axes, self.keepdims = axes, keepdims


class Mean(Reduction):
    """The mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes, keepdim=self.keepdims)


class Max(Reduction):
    """The largest value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(self.axes, keepdim=self.keepdims)


class Sum(Reduction):
    """The sum."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.axes, keepdim=self.keepdims)


class LocalResponseNorm(nn.Module):
    """x / (bias + alpha / size * sum x^2)^beta, the sum over `size` channels around each one's own."""

    def __init__(self, size: int, alpha: float, beta: float, bias: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], shape kept; (size - 1) // 2 of the channels stand before, size // 2 behind."""
        squares = F.pad(x * x, (0, 0, 0, 0, (self.size - 1) // 2, self.size // 2))
        sums = squares.unfold(1, self.size, 1).sum(-1)
        return x / (self.bias + self.alpha / self.size * sums) ** self.beta


class Resample(nn.Module):
    """The same linear map of the rows of every channel, and one of the columns: a separable linear map.

    Means over height and width, copies along them, and interpolation are such maps.

    Attributes:
        rows: [H', H]; columns: [W', W].
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        return self.rows @ x @ self.columns.T


class Add(nn.Module):
    """Sum of values of the network, two or more; they broadcast as in ONNX."""

    def forward(self, *values: Tensor) -> Tensor:
        return reduce(torch.add, values)


class Sub(nn.Module):
    """Difference of two values of the network, which broadcast as in ONNX."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


class Mul(nn.Module):
    """Product of two values of the network, which broadcast as in ONNX.

    Attributes:
        largest: what is known of its absolute value, whatever the image.
    """

    def __init__(self, largest: float = math.inf) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Div(nn.Module):
    """Quotient of two values of the network, which broadcast as in ONNX."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a / b


class MatMul(nn.Module):
    """Matrix product of two values of the network, over their last two axes."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, ..., m, k], [N, ..., k, n] -> [N, ..., m, n]; axes between broadcast."""
        return a @ b


class Concat(nn.Module):
    """Values put side by side along one axis, constants among them."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *values: Tensor) -> Tensor:
        """Sizes add up along the axis."""
        return torch.cat(values, self.axis)


class Pad(nn.Module):
    """Constant padding, so many entries before and after along every axis (0 along the batch axis)."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...], value: float = 0.0) -> None:
        super().__init__()
        self.before, self.after, self.value = before, after, value

    def forward(self, x: Tensor) -> Tensor:
        """Sizes grow by what is added."""
        pairs = zip(reversed(self.before), reversed(self.after), strict=True)
        return F.pad(x, [amount for pair in pairs for amount in pair], value=self.value)


class Take(nn.Module):
    """Entries of a value along its axes (never the batch axis), in any order and any number.

    Attributes:
        entries: by axis, which entry of the value each entry is; None where the axis stays as it is.
    """

    def __init__(self, entries: tuple[tuple[int, ...] | None, ...]) -> None:
        super().__init__()
        self.entries = entries

    def permuted(self, places: list[int]) -> Take:
        """The same of a value whose axis i was axis places[i]."""
        return Take(tuple(self.entries[axis] for axis in places))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the rank."""
        for axis, entries in enumerate(self.entries):
            if entries is not None:
                x = x.index_select(axis, torch.tensor(entries, device=x.device))
        return x


class Border(Take):
    """Padding with copies of entries: of the edge, reflected, or from the other side.

    Attributes:
        before: by axis, how many entries stand in front of the value, which is whole between its copies.
    """

    def __init__(self, entries: tuple[tuple[int, ...] | None, ...], before: tuple[int, ...]) -> None:
        super().__init__(entries)
        self.before = before

    def permuted(self, places: list[int]) -> Border:
        """The same of a value whose axis i was axis places[i]."""
        entries = tuple(self.entries[axis] for axis in places)
        return Border(entries, tuple(self.before[axis] for axis in places))


class Slice(nn.Module):
    """Every `step`-th entry from `start` to before `stop` along one axis (never the batch axis)."""

    def __init__(self, axis: int, start: int, stop: int, step: int = 1) -> None:
        super().__init__()
        self.axis, self.start, self.stop, self.step = axis, start, stop, step

    def forward(self, x: Tensor) -> Tensor:
        """The axis shrinks."""
        return x[(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)]


class Channels(nn.Module):
    """Channels of [N, C, H, W] in another order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, len(order), H, W]."""
        return x[:, list(self.order)]


class Reshape(nn.Module):
    """A new shape for each image's value; also flatten, squeeze and unsqueeze."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, *shape]."""
        return x.reshape(x.shape[0], *self.shape)


class Transpose(nn.Module):
    """A permutation of the axes that leaves the batch axis first."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Permutes the axes."""
        return x.permute(self.order)


class Identity(Elementwise):
    """x (dropout at inference included)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the value."""
        return x


class Softmax(nn.Module):
    """exp(x) / sum(exp(x)) over one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, self.axis)


class LogSoftmax(nn.Module):
    """The logarithm of the softmax over one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, self.axis)
