"""Grad-CAM with weights fixed at one image (Selvaraju et al. 2017, eq. 1), for networks without a CAM head.

    alpha_k = mean over the map of  d score_c / d f_k  at x,        I(x') = sum_k alpha_k f_k(x')

The weights depend on the image x that is explained, not on x': that is what makes the map a fixed linear
function of the feature map, as a CAM is, and its top-k set certifiable by the same mathematics. It is another
map than a CAM, and another than Grad-CAM computed afresh at x'; whoever reads the result is told so. Where
the head is a CAM head both agree up to a factor. The paper's last step, relu of the map, is left out: it does
not change the order of positive values, and it would tie all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.errors import ModelError, NoCamHead
from corgi.network import layers
from corgi.network.convert import Converted, TorchGraph
from corgi.network.head import ACTIVATIONS, Activation, Head


@dataclass(frozen=True, kw_only=True)
class GradCamHead(Head):
    """Class scores that are any function of the feature map; the map's weights are gradients at one image.

    Weights are NaN, of which nothing follows, in the rows `fixed_at` was not asked for.

    Attributes:
        tail: [N, F, h, w] -> [N, classes], float64.
    """

    tail: TorchGraph

    def fixed_at(self, features: Tensor, class_id: int) -> GradCamHead:
        """The head with the weights of a class at one image, whose feature map is [1, F, h, w]."""
        with torch.enable_grad():
            at = features.detach().to(torch.float64).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.tail(at)[0, class_id], at)
        weight = torch.full_like(self.weight, torch.nan)
        weight[class_id] = gradient[0].mean((1, 2))
        return replace(self, weight=weight)

    def logits(self, features: Tensor) -> Tensor:
        """Class scores before any activation: [N, F, h, w] -> [N, classes], float64 arithmetic."""
        logits: Tensor = self.tail(features.to(torch.float64))
        return logits.to(features)


def gradcam_head(found: Converted, layer: str | None) -> GradCamHead:
    """Split a network at a feature map.

    Args:
        found: the network.
        layer: the feature map's value or the node that makes it; None takes the last one with more than one
            pixel that everything behind depends on.

    Raises:
        ModelError: no such feature map; the message lists those there are.
        NoCamHead: there is none at all.
    """
    maps = _feature_maps(found)
    if not maps:
        raise NoCamHead("no feature map that the class scores depend on alone, so no Grad-CAM either")
    nodes = {step.node: step.output for step in found.module.steps}
    feature = maps[-1] if layer is None else layer if layer in maps else nodes.get(layer)
    if feature not in maps:
        raise ModelError(
            f"'{layer}' is no feature map the class scores depend on alone",
            hint=f"Those are: {', '.join(maps)}.",
        )
    output, activation = found.module.output_name, Activation.NONE
    # An activation behind the scores, and what only moves numbers behind that, is no part of them.
    makers = {step.output: step for step in found.module.steps}
    end = makers.get(output)
    while end is not None and isinstance(end.layer, layers.Identity | layers.Reshape):
        end = makers.get(end.inputs[0])
    kind = None if end is None else next((a for t, a in ACTIVATIONS if isinstance(end.layer, t)), None)
    if end is not None and kind is not None:
        output, activation = end.inputs[0], kind
    behind = found.module.up_to(output).after(feature)
    _, filters, height, width = found.shapes[feature]
    if len(found.shapes[output]) != 2:
        raise NoCamHead(f"the output has shape {list(found.shapes[output])}, expected [N, classes]")
    classes = found.shapes[output][1]
    return GradCamHead(
        feature=feature,
        order=found.orders.get(feature, (0, 1, 2, 3)),
        map_shape=(height, width),
        filters=filters,
        pooling="none: weights are mean gradients at the image (Grad-CAM)",
        dense=f"{len(behind.steps)} nodes behind the feature map",
        tail=behind,
        activation=activation,
        weight=torch.full((classes, filters), torch.nan, dtype=torch.float64),
    )


def _feature_maps(found: Converted) -> list[str]:
    """Values [N, F, h, w] of more than one pixel through which all of the image reaches the output.

    Read in topological order, a value is such a gate if no later step reads anything made before it.
    """
    # A transposition that could not be taken out may have left its values as [N, h, w, F].
    moves = [step for step in found.module.steps if isinstance(step.layer, layers.Reshape | layers.Transpose)]
    turned = {step.output for step in moves if len(found.shapes[step.output]) == 4}
    for step in found.module.steps:
        if turned.intersection(step.inputs):
            turned.add(step.output)
    last_read = {name: i for i, step in enumerate(found.module.steps) for name in step.inputs}
    last_read[found.module.output_name] = len(found.module.steps)
    gates, reach = [], last_read.get(found.module.input_name, 0)
    for i, step in enumerate(found.module.steps):
        shape = found.shapes[step.output]
        computed = not isinstance(step.layer, layers.Identity | layers.Reshape | layers.Transpose)
        if (
            reach <= i
            and computed
            and step.output not in turned
            and len(shape) == 4
            and shape[2] * shape[3] > 1
        ):
            gates.append(step.output)
        reach = max(reach, last_read.get(step.output, 0))
    return [name for name in gates if name != found.module.output_name]
