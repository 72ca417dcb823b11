"""Hostile models whose weights lie in another file, and paths of models that are no models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from tests.hostile.models import ESCAPE, external, kernel, proto, sound


def with_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name -> a model whose external data is the attack; everything is written below `folder`."""
    tensor = kernel(proto(sound()))
    good, size = tensor.raw_data, str(len(tensor.raw_data))
    outside = folder / "outside.bin"
    outside.write_bytes(good)
    locations = {
        "parent": "../outside.bin",
        "deep-parent": "sub/../../outside.bin",
        "absolute": str(outside),
        "passwd": "/etc/passwd",
        "zero": "/dev/zero",
        "mem": "/proc/self/mem",
        "link": "link.bin",
        "link-folder": "way/outside.bin",
        "link-zero": "zero.bin",
        "link-loop": "loop.bin",
        "fifo": "pipe.bin",
        "folder": "sub",
        "self": "model.onnx",
        "dot": ".",
        "empty": "",
        "nul": "weights\0.bin",
        "missing": "nobody.bin",
        "long": "n" * 5000,
        "long-path": "n/" * 5000 + "n",
        "url": "file:///etc/passwd",
        "backslash": "..\\outside.bin",
        "home": "~/weights.bin",
        "escape": ESCAPE,
        "memory": "*/_ORT_MEM_ADDR_/*",
        "newline": "weights\n.bin",
        "surrogate": "\udc80".encode("utf-8", "surrogatepass").decode("latin-1"),
    }
    for name, location in locations.items():
        yield f"external-{name}", _beside(folder, outside, f"external-{name}", location=location, length=size)
    extents = {
        "offset-negative": {"offset": "-1"},
        "offset-behind": {"offset": "1000000"},
        "offset-huge": {"offset": str(2**62)},
        "offset-text": {"offset": "one"},
        "offset-beyond-64": {"offset": str(2**70)},
        "offset-digits": {"offset": "1" * 5000},
        "length-negative": {"length": "-4"},
        "length-huge": {"length": str(2**62)},
        "length-short": {"length": "4"},
        "length-zero": {"length": "0"},
        "length-text": {"length": "many"},
        "offset-shifts": {"offset": "4"},
        "no-location": {"location": ""},
    }
    for name, info in extents.items():
        given = {"location": "weights.bin", "length": size} | info
        yield f"external-{name}", _beside(folder, outside, f"external-{name}", **given)
    yield (
        "external-unknown-key",
        _beside(folder, outside, "external-unknown-key", location="nobody.bin", evil=ESCAPE),
    )
    large = _beside(folder, outside, "external-sparse-file", location="weights.bin")
    with (large.parent / "weights.bin").open("r+b") as file:
        file.truncate(2**40)
    yield "external-sparse-file", large
    many = _beside(folder, outside, "external-again-and-again", location="weights.bin")
    with (many.parent / "weights.bin").open("r+b") as file:
        file.truncate(2**28)
    model = onnx.load(many, load_external_data=False)
    for i in range(1000):
        again = model.graph.initializer.add(name=f"again{i}", data_type=1, dims=[2**26])
        again.data_location = TensorProto.EXTERNAL
        again.external_data.add(key="location", value="weights.bin")
    many.write_bytes(model.SerializeToString())
    yield "external-again-and-again", many
    sparse_model = folder / "sparse-file.onnx"
    with sparse_model.open("wb") as file:
        file.truncate(2**40)
    yield "model-sparse-file", sparse_model
    os.mkfifo(folder / "pipe.onnx")
    yield "model-fifo", folder / "pipe.onnx"
    (folder / "folder.onnx").mkdir()
    yield "model-folder", folder / "folder.onnx"
    yield "model-missing", folder / "nobody.onnx"
    yield "model-zero", Path("/dev/zero")
    yield "model-null", Path("/dev/null")
    yield "model-mem", Path("/proc/self/mem")
    (folder / "loop.onnx").symlink_to("loop.onnx")
    yield "model-loop", folder / "loop.onnx"
    yield "model-long-name", folder / ("n" * 300 + ".onnx")
    named = folder / f"name{ESCAPE}.onnx"
    named.write_bytes(b"text")
    yield "model-named-escape", named
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.onnx"))
    odd.write_bytes(b"text")
    yield "model-named-no-utf8", odd


def _beside(folder: Path, outside: Path, name: str, **info: str) -> Path:
    home = folder / name
    home.mkdir()
    (home / "weights.bin").write_bytes(outside.read_bytes())
    (home / "sub").mkdir()
    (home / "link.bin").symlink_to(outside)
    (home / "way").symlink_to(folder)
    (home / "zero.bin").symlink_to("/dev/zero")
    (home / "loop.bin").symlink_to("loop.bin")
    os.mkfifo(home / "pipe.bin")
    path = home / "model.onnx"
    path.write_bytes(external(**info).SerializeToString())
    return path
