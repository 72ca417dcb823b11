"""Write the files of PyTorch's two exporters.

Run from the repository's root with the packages of README.md:
    PYTHONPATH=. python -m tests.network.exporters.write_torch
`tsNN` is the TorchScript exporter (dynamo=False) at opset NN, `dynamo` the exporter of torch.export at its
default opset, `dynamoNN` at opset NN.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxconverter_common import float16
from torch import nn

from tests.network.exporters import torch_nets as nets

FILES = Path(__file__).parent / "files"
COLOUR, GREY = (3, 10, 12), (1, 9, 10)


def drop_node_metadata(path: Path) -> None:
    """Two thirds of a dynamo file say which Python line of the machine that wrote it each node comes from."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def build(trunk: Callable[[int], nn.Module], head: nn.Module, channels: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nets.seeded(nn.Sequential(trunk(channels), head), seed)


def export(
    name: str,
    module: nn.Module,
    shape: tuple[int, int, int] = COLOUR,
    *,
    half: bool = False,
    byte: bool = False,
    **settings: Any,
) -> None:
    """Write files/NAME.onnx; the exporter and its opset are read off the name."""
    match = re.match(r"(ts|dynamo)(\d*)-", name)
    assert match is not None
    dynamo, opset = match[1] == "dynamo", int(match[2]) if match[2] else None
    torch.manual_seed(0)
    image = torch.rand(1, *shape)
    if half:
        module, image = module.half(), image.half()
    if byte:
        image = (255 * image).to(torch.uint8)
    if dynamo:
        settings = {"external_data": False, "verbose": False, **settings}
    settings = {"input_names": ["image"], "output_names": ["scores"], **settings}
    path = FILES / f"{name}.onnx"
    torch.onnx.export(module, (image,), str(path), dynamo=dynamo, opset_version=opset, **settings)
    if dynamo:
        drop_node_metadata(path)


def write(
    name: str,
    trunk: Callable[[int], nn.Module],
    head: nn.Module,
    shape: tuple[int, int, int] = COLOUR,
    *,
    seed: int | None = None,
    **settings: Any,
) -> None:
    seed = sum(name.encode()) if seed is None else seed
    export(name, build(trunk, head, shape[0], seed), shape, **settings)


def torchscript() -> None:
    batch = {"dynamic_axes": {"image": {0: "N"}, "scores": {0: "N"}}}
    sizes = {"dynamic_axes": {"image": {0: "N", 2: "H", 3: "W"}, "scores": {0: "N"}}}
    write("ts9-gap_linear-plain", nets.plain, nets.gap_linear())
    write("ts11-gap_linear-residual", nets.residual, nets.gap_linear())
    write("ts13-mean_linear-dense", nets.dense, nets.mean_linear())
    write("ts17-gap_softmax-depthwise", nets.depthwise, nets.gap_softmax(), **batch)
    write("ts18-mean_linear-residual", nets.residual, nets.mean_linear())
    write("ts20-avgpool_linear-dilated", nets.dilated, nets.avgpool_linear((10, 12)))
    write("ts17-gap_linear-same_dilated", nets.same_dilated, nets.gap_linear())
    write("ts17-gap_linear-wide", nets.wide, nets.gap_linear())
    write("ts17-conv_gap-plain", nets.plain, nets.conv_gap())
    write("ts17-conv_relu_gap-plain", nets.plain, nets.conv_relu_gap(), seed=5, **batch)
    write("ts17-gap_conv-grouped", nets.grouped, nets.gap_conv())
    write("ts17-sum_linear-leaky", nets.activated(nn.LeakyReLU(0.2), nn.ReLU()), nets.sum_linear())
    write("ts17-gap_bn_linear-prelu", nets.activated(nn.PReLU(), nn.PReLU(nets.WIDTH)), nets.gap_bn_linear())
    write("ts17-gap_dropout_linear-hardswish", nets.activated(nn.Hardswish()), nets.gap_dropout_linear())
    write("ts13-gap_linear-hardswish", nets.activated(nn.Hardswish(), nn.Hardsigmoid()), nets.gap_linear())
    write("ts17-gap_logsoftmax-padded", nets.padded, nets.gap_logsoftmax())
    write("ts17-gap_nobias-ceil_pools", nets.ceil_pools, nets.gap_nobias(), (3, 10, 11))
    write("ts18-mean_nobias-average_pools", nets.average_pools, nets.gap_nobias())
    write("ts19-gap_linear-ceil_average_padded", nets.ceil_average_padded, nets.gap_linear())
    write("ts17-means_linear-silu", nets.activated(nn.SiLU()), nets.means_linear())
    write("ts17-flatmean_linear-gelu", nets.activated(nn.GELU(), nn.GELU("tanh")), nets.flatmean_linear())
    write("ts20-gap_linear-gelu", nets.activated(nn.GELU(), nn.GELU("tanh")), nets.gap_linear())
    write("ts17-gap_linear-smooth", nets.activated(nn.Sigmoid(), nn.Tanh(), nn.Mish()), nets.gap_linear())
    write(
        "ts17-gap_linear-softplus", nets.activated(nn.Softplus(), nn.SELU(), nn.CELU(0.5)), nets.gap_linear()
    )
    write("ts17-gap_linear-squeeze_excite", nets.squeeze_excite, nets.gap_linear())
    write("ts11-view_linear-normalised", nets.normalised, nets.view_linear(), **batch)
    write("ts17-view_linear-shuffled", nets.shuffled, nets.view_linear(), **batch)
    write("ts17-viewmean_linear-plain", nets.plain, nets.viewmean_linear(), **sizes)
    write("ts17-fullpool_linear-plain", nets.plain, nets.fullpool_linear())
    write("ts17-squeezed_linear-grey", nets.plain, nets.squeezed_linear(), GREY)
    write("ts17-gap_twolinear-reflected", nets.reflected, nets.gap_twolinear())
    write("ts17-gap_linear-group_norm", nets.group_norm, nets.gap_linear())
    write("ts17-mean_linear-convnext", nets.convnext, nets.mean_linear())
    write("ts17-gap_linear-upsampled", nets.upsampled, nets.gap_linear())
    write("ts17-gap_sigmoid-plain", nets.plain, nets.gap_sigmoid())
    write("ts17-gap_temperature_softmax-plain", nets.plain, nets.gap_temperature_softmax())
    write("dynamo-conv_bn_gap-plain", nets.plain, nets.conv_bn_gap())
    write("ts17-two_outputs-residual", nets.residual, nets.two_outputs(), output_names=["logits", "features"])
    write("ts17-gap_linear-symbolic_size", nets.residual, nets.gap_linear(), **sizes)
    write("ts17-gap_linear-half", nets.residual, nets.gap_linear(), half=True)


