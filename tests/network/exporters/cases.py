"""What corgi is expected to make of each file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: the file's name without its ending, exporter-head-trunk.
        refused: words the reason of refusal must hold; None if the file loads.
        unbounded: words of the reason why the patch engine cannot bound it; None if it does.
        output: the output to choose, where there are several.
        size: (height, width), where the file leaves them open.
        channels_last: whether the file's input is [N, H, W, C].
        tolerance: largest difference of the file's own scores, relative to the largest one.
    """

    name: str
    refused: str | None = None
    unbounded: str | None = None
    output: str | None = None
    size: tuple[int, int] | None = None
    channels_last: bool = False
    tolerance: float = 1e-5

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        """The file."""
        return FILES / f"{self.name}.onnx"

    @property
    def exporter(self) -> str:
        """Who wrote it."""
        return self.name.split("-")[0]

    @property
    def head(self) -> str:
        """What follows the feature map."""
        return self.name.split("-")[1]

    @property
    def trunk(self) -> str:
        """What computes the feature map."""
        return self.name.split("-")[2]


OPEN = (10, 12)
FLOAT16 = 5e-3
"""float16 has a unit roundoff of 5e-4; corgi takes such a file in float32."""

LOADED = (
    Case("ts9-gap_linear-plain"),
    Case("ts11-gap_linear-residual"),
    Case("ts11-view_linear-normalised"),
    Case("ts13-gap_linear-hardswish"),
    Case("ts13-mean_linear-dense"),
    Case("ts17-conv_gap-plain"),
    Case("ts17-conv_relu_gap-plain"),
    Case("ts17-flatmean_linear-gelu"),
    Case("ts17-fullpool_linear-plain"),
    Case("ts17-gap_bn_linear-prelu"),
    Case("ts17-gap_conv-grouped"),
    Case("ts17-gap_dropout_linear-hardswish"),
    Case("ts17-gap_linear-from_bytes"),
    Case("ts17-gap_linear-half", tolerance=FLOAT16),
    Case("ts17-gap_linear-smooth"),
    Case("ts17-gap_linear-softplus"),
    Case("ts17-gap_linear-squeeze_excite"),
    Case("ts17-gap_linear-symbolic_size", size=OPEN),
    Case("ts17-gap_linear-wide"),
    Case("ts17-gap_logsoftmax-padded"),
    Case("ts17-gap_nobias-ceil_pools"),
    Case("ts17-gap_sigmoid-plain"),
    Case("ts17-gap_softmax-depthwise"),
    Case("ts17-gap_temperature_softmax-plain"),
    Case("ts17-gap_twolinear-reflected"),
    Case("ts17-means_linear-silu"),
    Case("ts17-squeezed_linear-grey"),
    Case("ts17-sum_linear-leaky"),
    Case("ts17-two_outputs-residual", output="logits"),
    Case("ts17-view_linear-shuffled"),
    Case("ts17-viewmean_linear-plain", size=OPEN),
    Case("ts18-mean_linear-residual"),
    Case("ts18-mean_nobias-average_pools"),
    Case("ts19-gap_linear-ceil_average_padded"),
    Case("ts20-avgpool_linear-dilated"),
    Case("dynamo-avgpool_linear-dilated"),
    Case("dynamo-conv_bn_gap-plain"),
    Case("dynamo-conv_gap-shuffled"),
    Case("dynamo-conv_relu_gap-plain"),
    Case("dynamo-gap_bn_linear-prelu"),
    Case("dynamo-gap_conv-grouped"),
    Case("dynamo-gap_dropout_linear-hardswish"),
    Case("dynamo-gap_linear-external"),
    Case("dynamo-gap_linear-half", tolerance=FLOAT16),
    Case("dynamo-gap_linear-residual"),
    Case("dynamo-gap_linear-squeeze_excite"),
    Case("dynamo-gap_logsoftmax-padded"),
    Case("dynamo-gap_nobias-ceil_pools"),
    Case("dynamo-gap_softmax-depthwise"),
    Case("dynamo-mean_linear-dense"),
    Case("dynamo-means_linear-silu"),
    Case("dynamo-squeezed_linear-grey"),
    Case("dynamo-two_outputs-average_pools", output="logits"),
    Case("dynamo-view_linear-dynamic_batch"),
    Case("dynamo-viewmean_linear-symbolic_size", size=OPEN),
    Case("dynamo25-gap_linear-residual"),
    Case("float16-conv_gap-half", tolerance=FLOAT16),
    Case("float16-conv_gap-half_io", tolerance=FLOAT16),
    Case("tf2onnx13-gap_softmax-sequential", channels_last=True),
    Case("tf2onnx15-gap_linear-grey", channels_last=True),
    Case("tf2onnx17-gap_linear-residual", channels_last=True),
    Case("tf2onnx17-gap_linear-sequential_odd", channels_last=True),
    Case("tf2onnx17-gap_nobias-vgg", channels_last=True),
    Case("tf2onnx17-gap_nobias-vgg_nchw"),
    Case("tf2onnx18-gap_conv_softmax-mobile", channels_last=True),
    Case("tf2onnx18-gap_linear-efficient", channels_last=True),
    Case("keras-gap_conv_softmax-mobile", channels_last=True),
    Case("keras-gap_linear-grey", channels_last=True),
    Case("keras-gap_linear-residual", channels_last=True),
    Case("keras-gap_softmax-sequential", channels_last=True),
    Case("kerastorch-gap_linear-residual", channels_last=True),
    Case("kerastorch-gap_softmax-sequential", channels_last=True),
    Case("onnxsim-mean_linear-dense"),
    Case("onnxsim-view_linear-shuffled"),
    Case("onnxslim-gap_linear-residual"),
    Case("onnxslim-view_linear-shuffled"),
    Case("ortbasic-gap_linear-residual"),
    Case("ortbasic-view_linear-shuffled"),
    Case("ortextended-flatmean_linear-gelu"),
    Case("ortextended-gap_linear-residual"),
    Case("ortextended-gap_softmax-depthwise"),
    Case("ortextended-means_linear-silu"),
    Case("ortextended-sum_linear-leaky"),
    Case("converter14-mean_linear-residual"),
    Case("converter21-gap_linear-residual"),
    Case("converter26-mean_linear-dense"),
    Case("ts17-gap_linear-group_norm"),
    Case("ts17-gap_linear-upsampled"),
    Case("ts20-gap_linear-gelu"),
    Case("dynamo-flatmean_linear-gelu"),
    Case("ts17-gap_layernorm_linear-plain"),
    Case("ts17-mean_linear-convnext"),
    Case("dynamo-mean_linear-convnext"),
    Case("tf2onnx17-conv_gap_softmax-class_maps", channels_last=True),
)

