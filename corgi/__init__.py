"""corgi: formal verification of class activation maps.

import corgi
network = corgi.load("model.onnx")
image = corgi.read_image("image.png", network)
result = corgi.verify(network, image, k=15)
result.certificate.radius, result.attack.radius

Names are imported on first use (PEP 562), so `corgi --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corgi.api import read_image, verify, verify_batch, verify_ranks
    from corgi.attacks.search import AttackOptions
    from corgi.certify.exact import ExactOptions
    from corgi.certify.explain import Explanation, explain
    from corgi.certify.verify import VerifyOptions
    from corgi.engines.lipschitz.engine import LipschitzEngine
    from corgi.engines.lirpa import LirpaEngine
    from corgi.engines.patch.engine import PatchEngine
    from corgi.errors import CorgiError
    from corgi.network.network import Network, load
    from corgi.network.wrap import Normalisation
    from corgi.progress import Progress
    from corgi.results import (
        DeterministicCertificate,
        EmpiricalBound,
        StatisticalCertificate,
        TopK,
        VerifyResult,
        Witness,
    )
    from corgi.smoothing.cam_map import CamMap
    from corgi.smoothing.options import SmoothOptions
    from corgi.smoothing.smooth import smooth
    from corgi.smoothing.sparsified import Sparsified
    from corgi.terms import (
        AttackKind,
        Form,
        LipschitzMethod,
        LirpaMethod,
        MapKind,
        Norm,
        PatchMethod,
        Status,
    )
    from corgi.types import Ball, Interval

try:
    __version__ = version("corgi")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"

_HOMES = {
    "corgi.api": ("read_image", "verify", "verify_batch", "verify_ranks"),
    "corgi.attacks.search": ("AttackOptions",),
    "corgi.certify.exact": ("ExactOptions",),
    "corgi.certify.explain": ("Explanation", "explain"),
    "corgi.certify.verify": ("VerifyOptions",),
    "corgi.engines.lirpa": ("LirpaEngine",),
    "corgi.engines.patch.engine": ("PatchEngine",),
    "corgi.errors": ("CorgiError",),
    "corgi.engines.lipschitz.engine": ("LipschitzEngine",),
    "corgi.network.network": ("Network", "load"),
    "corgi.network.wrap": ("Normalisation",),
    "corgi.progress": ("Progress",),
    "corgi.results": (
        "DeterministicCertificate",
        "EmpiricalBound",
        "StatisticalCertificate",
        "TopK",
        "VerifyResult",
        "Witness",
    ),
    "corgi.smoothing.cam_map": ("CamMap",),
    "corgi.smoothing.options": ("SmoothOptions",),
    "corgi.smoothing.smooth": ("smooth",),
    "corgi.smoothing.sparsified": ("Sparsified",),
    "corgi.terms": (
        "AttackKind",
        "Form",
        "LipschitzMethod",
        "LirpaMethod",
        "MapKind",
        "Norm",
        "PatchMethod",
        "Status",
    ),
    "corgi.types": ("Ball", "Interval"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'corgi' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]


__all__ = [
    "AttackKind",
    "AttackOptions",
    "Ball",
    "CamMap",
    "CorgiError",
    "DeterministicCertificate",
    "EmpiricalBound",
    "ExactOptions",
    "Explanation",
    "Form",
    "Interval",
    "LipschitzEngine",
    "LipschitzMethod",
    "LirpaEngine",
    "LirpaMethod",
    "MapKind",
    "Network",
    "Norm",
    "Normalisation",
    "PatchEngine",
    "PatchMethod",
    "Progress",
    "SmoothOptions",
    "Sparsified",
    "StatisticalCertificate",
    "Status",
    "TopK",
    "VerifyOptions",
    "VerifyResult",
    "Witness",
    "explain",
    "load",
    "read_image",
    "smooth",
    "verify",
    "verify_batch",
    "verify_ranks",
]