def torch_export() -> None:
    batch = {"dynamic_shapes": {"input": {0: torch.export.Dim("N")}}}
    sizes = {
        "dynamic_shapes": {"input": dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)},
    }
    write("dynamo-gap_linear-residual", nets.residual, nets.gap_linear())
    write("dynamo25-gap_linear-residual", nets.residual, nets.gap_linear())
    write("dynamo-gap_linear-external", nets.residual, nets.gap_linear(), external_data=True)
    write("dynamo-view_linear-dynamic_batch", nets.normalised, nets.view_linear(), **batch)
    write("dynamo-viewmean_linear-symbolic_size", nets.plain, nets.viewmean_linear(), **sizes)
    write("dynamo-gap_softmax-depthwise", nets.depthwise, nets.gap_softmax(), **batch)
    write("dynamo-mean_linear-dense", nets.dense, nets.mean_linear())
    write("dynamo-avgpool_linear-dilated", nets.dilated, nets.avgpool_linear((10, 12)))
    write("dynamo-conv_gap-shuffled", nets.shuffled, nets.conv_gap(), **batch)
    write("dynamo-conv_relu_gap-plain", nets.plain, nets.conv_relu_gap(), seed=5)
    write("dynamo-gap_conv-grouped", nets.grouped, nets.gap_conv())
    write(
        "dynamo-gap_bn_linear-prelu", nets.activated(nn.PReLU(), nn.PReLU(nets.WIDTH)), nets.gap_bn_linear()
    )
    write(
        "dynamo-gap_dropout_linear-hardswish",
        nets.activated(nn.Hardswish(), nn.Hardsigmoid()),
        nets.gap_dropout_linear(),
    )
    write("dynamo-gap_logsoftmax-padded", nets.padded, nets.gap_logsoftmax())
    write("dynamo-gap_nobias-ceil_pools", nets.ceil_pools, nets.gap_nobias(), (3, 10, 11))
    write("dynamo-means_linear-silu", nets.activated(nn.SiLU(), nn.ELU()), nets.means_linear())
    write("dynamo-flatmean_linear-gelu", nets.activated(nn.GELU(), nn.GELU("tanh")), nets.flatmean_linear())
    write("dynamo-gap_linear-squeeze_excite", nets.squeeze_excite, nets.gap_linear(), **batch)
    write("dynamo-squeezed_linear-grey", nets.plain, nets.squeezed_linear(), GREY)
    write("dynamo-mean_linear-convnext", nets.convnext, nets.mean_linear())
    write(
        "dynamo-two_outputs-average_pools",
        nets.average_pools,
        nets.two_outputs(),
        output_names=["logits", "features"],
    )
    write("dynamo-gap_linear-half", nets.residual, nets.gap_linear(), half=True)


def without_map() -> None:
    """Networks that have no class activation map."""
    write("ts17-maxpool_linear-plain", nets.plain, nets.maxpool_linear())
    write("dynamo-maxpool_linear-plain", nets.plain, nets.maxpool_linear())
    write("ts17-flatten_linear-plain", nets.plain, nets.flatten_linear(30))
    write("ts17-gap_hidden_linear-plain", nets.plain, nets.gap_hidden_linear())
    write("dynamo-gap_l2_linear-plain", nets.plain, nets.gap_l2_linear())
    write("ts17-gap_layernorm_linear-plain", nets.plain, nets.gap_layernorm_linear())
    write("ts17-concatpool_linear-plain", nets.plain, nets.concatpool_linear())
    write("ts17-gem_linear-plain", nets.plain, nets.gem_linear())
    write("ts17-twogaps_linear-plain", nets.plain, nets.twogaps_linear())
    write("ts17-pool_flatten_linear-grouped", nets.grouped, nets.pool_flatten_linear((2, 2)))
    write("ts17-gap_argmax-plain", nets.plain, nets.gap_argmax())
    write("ts17-gap_linear-from_bytes", nets.from_bytes, nets.gap_linear(), byte=True)
    for exporter in ("ts17", "dynamo"):
        torch.manual_seed(1)
        export(
            f"{exporter}-mean_linear-transformer", nets.seeded(nets.VisionTransformer(3, 6), 1), (3, 8, 12)
        )


def converted_to_half() -> None:
    """onnxconverter-common's float16 conversion, with float16 and with float32 input and output."""
    model = onnx.load(FILES / "ts17-conv_gap-plain.onnx")
    for name, keep in (("half_io", False), ("half", True)):
        onnx.save(
            float16.convert_float_to_float16(model, keep_io_types=keep),
            FILES / f"float16-conv_gap-{name}.onnx",
        )


if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    torchscript()
    torch_export()
    without_map()
    converted_to_half()
