"""corgi: formal verification of class activation maps.

import corgi
network = corgi.load("model.onnx")
image = corgi.load_input("image.png", network)
result = corgi.verify(network, image, k=15)
result.certificate.radius, result.attack.radius
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from corgi.attack.search import AttackKind, AttackOptions
from corgi.certify.decide import Form
from corgi.certify.verify import Explanation, VerifyOptions, explain
from corgi.certify.verify import verify as _verify
from corgi.engines.lirpa import LirpaEngine, LirpaMethod
from corgi.errors import CorgiError
from corgi.network.network import Network, load
from corgi.progress import Listener, Progress, silent
from corgi.results import (
    DeterministicCertificate,
    EmpiricalBound,
    ImageArray,
    Status,
    TopK,
    VerifyResult,
    Witness,
)
from corgi.types import Ball, Interval, Norm

try:
    __version__ = version("corgi")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"


def verify(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
    **changes: Any,
) -> VerifyResult:
    """Certify the top-k set of the map of an image [C, H, W], float32 in [0, 1].

    `changes` are fields of `VerifyOptions`, for short calls: `verify(network, image, k=15, eps=0.001)`.
    Radii are in the pixel scale [0, 1] of the network's input. See `corgi.certify.verify.verify` for errors.
    """
    chosen = replace(options or VerifyOptions(), **changes)
    return _verify(network, image, chosen, image_name=image_name, listener=listener)


__all__ = [
    "AttackKind",
    "AttackOptions",
    "Ball",
    "CorgiError",
    "DeterministicCertificate",
    "EmpiricalBound",
    "Explanation",
    "Form",
    "Interval",
    "LirpaEngine",
    "LirpaMethod",
    "Network",
    "Norm",
    "Progress",
    "Status",
    "TopK",
    "VerifyOptions",
    "VerifyResult",
    "Witness",
    "explain",
    "load",
    "verify",
]