REFUSED = (
    Case("ts17-maxpool_linear-plain", "max pool"),
    Case("dynamo-maxpool_linear-plain", "ReduceMax"),
    Case("ts17-flatten_linear-plain", "Flatten"),
    Case("tf2onnx17-flatten_linear-plain", "Reshape"),
    Case("ts17-pool_flatten_linear-grouped", "Flatten"),
    Case("ts17-gap_hidden_linear-plain", "activation"),
    Case("dynamo-gap_l2_linear-plain", "Div"),
    Case("ts17-concatpool_linear-plain", "Concat"),
    Case("ts17-twogaps_linear-plain", "Concat"),
    Case("ts17-gem_linear-plain", "Pow"),
    Case("ts17-mean_linear-transformer", "a transformer"),
    Case("dynamo-mean_linear-transformer", "a transformer"),
    Case("ts17-gap_argmax-plain", "ArgMax"),
    Case("ts17-gap_linear-same_dilated", "Dilation"),
    Case("ortall-gap_linear-wide", "com.microsoft.nchwc"),
    Case("qdq-gap_linear-residual", "DequantizeLinear"),
    Case("qoperator-gap_linear-wide", "com.microsoft"),
    # What is open until an argument says how to read the file.
    Case("ts17-two_outputs-residual", "features"),
    Case("ts17-gap_linear-symbolic_size", "height"),
)

CASES = (*LOADED, *REFUSED)
