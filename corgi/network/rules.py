"""ONNX operator -> layer: one short function an operator.

Operator semantics: the ONNX operator specification, opset 7-26, at batch size 1 with independent samples:
no rule may touch axis 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from corgi.network import layers
from corgi.network.checks import LARGEST_VALUE
from corgi.network.expansion import added, quotient, root_quotient, scaled
from corgi.network.node_reader import NodeReader
from corgi.network.resize import resize
from corgi.network.standard import GELU_CUBIC, GELU_LINEAR, HARD_SWISH_ALPHA, HARD_SWISH_BETA

Rule = Callable[[NodeReader], nn.Module]

_ONE = torch.ones((), dtype=torch.float64)


def _axis(node: NodeReader, axis: int, rank: int) -> int:
    """A non-negative axis that is not the batch axis."""
    resolved = axis + rank if axis < 0 else axis
    if not 0 < resolved < rank:
        node.refuse(f"axis {axis} of a value of rank {rank}", supported="any axis but the batch axis 0")
    return resolved


def _axes(node: NodeReader) -> tuple[int, ...]:
    """Axes given as an attribute (older opsets) or as the second operand; none if they are not."""
    return node.integers(1) if node.has(1) else node.ints_attribute("axes")


def _pair(node: NodeReader, name: str) -> tuple[int, int]:
    values = node.ints_attribute(name) or (1, 1)
    if len(values) != 2:
        node.refuse(f"attribute {name}={list(values)}", supported="two spatial dimensions")
    return values[0], values[1]


def _fits(node: NodeReader, what: str, *sizes: int) -> None:
    """Refuse what would be computed beside the values of the network and not fit into memory."""
    if math.prod(sizes) > LARGEST_VALUE:
        node.refuse(f"{what} of {list(sizes)}", supported=f"at most {LARGEST_VALUE} elements")


def _pads(
    node: NodeReader, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right), from `pads` or `auto_pad`, of a padded value that fits into memory."""
    top, left, bottom, right = pads = _chosen_pads(node, kernel, stride, dilation)
    batch, channels, height, width = node.shape()
    _fits(node, "a padded value", batch, channels, height + top + bottom, width + left + right)
    return pads


