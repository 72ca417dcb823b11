"""Differentiable stand-ins for maps that are gradients themselves: what attacks on them descend.

The gradient of a Relu network is constant between kinks, so its own gradient is 0. Both papers attack a twin
in which Relu is softplus, and measure on the network itself (Ghorbani et al. 2019; L section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.gradcam import GradCamHead
from corgi.network.network import Network

Guide = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] -> maps [N, n], differentiable."""


class _Softplus(nn.Module):
    """log(1 + exp(beta x)) / beta, a smooth Relu."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta)


def softplus_twin(graph: TorchGraph, beta: float) -> TorchGraph:
    """The same network with every Relu replaced by softplus of steepness `beta`."""

    def smooth(layer: nn.Module) -> nn.Module:
        return _Softplus(beta) if isinstance(layer, layers.Relu) else layer

    return graph.with_layers(smooth)


def saliency_guide(network: Network, class_id: int, beta: float = 10.0) -> Guide:
    """|d score_c / d x| of the softplus twin, one entry a pixel and colour: [N, C, H, W] -> [N, C * H * W].

    Differentiable once more. `beta`: steepness of the softplus.
    """
    trunk, head = softplus_twin(network.trunk32, beta), network.head
    if isinstance(head, GradCamHead):
        head = replace(head, tail=softplus_twin(head.tail, beta))

    def guide(images: Tensor) -> Tensor:
        at = images if images.requires_grad else images.clone().requires_grad_(True)
        with torch.enable_grad():
            scores = head.logits(trunk(at))[:, class_id].sum()
            (gradient,) = torch.autograd.grad(scores, at, create_graph=True)
        return gradient.abs().flatten(1)

    return guide


def averaged(guide: Guide, noise: Tensor) -> Guide:
    """The mean of a guide over a fixed sample of noise [S, C, H, W]: a smoothed map that can be descended."""

    def mean(images: Tensor) -> Tensor:
        noisy = (images[:, None] + noise.to(images)).flatten(0, 1)
        return guide(noisy).reshape(len(images), len(noise), -1).mean(1)

    return mean
