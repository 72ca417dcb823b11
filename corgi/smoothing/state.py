"""A tally in a file (NPZ), so that sampling can go on later."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, FiniteFloat, NonNegativeInt, PositiveInt

from corgi.errors import UsageError
from corgi.smoothing.noise import Noise
from corgi.smoothing.tally import Tally

VERSION = 3
"""Of the file, and of what noise and base maps compute: sums of two functions must never be added.

Raise it when any of them changes.
"""


_ARRAYS = ("sums", "squares", "rung_sums", "rung_squares")


class _Described(BaseModel):
    """All of a tally but its sums, as the file holds it in JSON."""

    version: int = VERSION
    map_name: str
    map_shape: tuple[PositiveInt, PositiveInt]
    binary: bool
    subject: str
    sigma: FiniteFloat
    shape: FiniteFloat
    seed: NonNegativeInt
    inputs: PositiveInt
    batch: PositiveInt = 1  # not in files of versions that are refused
    samples: NonNegativeInt
    spent: str


_DESCRIBED = tuple(name for name in _Described.model_fields if name != "version")
_NOISE = ("sigma", "shape", "seed")
"""Of these, the fields of the noise."""


def state_bytes(tally: Tally) -> bytes:
    """A tally as an NPZ file."""
    flat = {name: getattr(tally.noise if name in _NOISE else tally, name) for name in _DESCRIBED}
    described = _Described.model_construct(version=VERSION, **flat)
    target = io.BytesIO()
    text = np.array(described.model_dump_json())
    np.savez(target, described=text, **{name: getattr(tally, name) for name in _ARRAYS})
    return target.getvalue()


def read_state(path: Path) -> Tally:
    """The tally of a file.

    Raises:
        UsageError: it cannot be read, is of another version, or holds sums no samples can have.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            described = _Described.model_validate_json(str(file["described"]))
            arrays = {name: np.asarray(file[name], dtype=np.float64) for name in _ARRAYS}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{path}: no saved counts of corgi: {reason}", hint="Name another file with --state."
        ) from error
    if described.version != VERSION:
        raise UsageError(f"{path}: saved counts of version {described.version}, expected {VERSION}")
    flat: dict[str, Any] = {name: getattr(described, name) for name in _DESCRIBED} | arrays
    noise = Noise(**{name: flat.pop(name) for name in _NOISE})
    tally = Tally(noise=noise, **flat)
    _check_sums(tally, path)
    return tally


def _check_sums(tally: Tally, path: Path) -> None:
    expected = (tally.map_shape[0] * tally.map_shape[1],)

    def possible(some: Tally) -> bool:
        for values in (some.sums, some.squares):
            if values.shape != expected or not ((values >= 0) & (values <= some.samples)).all():  # never NaN
                return False
        counts = np.array_equal(some.sums, np.floor(some.sums)) and np.array_equal(some.sums, some.squares)
        return counts or not some.binary

    rung = tally.at_rung()
    # What was added since then is not negative, and neither is its rounded sum.
    if not (possible(tally) and possible(rung) and (rung.sums <= tally.sums).all()):
        raise UsageError(f"{path}: sums that {tally.samples} samples of '{tally.map_name}' cannot have")