def _chosen_pads(
    node: NodeReader, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    mode = node.choice("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads = node.ints_attribute("pads") or (0, 0, 0, 0)
    if len(pads) != 4 or min(pads) < 0:
        node.refuse(f"attribute pads={list(pads)}", supported="four values >= 0")
    if mode == "NOTSET":
        return pads[0], pads[1], pads[2], pads[3]
    if mode == "VALID":
        return 0, 0, 0, 0
    before, after = [], []
    for size, k, s, d in zip(node.shape()[2:], kernel, stride, dilation, strict=True):
        total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def _image_shaped(node: NodeReader) -> None:
    if len(node.shape()) != 4:
        node.refuse(f"an operand of rank {len(node.shape())}", supported="[N, C, H, W]")


def symmetric_kernel(
    weight: Tensor, pads: tuple[int, int, int, int], dilation: tuple[int, int]
) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
    """The same convolution with symmetric padding: zeros extend the kernel on the less padded side.

    With pads (before, after) and p = max of both, a kernel extended by p - before zeros in front and
    p - after behind starts its windows p - before earlier, hence reads the same pixels; the number of
    windows is unchanged because the kernel grows by exactly the padding that was added.

    Returns the weight [O, I, kh', kw'], padding and dilation (1 where the kernel had to grow).
    """
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return weight, (top, left), dilation
    spread = spread_dilation(weight, dilation)
    vertical, horizontal = max(top, bottom), max(left, right)
    extended = nn.functional.pad(
        spread, (horizontal - left, horizontal - right, vertical - top, vertical - bottom)
    )
    return extended, (vertical, horizontal), (1, 1)


def spread_dilation(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """A dilated kernel [O, I, kh, kw] written out with its zeros."""
    out, inp, kh, kw = weight.shape
    dh, dw = dilation
    spread = weight.new_zeros(out, inp, (kh - 1) * dh + 1, (kw - 1) * dw + 1)
    spread[:, :, ::dh, ::dw] = weight
    return spread


def dense_kernel(weight: Tensor, groups: int) -> Tensor:
    """A grouped kernel [O, I / groups, kh, kw] as the block-diagonal dense one [O, I, kh, kw]."""
    if groups == 1:
        return weight
    per_group = weight.shape[1]
    dense = weight.new_zeros(len(weight), groups * per_group, *weight.shape[2:])
    for group, (rows, part) in enumerate(zip(dense.chunk(groups), weight.chunk(groups), strict=True)):
        rows[:, group * per_group : (group + 1) * per_group] = part
    return dense


def conv(node: NodeReader) -> nn.Module:
    """Conv, two-dimensional."""
    _image_shaped(node)
    weight = node.tensor(1)
    if weight.dim() != 4:
        node.refuse(f"a kernel of rank {weight.dim()}", supported="two-dimensional convolution")
    kernel = (weight.shape[2], weight.shape[3])
    if (node.ints_attribute("kernel_shape") or kernel) != kernel:
        node.refuse(f"kernel_shape against a weight of shape {list(weight.shape)}")
    bias = node.tensor(2) if node.has(2) else torch.zeros(weight.shape[0], dtype=weight.dtype)
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    pads = _pads(node, kernel, stride, dilation)
    groups = node.int_attribute("group")
    # Engines write out the zeros of a dilated kernel.
    grown = [(kernel[i] - 1) * dilation[i] + 1 + abs(pads[i] - pads[i + 2]) for i in (0, 1)]
    _fits(node, "a kernel", *weight.shape[:2], *grown)
    weight, padding, dilation = symmetric_kernel(weight, pads, dilation)
    return layers.Conv(weight, bias, stride, padding, dilation, groups)


def batch_normalization(node: NodeReader) -> nn.Module:
    """BatchNormalization at inference: (x - mean) / sqrt(var + eps) * scale + bias, as one affine map."""
    node.require("training_mode", 0)
    node.require("spatial", 1)  # until opset 8
    node.float_attribute("momentum")  # has no meaning at inference
    epsilon = _not_negative(node, "epsilon")
    gamma, beta, mean, variance = (node.tensor(i) for i in (1, 2, 3, 4))
    if bool((variance < 0).any()):
        node.refuse(f"a negative variance ({float(variance.min()):.3g})")
    if bool((variance + epsilon == 0).any()):
        node.refuse("a variance of 0 with epsilon=0")
    scale, scale_rest = root_quotient(gamma, variance, torch.full_like(variance, epsilon))
    shift, *shift_rest = added(beta, *(-part for part in scaled((scale, scale_rest), (mean,))))
    magnitude = beta.abs() + (mean * scale).abs()
    rest = torch.stack([torch.zeros_like(shift), *shift_rest]).sum(0)
    per_channel = (-1,) + (1,) * (len(node.shape()) - 2)
    scale, shift, magnitude, scale_rest, rest = (
        v.reshape(per_channel) for v in (scale, shift, magnitude, scale_rest, rest)
    )
    return layers.Affine(scale, shift, magnitude, rest=(scale_rest, rest))


def leaky_relu(node: NodeReader) -> nn.Module:
    """LeakyRelu with a slope in [0, 1]."""
    slope = node.float_attribute("alpha")
    if not 0 <= slope <= 1:
        node.refuse(f"attribute alpha={slope}", supported="0 <= alpha <= 1")
    return layers.LeakyRelu(slope)


def prelu(node: NodeReader) -> nn.Module:
    """PRelu with constant slopes in [0, 1]."""
    slope, shape = node.tensor(1), node.shape()
    if slope.dim() > len(shape) or (slope.dim() == len(shape) and slope.shape[0] != 1):
        node.refuse(f"a slope of shape {list(slope.shape)}", supported="one that broadcasts")
    if not bool(((slope >= 0) & (slope <= 1)).all()):
        low, high = float(slope.min()), float(slope.max())
        node.refuse(f"slopes from {low:.4g} to {high:.4g}", supported="0 <= slope <= 1")
    return layers.PRelu(slope[0] if slope.dim() == len(shape) else slope)


def celu(node: NodeReader) -> nn.Module:
    """Celu with alpha > 0: max(x, 0) + min(alpha (exp(x / alpha) - 1), 0)."""
    alpha = _not_negative(node, "alpha")
    if alpha == 0:
        node.refuse("attribute alpha=0", supported="alpha > 0")
    return layers.Elu(alpha, 1 / alpha)


def _not_negative(node: NodeReader, name: str) -> float:
    value = node.float_attribute(name)
    if not 0 <= value < math.inf:
        node.refuse(f"attribute {name}={value}", supported=f"{name} >= 0")
    return value


def gelu(node: NodeReader) -> nn.Module:
    """Gelu: x (1 + erf(x / sqrt(2))) / 2, or its approximation by tanh."""
    mode = node.choice("approximate", "none", "tanh")
    return layers.Gelu() if mode == "none" else layers.TanhGelu(GELU_LINEAR, GELU_CUBIC)


def _normalisation(
    node: NodeReader, axes: tuple[int, ...], scale: Tensor, shift: Tensor, groups: int = 1
) -> nn.Module:
    """Mean and variance over axes; the variance is that of the value, not an estimate from it."""
    epsilon = _not_negative(node, "epsilon")
    if epsilon == 0:
        node.refuse("attribute epsilon=0", supported="epsilon > 0")
    return layers.Standardise(axes, epsilon, scale, shift, groups)


def layer_normalization(node: NodeReader) -> nn.Module:
    """LayerNormalization over the last axes, mean and variance not returned."""
    shape = node.shape()
    node.require("stash_type", 1)
    first = _axis(node, node.int_attribute("axis"), len(shape))
    scale = node.tensor(1)
    shift = node.tensor(2) if node.has(2) else torch.zeros_like(scale)
    for given in (scale, shift):
        if given.dim() > len(shape) - 1:
            node.refuse(f"constants of shape {list(given.shape)}", supported="constants that broadcast")
    return _normalisation(node, tuple(range(first, len(shape))), scale, shift)


def instance_normalization(node: NodeReader) -> nn.Module:
    """InstanceNormalization: of each channel over all axes behind it."""
    rank = len(node.shape())
    scale, shift = (node.tensor(i).reshape(-1, *[1] * (rank - 2)) for i in (1, 2))
    return _normalisation(node, tuple(range(2, rank)), scale, shift)


def group_normalization(node: NodeReader) -> nn.Module:
    """GroupNormalization from opset 21 on; the checker refuses the version before, which is deprecated."""
    shape, groups = node.shape(), node.int_attribute("num_groups")
    if groups < 1 or shape[1] % groups:
        node.refuse(f"{groups} groups of {shape[1]} channels", supported="groups of one size")
    if "stash_type" in node.node.attributes:
        node.require("stash_type", 1)
    scale, bias = (node.tensor(index).reshape(shape[1], *[1] * (len(shape) - 2)) for index in (1, 2))
    return _normalisation(node, tuple(range(1, len(shape))), scale, bias, groups)


def clip(node: NodeReader) -> nn.Module:
    """Clip; the limits are attributes up to opset 10 and operands after.

    They are what the file says, infinite only where it says so. A limit left away is the end of the float32
    range, as the standard has it: a real value may lie beyond. `passes/limits.py` drops unreached ones.
    """
    low = node.limit(1) if node.has(1) else node.float_attribute("min")
    high = node.limit(2) if node.has(2) else node.float_attribute("max")
    if not low <= high:
        node.refuse(f"limits [{low}, {high}]", supported="min <= max")
    return layers.Clip(low, high)


def _windows(
    node: NodeReader,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """Kernel, stride, padding and dilation of a pool."""
    kernel, stride, dilation = (_pair(node, name) for name in ("kernel_shape", "strides", "dilations"))
    return kernel, stride, _pads(node, kernel, stride, dilation), dilation


def max_pool(node: NodeReader) -> nn.Module:
    """MaxPool, two-dimensional."""
    _image_shaped(node)
    node.require("storage_order", 0)
    kernel, stride, pads, dilation = _windows(node)
    return layers.MaxPool(kernel, stride, pads, dilation, bool(node.int_attribute("ceil_mode")))


def average_pool(node: NodeReader) -> nn.Module:
    """AveragePool, two-dimensional."""
    _image_shaped(node)
    kernel, stride, pads, dilation = _windows(node)
    if dilation != (1, 1):
        node.refuse(f"attribute dilations={list(dilation)}", supported="dilations=[1, 1]")
    ceil_mode, counted = (bool(node.int_attribute(name)) for name in ("ceil_mode", "count_include_pad"))
    return layers.AveragePool(kernel, stride, pads, ceil_mode, counted)


def _behind_channels(node: NodeReader) -> tuple[int, ...]:
    """The axes of a map."""
    return tuple(range(2, len(node.shape())))


def lrn(node: NodeReader) -> nn.Module:
    """LRN."""
    _image_shaped(node)
    size = node.int_attribute("size")
    if size < 1:
        node.refuse(f"attribute size={size}", supported="size >= 1")
    alpha, beta, bias = (_not_negative(node, name) for name in ("alpha", "beta", "bias"))
    if bias == 0:
        node.refuse("attribute bias=0", supported="bias > 0")
    return layers.LocalResponseNorm(size, alpha, beta, bias)


def _reduction(node: NodeReader) -> tuple[tuple[int, ...], bool]:
    """Axes other than the batch, and whether they are kept."""
    rank = len(node.shape())
    axes = _axes(node)
    empty_is_noop = node.int_attribute("noop_with_empty_axes")  # says nothing where axes are given
    if not axes:
        noop = "attribute noop_with_empty_axes=1 without axes"
        node.refuse(
            noop if empty_is_noop else "reduction of all axes, the batch included",
            supported="axes other than 0",
        )
    keepdims = bool(node.int_attribute("keepdims"))
    return tuple(sorted(_axis(node, a, rank) for a in axes)), keepdims


def _constant_operand(node: NodeReader) -> tuple[int, Tensor] | None:
    """Which of two operands is a constant, and its value without a batch axis; None if neither is."""
    if len(node.node.inputs) != 2:
        node.refuse(f"{len(node.node.inputs)} operands", supported="2 operands")
    for index in (0, 1):
        if node.is_constant(index):
            value, rank = node.tensor(index), len(node.shape(1 - index))
            if value.dim() > rank or (value.dim() == rank and value.shape[0] != 1):
                node.refuse(f"a constant of shape {list(value.shape)}", supported="one that broadcasts")
            return index, value[0] if value.dim() == rank else value
    if len(node.shape(0)) != len(node.shape(1)):
        # Broadcasting would then align the batch axis of one operand with an inner axis of the other.
        node.refuse(
            f"operands of shapes {list(node.shape(0))} and {list(node.shape(1))}", supported="equal ranks"
        )
    return None


def add(node: NodeReader) -> nn.Module:
    """Add of two values, or of a value and a constant."""
    constant = _constant_operand(node)
    return layers.Add() if constant is None else layers.Affine(torch.ones_like(constant[1]), constant[1])


def sum_(node: NodeReader) -> nn.Module:
    """Sum of one value, of several, or of a value and a constant."""
    count = len(node.node.inputs)
    if count == 2:
        return add(node)
    if len(node.variables) != count or len({len(node.shape(i)) for i in range(count)}) != 1:
        node.refuse("operands of several ranks, or constants", supported="values of one rank")
    return layers.Add() if count > 1 else layers.Identity()


def sub(node: NodeReader) -> nn.Module:
    """Sub of two values, or of a value and a constant on either side."""
    constant = _constant_operand(node)
    if constant is None:
        return layers.Sub()
    index, value = constant
    ones = torch.ones_like(value)
    return layers.Affine(ones, -value) if index == 1 else layers.Affine(-ones, value)


def mul(node: NodeReader) -> nn.Module:
    """Mul of two values, or of a value and a constant."""
    constant = _constant_operand(node)
    return layers.Mul() if constant is None else layers.Affine(constant[1], torch.zeros_like(constant[1]))


def div(node: NodeReader) -> nn.Module:
    """Div of two values, or of a value by a constant."""
    constant = _constant_operand(node)
    if constant is None:
        return layers.Div()
    _, value = constant  # a constant over a value is written as a Reciprocal (`written.py`)
    if bool((value == 0).any()):
        node.refuse("a zero divisor", supported="value / non-zero constant")
    nothing = torch.zeros_like(value)
    scale, rest = quotient(torch.ones_like(value), value)
    # The rest is what is left of 1, over the divisor: where it is 0 the quotient is exact.
    return layers.Affine(scale, nothing, rest=(rest, nothing) if bool(rest.any()) else None)


def pow_(node: NodeReader) -> nn.Module:
    """Pow with one constant exponent."""
    exponent = node.limit(1)
    if not math.isfinite(exponent) or exponent == 0:
        node.refuse(f"exponent {exponent}", supported="a finite exponent other than 0")
    return layers.Identity() if exponent == 1 else layers.Power(exponent)


def concat(node: NodeReader) -> nn.Module:
    """Concat of values of the network."""
    if len(node.variables) != len(node.node.inputs):
        node.refuse("a constant operand", supported="values of the network")
    return layers.Concat(_axis(node, node.int_attribute("axis"), len(node.shape())))


def _copied_entries(mode: str, size: int, before: int, after: int) -> tuple[int, ...] | None:
    """Which entry of an axis each entry of the padded one is; None where it is padded by more than it has."""
    places = range(-before, size + after)
    match mode:
        case "edge":
            return tuple(min(max(place, 0), size - 1) for place in places)
        case "reflect" if max(before, after) < size:
            return tuple(size - 1 - abs(size - 1 - abs(place)) for place in places)
        case "wrap" if max(before, after) <= size:
            return tuple(place % size for place in places)
    return None


def pad(node: NodeReader) -> nn.Module:
    """Pad behind the batch axis, with a constant or copies; amounts are an attribute before opset 11.

    The constant may be -infinity: in front of a MaxPool (`passes/borders.py`) that is its own padding.
    """
    rank = len(node.shape())
    mode = node.choice("mode", "constant", "edge", "reflect", "wrap")
    amounts = node.integers(1) if node.has(1) else node.ints_attribute("pads")
    value = node.limit(2) if node.has(2) else node.float_attribute("value")
    if not value < math.inf:
        node.refuse(f"the value {value}", supported="numbers, and -infinity in front of a MaxPool")
    axes = node.integers(3) if node.has(3) else tuple(range(rank))
    if len(amounts) != 2 * len(axes) or min(amounts, default=0) < 0:
        node.refuse(f"padding {list(amounts)}", supported="amounts >= 0, two an axis")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        if amounts[i] or amounts[i + len(axes)]:
            at = _axis(node, axis, rank)
            before[at], after[at] = amounts[i], amounts[i + len(axes)]
    _fits(node, "a padded value", *map(sum, zip(node.shape(), before, after, strict=True)))
    if mode != "constant":
        entries = tuple(
            _copied_entries(mode, *sizes) if sizes[1] or sizes[2] else None
            for sizes in zip(node.shape(), before, after, strict=True)
        )
        if any(e is None and (before[a] or after[a]) for a, e in enumerate(entries)):
            node.refuse(f"padding {list(amounts)} by mode={mode}", supported="no more than the value has")
        return layers.Border(entries, tuple(before))
    return layers.Pad(tuple(before), tuple(after), value)


def flatten(node: NodeReader) -> nn.Module:
    """Flatten from axis 1; from axis 0 it is the same at batch size 1."""
    axis = node.int_attribute("axis")
    if axis != 0 and _axis(node, axis, max(len(node.shape()), 2)) != 1:
        node.refuse(f"attribute axis={axis}", supported="axis=1")
    return layers.Reshape((math.prod(node.shape()[1:]),))


def reshape(node: NodeReader) -> nn.Module:
    """Reshape to a constant shape that keeps the batch axis, or to a vector (see `convert.py`)."""
    before, target = node.shape(), list(node.integers(1))
    zero_is_size = node.int_attribute("allowzero")
    for i, size in enumerate(target):
        if size == 0 and not zero_is_size and i < len(before):
            target[i] = before[i]
    if target.count(-1) == 1:
        known = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(before) // known if known else 0
    target = [1, *target] if len(target) == 1 else target
    if not target or target[0] != 1 or math.prod(target) != math.prod(before):
        node.refuse(f"reshape from {list(before)} to {target}", supported="shapes that keep the batch axis")
    return layers.Reshape(tuple(target[1:]))


def squeeze(node: NodeReader) -> nn.Module:
    """Squeeze of named axes, or of all (`convert.py` looks after what has lost its batch axis then)."""
    shape, axes = node.shape(), _axes(node)
    axes = axes or tuple(axis for axis in range(1, len(shape)) if shape[axis] == 1)
    drop = {_axis(node, a, len(shape)) for a in axes}
    if any(shape[a] != 1 for a in drop):
        node.refuse(f"squeeze of axes {sorted(drop)} of shape {list(shape)}", supported="axes of size 1")
    return layers.Reshape(tuple(s for i, s in enumerate(shape) if i > 0 and i not in drop))


def unsqueeze(node: NodeReader) -> nn.Module:
    """Unsqueeze at named axes."""
    shape, axes = list(node.shape()), _axes(node)
    rank = len(shape) + len(axes)
    for a in sorted(_axis(node, a, rank) for a in axes):
        shape.insert(a, 1)
    return layers.Reshape(tuple(shape[1:]))


def slice_(node: NodeReader) -> nn.Module:
    """Slice along one axis other than the batch; operands since opset 10, attributes before."""
    shape = node.shape()
    if node.has(1):
        starts, ends = node.integers(1), node.integers(2)
        axes = node.integers(3) if node.has(3) else tuple(range(len(starts)))
        steps = node.integers(4) if node.has(4) else (1,) * len(starts)
    else:
        starts, ends = node.ints_attribute("starts"), node.ints_attribute("ends")
        axes = node.ints_attribute("axes", tuple(range(len(starts))))
        steps = (1,) * len(starts)
    taken: list[tuple[int, ...] | None] = [None] * len(shape)
    kept = []
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        at = axis + len(shape) if axis < 0 else axis
        if not 0 <= at < len(shape) or bounds[2] == 0:
            node.refuse(f"axis {axis} in steps of {bounds[2]}", supported="axes of the value, steps that go")
        start, stop, step = slice(*bounds).indices(shape[at])
        taken[at] = tuple(range(start, stop, step))
        if (start, stop, step) != (0, shape[at], 1):
            kept.append(layers.Slice(_axis(node, at, len(shape)), start, stop, step))
    if len(kept) > 1 or any(part.step < 0 for part in kept):
        return layers.Take(tuple(taken))
    return kept[0] if kept else layers.Identity()


def gives_batch_axis(indices: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a Gather along axis 0 makes of a vector [n], here [1, n], a value [1, ...] (as_strided)."""
    whole = len(shape) == 2 and 1 < shape[1] == indices.size and indices.ndim > 1
    return whole and indices.shape[0] == 1 and np.array_equal(indices.reshape(-1), np.arange(shape[1]))


def gather(node: NodeReader) -> nn.Module:
    """Gather of a list of entries along an axis other than the batch; see also `gives_batch_axis`."""
    shape, indices = node.shape(), node.array(1)
    if gives_batch_axis(indices, shape):
        node.int_attribute("axis")
        return layers.Reshape(indices.shape[1:])
    axis = _axis(node, node.int_attribute("axis"), len(shape))
    if indices.ndim != 1 or not ((indices >= -shape[axis]) & (indices < shape[axis])).all():
        node.refuse(f"indices of shape {list(indices.shape)}", supported="a list of entries of the axis")
    entries: list[tuple[int, ...] | None] = [None] * len(shape)
    entries[axis] = tuple(int(index) % shape[axis] for index in indices)
    return layers.Take(tuple(entries))


def _copies(node: NodeReader, sizes: Sequence[int]) -> nn.Module:
    """A value copied along its axes until they have these sizes, multiples of those they have."""
    _fits(node, "a value", *sizes)
    pairs = list(zip(node.shape(), sizes, strict=True))
    if pairs[0][0] != pairs[0][1]:
        node.refuse(f"{pairs[0][1]} copies along the batch axis", supported="copies along other axes")
    return layers.Take(tuple(None if a == b else tuple(range(a)) * (b // a) for a, b in pairs))


def expand(node: NodeReader) -> nn.Module:
    """Expand to a constant shape of the same rank: axes of size 1 are copied."""
    shape, target = node.shape(), node.integers(1)
    wide = (1,) * (len(shape) - len(target)) + target
    if len(wide) != len(shape) or any(1 not in (a, b) and a != b for a, b in zip(shape, wide, strict=True)):
        node.refuse(f"{list(shape)} to {list(target)}", supported="a shape of the same rank")
    return _copies(node, [max(sizes) for sizes in zip(shape, wide, strict=True)])


def tile(node: NodeReader) -> nn.Module:
    """Tile by constant numbers of copies."""
    repeats = node.integers(1)
    if len(repeats) != len(node.shape()) or min(repeats) < 1:
        node.refuse(f"repeats {list(repeats)}", supported="one number > 0 an axis")
    return _copies(node, [size * times for size, times in zip(node.shape(), repeats, strict=True)])


def space_to_depth(node: NodeReader) -> nn.Module:
    """SpaceToDepth: pixels of a block become channels, a convolution that picks them."""
    _image_shaped(node)
    size, channels = node.int_attribute("blocksize"), node.shape()[1]
    if size < 1 or any(side % size for side in node.shape()[2:]):
        node.refuse(f"attribute blocksize={size}", supported="a size that divides height and width")
    _fits(node, "a kernel", size**4, channels, channels)
    places = torch.eye(size * size, dtype=torch.float64).reshape(-1, 1, 1, size, size)
    weight = torch.eye(channels, dtype=torch.float64)[None, :, :, None, None] * places
    weight = weight.reshape(-1, channels, size, size)
    return layers.Conv(weight, weight.new_zeros(len(weight)), (size, size))


def split(node: NodeReader) -> tuple[nn.Module, ...]:
    """Split along an axis other than the batch: one slice an output."""
    shape = node.shape()
    axis = _axis(node, node.int_attribute("axis"), len(shape))
    parts = node.int_attribute("num_outputs", len(node.node.outputs))
    even = -(-shape[axis] // parts)
    sizes = node.integers(1) if node.has(1) else node.ints_attribute("split")
    sizes = sizes or (*[even] * (parts - 1), shape[axis] - even * (parts - 1))
    if sum(sizes) != shape[axis] or min(sizes) < 1 or len(sizes) != len(node.node.outputs):
        node.refuse(f"parts {list(sizes)} of {shape[axis]}", supported="parts that add up")
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(layers.Slice(axis, end - size, end) for end, size in zip(ends, sizes, strict=True))


def transpose(node: NodeReader) -> nn.Module:
    """Transpose that leaves the batch axis first."""
    rank = len(node.shape())
    order = node.ints_attribute("perm", tuple(reversed(range(rank))))
    if not order or order[0] != 0:
        node.refuse(f"attribute perm={list(order)}", supported="orders that keep axis 0 first")
    return layers.Transpose(order)


def gemm(node: NodeReader) -> nn.Module:
    """Gemm of a value with a constant matrix: alpha * A @ B + beta * C."""
    node.require("transA", 0)
    alpha, beta = node.float_attribute("alpha"), node.float_attribute("beta")
    weight = node.tensor(1) * alpha
    weight = weight.T if node.int_attribute("transB") else weight
    bias = node.tensor(2) * beta if node.has(2) else torch.zeros((), dtype=weight.dtype)
    if bias.dim() == 2:
        if bias.shape[0] != 1:
            node.refuse(f"a bias of shape {list(bias.shape)}", supported="one bias a column")
        bias = bias[0]
    return layers.Linear(weight.contiguous(), bias.broadcast_to(weight.shape[1:]).clone())


def matmul(node: NodeReader) -> nn.Module:
    """MatMul of a value with a constant matrix, or of two values of one rank, the batch axis in front."""
    if len(node.variables) == 2:
        ranks = len(node.shape(0)), len(node.shape(1))
        if ranks[0] != ranks[1] or ranks[0] < 3:
            node.refuse(
                f"operands of shapes {list(node.shape(0))} and {list(node.shape(1))}",
                supported="value @ matrix, or values [N, ..., m, k] @ [N, ..., k, n]",
            )
        return layers.MatMul()
    weight = node.tensor(1)
    if weight.dim() != 2:
        node.refuse(f"a constant of rank {weight.dim()}", supported="value @ matrix")
    return layers.Linear(weight, torch.zeros(weight.shape[1], dtype=weight.dtype))


def dropout(node: NodeReader) -> nn.Module:
    """Dropout at inference: the identity."""
    node.float_attribute("ratio")
    node.int_attribute("seed", 0)
    if node.has(1):
        node.array(1)
    if node.has(2) and bool(node.array(2)):
        node.refuse("training mode", supported="dropout at inference")
    return layers.Identity()


def _softmax_axis(node: NodeReader) -> int:
    """The axis of a softmax. Before opset 13 the axes behind it belonged to it, too: those have size 1."""
    shape = node.shape()
    axis = _axis(node, node.int_attribute("axis"), len(shape))
    if node.opset < 13 and math.prod(shape[axis + 1 :]) != 1:
        node.refuse(f"attribute axis={axis}", supported="the last axis, or one with axes of size 1 behind it")
    return axis


def cast(node: NodeReader) -> nn.Module:
    """Cast of a float32 value to itself, or to float64, which holds it, and back."""
    to = node.int_attribute("to")
    node.int_attribute("saturate")  # speaks of float8
    node.choice("round_mode", "up", "down", "nearest")
    if to not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        node.refuse(f"attribute to={onnx.TensorProto.DataType.Name(to)}", supported="to=FLOAT or DOUBLE")
    return layers.Identity()


RULES: Mapping[str, Rule] = {
    "Add": add,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Celu": celu,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "Div": div,
    "Dropout": dropout,
    "Elu": lambda node: layers.Elu(_not_negative(node, "alpha")),
    "Erf": lambda node: layers.Erf(),
    "Exp": lambda node: layers.Exp(),
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": lambda node: layers.Mean(_behind_channels(node), keepdims=True),
    "GlobalMaxPool": lambda node: layers.Max(_behind_channels(node), keepdims=True),
    "GroupNormalization": group_normalization,
    "HardSigmoid": lambda node: layers.HardSigmoid(
        node.float_attribute("alpha"), node.float_attribute("beta")
    ),
    "HardSwish": lambda node: layers.HardSwish(HARD_SWISH_ALPHA, HARD_SWISH_BETA),
    "Identity": lambda node: layers.Identity(),
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LeakyRelu": leaky_relu,
    "Log": lambda node: layers.Log(),
    "LogSoftmax": lambda node: layers.LogSoftmax(_softmax_axis(node)),
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Mul": mul,
    "Neg": lambda node: layers.Affine(-_ONE, 0 * _ONE),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": pow_,
    "Reciprocal": lambda node: layers.Power(-1),
    "ReduceMax": lambda node: layers.Max(*_reduction(node)),
    "ReduceMean": lambda node: layers.Mean(*_reduction(node)),
    "ReduceSum": lambda node: layers.Sum(*_reduction(node)),
    "Relu": lambda node: layers.Relu(),
    "Reshape": reshape,
    "Resize": resize,
    "Selu": lambda node: layers.Elu(_not_negative(node, "alpha"), scale=_not_negative(node, "gamma")),
    "Sigmoid": lambda node: layers.Sigmoid(),
    "Slice": slice_,
    "Softmax": lambda node: layers.Softmax(_softmax_axis(node)),
    "Softplus": lambda node: layers.Softplus(),
    "SpaceToDepth": space_to_depth,
    "Sqrt": lambda node: layers.Power(0.5),
    "Squeeze": squeeze,
    "Sub": sub,
    "Sum": sum_,
    "Tanh": lambda node: layers.Tanh(),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
"""The supported set; `convert.py` reports it where a node is outside it."""

SPLITTING_RULES: Mapping[str, Callable[[NodeReader], tuple[nn.Module, ...]]] = {"Split": split}
"""Operators with several outputs: one layer each."""
