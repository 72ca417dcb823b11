"""A tally in a file (NPZ), so that sampling can go on later."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.tally import Tally

VERSION = 1
_ARRAYS = ("sums", "squares")


def state_bytes(tally: Tally) -> bytes:
    """A tally as an NPZ file."""
    target = io.BytesIO()
    fields = {key: value for key, value in asdict(tally).items() if key not in _ARRAYS}
    described = TypeAdapter(dict[str, Any]).dump_json({"version": VERSION} | fields).decode()
    np.savez(target, described=np.array(described), sums=tally.sums, squares=tally.squares)
    return target.getvalue()


def read_state(path: Path) -> Tally:
    """The tally of a file.

    Raises:
        UsageError: it cannot be read, is of another version, or holds sums no samples can have.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            described = TypeAdapter(dict[str, Any]).validate_json(str(file["described"]))
            sums, squares = (np.asarray(file[name], dtype=np.float64) for name in _ARRAYS)
        version = described.pop("version", None)
        if version != VERSION:
            raise UsageError(f"{path}: saved counts of version {version}, expected {VERSION}")
        tally = TypeAdapter(Tally, config={"arbitrary_types_allowed": True}).validate_python(
            described | {"sums": sums, "squares": squares}
        )
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{path}: no saved counts of corgi: {reason}", hint="Name another file with --state."
        ) from error
    _check_sums(tally, path)
    return tally


def check_continues(saved: Tally, asked: Tally, path: Path) -> None:
    """Refuse saved counts of anything else than what is asked for.

    Raises:
        UsageError: model, image, map or noise differ; the message says which.
    """
    pairs: dict[str, tuple[object, object]] = {
        "model or image": (saved.subject, asked.subject),
        "map": (saved.map_name, asked.map_name),
        "map size": (saved.map_shape, asked.map_shape),
        "0/1 values": (saved.binary, asked.binary),
        "noise": (saved.noise.name, asked.noise.name),
        "sigma": (saved.noise.sigma, asked.noise.sigma),
        "seed": (saved.noise.seed, asked.noise.seed),
    }
    for what, (there, here) in pairs.items():
        if there != here:
            shown = "" if what == "model or image" else f" ({there}, not {here})"
            raise UsageError(
                f"{path}: saved counts of another {what}{shown}", hint="Name another file with --state."
            )


def _check_sums(tally: Tally, path: Path) -> None:
    def possible(values: FloatArray) -> bool:
        within = bool(((values >= 0) & (values <= tally.samples)).all())  # never NaN
        return within and values.shape == (tally.map_shape[0] * tally.map_shape[1],)

    whole = bool((tally.sums == np.floor(tally.sums)).all()) and np.array_equal(tally.sums, tally.squares)
    if not (possible(tally.sums) and possible(tally.squares) and (whole or not tally.binary)):
        raise UsageError(f"{path}: sums that {tally.samples} samples of '{tally.map_name}' cannot have")
