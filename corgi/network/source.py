"""What a model file holds: its protobuf message, the external data beside it, and the digest of both."""

from __future__ import annotations

import warnings
from hashlib import sha256
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from corgi.data.file import is_regular_file, resolved
from corgi.errors import ModelError, first_line

LARGEST_FILE = 2**31
"""Bytes of the file and its external data: onnxruntime is handed a protobuf message, which holds no more."""


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """What a file holds, its external data loaded, and the digest of both.

    Raises:
        ModelError: it is missing, is no ONNX file, or points outside its folder.
    """
    if not is_regular_file(path):
        raise ModelError("no such model file")
    try:
        _check_bytes(path.stat().st_size)
        raw = path.read_bytes()
        proto = onnx.load_from_string(raw)
    except (DecodeError, ValueError, MemoryError) as error:
        raise ModelError(f"not an ONNX file: {first_line(error)}") from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if not proto.graph.node:
        raise ModelError("not an ONNX model: it holds no graph nodes")
    digest, size = sha256(raw), len(raw)
    for tensor in external_data_helper._get_all_tensors(proto):
        if external_data_helper.uses_external_data(tensor):
            _load_external(path, tensor, size)
            digest.update(tensor.raw_data)
            size += len(tensor.raw_data)
        try:
            numpy_helper.to_array(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the data of '{tensor.name}': {first_line(error)}") from error
    return proto, digest.hexdigest()


def _check_bytes(size: int) -> None:
    if size > LARGEST_FILE:
        raise ModelError(f"the model and its external data are larger than {LARGEST_FILE} bytes")


def _load_external(path: Path, tensor: TensorProto, before: int) -> None:
    """Load the data of a tensor from its file; `before`: bytes that were read already.

    Where the model is a link into a store of files (as in Hugging Face's cache), its data is a link beside it
    into the same store.
    """
    folders = resolved(path.parent), resolved(path).parent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # onnx would ignore a key it does not know
            info = external_data_helper.ExternalDataInfo(tensor)
        places = [resolved(folder / info.location) for folder in folders]
        target = next((place for place in places if place.exists()), places[0])
    except (UserWarning, OSError, ValueError) as error:  # also a name no file can have
        raise ModelError(f"external data of '{tensor.name}': {first_line(error)}") from error
    leaves = Path(info.location).is_absolute() or ".." in Path(info.location).parts
    if leaves or not any(target.is_relative_to(folder) for folder in folders):
        raise ModelError(f"external data of '{tensor.name}' leaves the model's folder: {info.location}")
    if target == resolved(path):
        raise ModelError(f"external data of '{tensor.name}' is the model file itself")
    if not is_regular_file(target):
        raise ModelError(
            f"external data file {info.location} of '{tensor.name}' is missing",
            hint="Copy it beside the model: both files belong together.",
        )
    length: int | None = info.length
    _check_bytes(before + (target.stat().st_size if length is None else length))
    try:
        with target.open("rb") as file:
            file.seek(info.offset or 0)
            tensor.raw_data = file.read(-1 if length is None else length)
    except (OSError, ValueError) as error:
        raise ModelError(f"external data of '{tensor.name}': {first_line(error)}") from error
    if length is not None and len(tensor.raw_data) != length:
        raise ModelError(f"external data of '{tensor.name}': {info.location} is too short")
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
