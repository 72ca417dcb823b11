"""corgi: formal verification of class activation maps.

import corgi
network = corgi.load("model.onnx")
image = corgi.read_image("image.png", network)
result = corgi.verify(network, image, k=15)
result.certificate.radius, result.attack.radius

The public names are those of `__init__.pyi`. Each is imported on first use, so `corgi --help` does not wait
for torch.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

try:
    __version__ = version("corgi")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
