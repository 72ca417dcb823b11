"""The one place that knows auto_LiRPA's versions; everything else imports the library from here.

Release 0.3 (the newest on PyPI) predates torch 2 and numpy 2 and needs four adaptations. Each is applied only
where the thing it replaces is missing, so a newer release, which needs none or fewer of them, runs
unchanged. docs/decisions/0001-auto-lirpa.md says why it is installed the way it is.
"""

from __future__ import annotations

import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from corgi.errors import EngineError

# `torch.onnx` exposes an internal module under the same name; the library imports this one.
_symbolic_helper: Any = import_module("torch.onnx.symbolic_helper")


def _adapt_numpy() -> None:
    """Release 0.3 imports `isin` from `numpy.lib.arraysetops`, gone in numpy 2; it never uses the name."""
    if not hasattr(np.lib, "arraysetops"):
        module = types.ModuleType("numpy.lib.arraysetops")
        module.__dict__["isin"] = np.isin
        sys.modules["numpy.lib.arraysetops"] = module


def _adapt_torch() -> None:
    """Release 0.3 sets the opset through a removed helper and reads node attributes with `node[key]`."""
    if not hasattr(_symbolic_helper, "_set_opset_version"):
        _symbolic_helper._set_opset_version = _set_opset_version
    if not hasattr(torch._C.Node, "__getitem__"):
        node: Any = torch._C.Node
        node.__getitem__ = lambda self, key: _symbolic_helper._node_get(self, key)


def _set_opset_version(opset: int) -> None:
    for path in ("torch.onnx._internal.torchscript_exporter._globals", "torch.onnx._globals"):
        try:
            import_module(path).GLOBALS.export_onnx_opset_version = opset
            return
        except ImportError:
            continue
    raise EngineError(f"torch {torch.__version__} has no opset setting that auto_LiRPA can use")


def _adapt_module(module_class: Any) -> None:
    """Release 0.3 overrides `Module._named_members` without the argument torch 2 passes."""
    original: Callable[..., Iterator[Any]] = module_class._named_members
    if "remove_duplicate" in inspect.signature(original).parameters:
        return

    def named_members(
        self: Any, get: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[Any]:
        return original(self, get, prefix, recurse)

    module_class._named_members = named_members


def _import() -> Any:
    _adapt_numpy()
    _adapt_torch()
    try:
        # Recorded, not filtered: the library resets the filters while it is being imported.
        with warnings.catch_warnings(record=True):
            library = import_module("auto_LiRPA")
    except ImportError as error:
        raise EngineError(
            f"engine lirpa: auto_LiRPA, which it runs on, cannot be imported: {error}",
            hint="Install it: pip install --no-deps auto-LiRPA appdirs tqdm setuptools",
        ) from error
    _adapt_module(library.BoundedModule)
    return library


_library = _import()

BoundedModule = _library.BoundedModule
BoundedTensor = _library.BoundedTensor
PerturbationLpNorm = _library.PerturbationLpNorm


_RELAXED_RANGE = 500.0
"""Release 0.3 relaxes sigmoid and tanh from tables on [-500, 500] and cuts a wider input to that range, but
then applies the line to inputs outside it, where it is wrong."""


def leaves_relaxed_range(module: Any) -> bool:
    """Whether the last bounds relaxed a sigmoid or tanh outside the range the library does it soundly.

    Unknown input bounds count as outside.
    """
    for node in module._modules.values():
        if "Tanh" not in type(node).__name__ and "Sigmoid" not in type(node).__name__:
            continue
        limit = 0.99 * float(getattr(node, "x_limit", _RELAXED_RANGE))
        source = node.inputs[0]
        lower, upper = getattr(source, "lower", None), getattr(source, "upper", None)
        if lower is None or upper is None:
            return True
        # Written so that NaN is outside.
        if not (bool((lower >= -limit).all()) and bool((upper <= limit).all())):
            return True
    return False


def release() -> str:
    """The installed release of auto_LiRPA."""
    for name in ("auto-LiRPA", "auto_LiRPA"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return str(getattr(_library, "__version__", "unknown"))
