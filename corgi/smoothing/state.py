"""A tally in a file (NPZ), so that sampling can go on later."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from pydantic import BaseModel, FiniteFloat, NonNegativeInt, PositiveInt

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.noise import Noise
from corgi.smoothing.tally import Tally

VERSION = 1


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
    samples: NonNegativeInt
    looks: NonNegativeInt


def state_bytes(tally: Tally) -> bytes:
    """A tally as an NPZ file."""
    described = _Described.model_construct(
        version=VERSION,
        map_name=tally.map_name,
        map_shape=tally.map_shape,
        binary=tally.binary,
        subject=tally.subject,
        sigma=tally.noise.sigma,
        shape=tally.noise.shape,
        seed=tally.noise.seed,
        inputs=tally.inputs,
        samples=tally.samples,
        looks=tally.looks,
    )
    target = io.BytesIO()
    text = np.array(described.model_dump_json())
    np.savez(target, described=text, sums=tally.sums, squares=tally.squares)
    return target.getvalue()


def read_state(path: Path) -> Tally:
    """The tally of a file.

    Raises:
        UsageError: it cannot be read, is of another version, or holds sums no samples can have.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            described = _Described.model_validate_json(str(file["described"]))
            sums, squares = (np.asarray(file[name], dtype=np.float64) for name in ("sums", "squares"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{path}: no saved counts of corgi: {reason}", hint="Name another file with --state."
        ) from error
    if described.version != VERSION:
        raise UsageError(f"{path}: saved counts of version {described.version}, expected {VERSION}")
    tally = Tally(
        map_name=described.map_name,
        map_shape=described.map_shape,
        binary=described.binary,
        subject=described.subject,
        noise=Noise(described.sigma, described.shape, described.seed),
        inputs=described.inputs,
        samples=described.samples,
        sums=sums,
        squares=squares,
        looks=described.looks,
    )
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
        expected = (tally.map_shape[0] * tally.map_shape[1],)
        return values.shape == expected and bool(
            ((values >= 0) & (values <= tally.samples)).all()
        )  # never NaN

    counts = np.array_equal(tally.sums, np.floor(tally.sums)) and np.array_equal(tally.sums, tally.squares)
    if not (possible(tally.sums) and possible(tally.squares) and (counts or not tally.binary)):
        raise UsageError(f"{path}: sums that {tally.samples} samples of '{tally.map_name}' cannot have")
