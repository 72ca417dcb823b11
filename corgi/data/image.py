"""From an image file to a network input: read, pre-process, check. Nothing is ever resized silently."""

from __future__ import annotations

import io
import os
import struct
import tokenize
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from corgi.data.file import is_regular_file
from corgi.data.preprocess import Pixels, Recipe
from corgi.data.window import Window
from corgi.errors import ImageError, naming

InputArray = NDArray[np.float32]

FORMATS = ("PNG", "JPEG", "PPM")
"""Pillow's names of the picture formats corgi reads; `PPM` includes PGM and PBM."""

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

_BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, UserWarning)

# What numpy raises of a header that is Python, but not the right one; the parser's stack ends in MemoryError
# or RecursionError.
_BROKEN_ARRAY = (
    *_BROKEN_FILE,
    ArithmeticError,
    TypeError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
    RuntimeWarning,
)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees of an image file.

    Attributes:
        pixels: the network input [C, H, W], float32, in [0, 1].
        window: the part of the picture in the file that it shows.
    """

    pixels: InputArray
    window: Window


def load_input(
    path: Path,
    input_shape: tuple[int, int, int],
    recipe: Recipe | None,
    model_recipe: Recipe | None,
    *,
    content: bytes | None = None,
) -> InputArray:
    """The network input [C, H, W], float32, in [0, 1], that an image file stands for: see `look_at`."""
    return look_at(path, input_shape, recipe, model_recipe, content=content).pixels


@np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
def look_at(
    path: Path,
    input_shape: tuple[int, int, int],
    recipe: Recipe | None,
    model_recipe: Recipe | None,
    *,
    content: bytes | None = None,
) -> Seen:
    """The network input that an image file stands for, and where in the picture it comes from.

    A picture file goes through `recipe` if one is given, else through the model's own, else it is taken
    as it is. An NPY array that already has the network's shape counts as pre-processed: the model's
    own recipe is not applied to it again (an explicit `recipe` is). A grey picture is replicated for a
    3-channel network; colour becomes grey only by a recipe's `grey` step.

    Args:
        path: PNG, JPEG, PPM/PGM or NPY file.
        input_shape: C, H, W of the network input.
        recipe: what the user asked for; overrides `model_recipe`.
        model_recipe: what the model file carries.
        content: what was read of the file already; None to read it.

    Raises:
        ImageError: the file cannot be read, has values outside [0, 1], or its size or channels after
            pre-processing are not the network's.
    """
    content = read_content(path) if content is None else content
    _, height, width = input_shape
    with naming(path):
        if is_npy(path):
            array = _read_npy(content)
            ready = _as_input(array, input_shape)
            if ready is not None and recipe is None:
                return Seen(ready, Window.whole((height, width)))
            pixels = _as_picture(array, input_shape)
        else:
            pixels = _read_picture(content)
        picture = pixels.shape[0], pixels.shape[1]
        chosen = recipe if recipe is not None else model_recipe
        if chosen is not None:
            pixels = chosen.apply(pixels, (height, width))
        fitting = _fit(pixels, input_shape, chosen, model_recipe)
        return Seen(fitting, (chosen or Recipe()).window(picture, (height, width)))


def read_content(path: Path) -> bytes:
    """All bytes of an image file.

    Raises:
        ImageError: the file is missing, larger than any picture of `MAX_PIXELS`, or cannot be read.
    """
    with naming(path):
        if not is_regular_file(path):
            folder = os.path.isdir(path)  # noqa: PTH112 - never raises
            raise ImageError("a folder, expected an image file" if folder else "no such file")
        try:
            if path.stat().st_size > 8 * 3 * MAX_PIXELS:
                raise _too_large()
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read ({error})") from error


def read_image(path: Path) -> Pixels:
    """The pixels [H, W, C] in [0, 1] of a PNG, JPEG or PPM/PGM file, upright (EXIF orientation applied).

    Palettes are looked up, an alpha channel that hides nothing is dropped, 16-bit grey keeps its 16
    bits. Of a JPEG file with several pictures (MPO) the first is read. Colour profiles are not applied:
    networks are trained on the numbers in the file. Refused, because the pixels a network should see
    are not defined: transparency, CMYK, 16-bit colour (pillow reads only 8 of the bits),
    floating-point pictures, animations.

    Raises:
        ImageError: the file is missing, damaged, larger than `MAX_PIXELS`, or of a refused kind.
    """
    content = read_content(path)
    with naming(path):
        return _read_picture(content)


def _read_picture(content: bytes) -> Pixels:
    try:
        # Pillow only warns about a picture that is large enough to be an attack, or whose EXIF data it cannot
        # read and so not turn upright; corgi refuses it.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("error", UserWarning)
            with _opened(content) as image:
                _check_header(image)
                bits = _grey_bits(image)
                image.load()
                _refuse_key(image, bits)
                return _pixels(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    except UnidentifiedImageError:
        raise ImageError("not a PNG, JPEG or PPM file", hint="Convert it, or save an array as NPY.") from None
    except _BROKEN_FILE as error:
        raise ImageError(f"cannot be read ({error})", hint="The file may be damaged.") from error


def is_npy(path: Path) -> bool:
    """Whether a file is read as an array: its name decides, not its content."""
    return path.suffix.lower() == ".npy"


def _opened(content: bytes) -> Image.Image:
    """The picture, its pixels not yet decoded.

    A JPEG is opened as one: pillow would look for further pictures behind it (MPO, of cameras with two lenses
    and of phones), and what is broken there is no fault of the first.
    """
    file = io.BytesIO(content)
    return JpegImageFile(file) if content.startswith(b"\xff\xd8\xff") else Image.open(file, formats=FORMATS)


def _grey_bits(image: Image.Image) -> int:
    """Bits of a sample in the file, if the picture is grey; the decoder scales fewer than 8 up to 8."""
    codings = [str(tile.args) for tile in getattr(image, "tile", [])]
    return {"1": 1, "L;2": 2, "L;4": 4, "I;16B": 16}.get(codings[0] if codings else "", 8)


def _refuse_key(image: Image.Image, bits: int) -> None:
    """Refuse a grey or colour picture in which a pixel has the colour that stands for transparent (tRNS).

    A colour that no pixel has hides nothing, and is forgotten. PNG counts the key in samples of the file, and
    of those only as many bits as they have.

    Raises:
        ImageError: a pixel has it.
    """
    if image.mode == "P" or "transparency" not in image.info:
        return
    key = image.info.pop("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        hidden = (np.asarray(image) == np.array([part & 255 for part in key])).all(-1)
    elif image.mode == "1":
        hidden = np.asarray(image) == bool(key)
    elif isinstance(key, int) and (image.mode == "L" or image.mode.startswith("I")):
        largest = 2**bits - 1
        hidden = np.asarray(image) == (key & largest) * (1 if bits == 16 else 255 // largest)
    else:
        raise ImageError(f"a transparent colour {key} in a picture of pillow mode {image.mode}")
    if hidden.any():
        raise _transparent(f"{int(hidden.sum())} pixels of the colour that stands for transparent")


def _transparent(what: str) -> ImageError:
    return ImageError(
        f"has transparent pixels ({what}), whose colour is not defined",
        hint="Flatten it onto a background first.",
    )


def _too_large() -> ImageError:
    return ImageError(
        f"more than {MAX_PIXELS} pixels", hint="Scale the picture down before you hand it over."
    )


def _check_header(image: Image.Image) -> None:
    """Refuse by the header alone, before any pixel is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    if getattr(image, "n_frames", 1) > 1 and image.format == "PNG":
        raise ImageError(f"an animation of {getattr(image, 'n_frames', 1)} frames, expected one")
    codings = [tile.args for tile in getattr(image, "tile", [])]
    if image.mode != "I" and not image.mode.startswith("I;") and any(_is_16_bit(c) for c in codings):
        raise ImageError(
            "16-bit colour, which would lose half its bits",
            hint="Save it with 8 bits a channel, or as an NPY array of floats in [0, 1].",
        )


def _is_16_bit(coding: Any) -> bool:
    """Whether pillow's decoder arguments (PNG: a raw mode; PPM: raw mode and largest value) say so."""
    if isinstance(coding, tuple):
        return len(coding) == 2 and isinstance(coding[1], int) and coding[1] > 255
    return isinstance(coding, str) and ";16" in coding


def _pixels(image: Image.Image) -> Pixels:
    """Pixels [H, W, C] in [0, 1] of a decoded image."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        return _unit(np.asarray(image).astype(np.float64), 65535.0)[:, :, np.newaxis]
    if mode == "1":
        return np.asarray(image).astype(np.float64)[:, :, np.newaxis]
    if mode == "P" and np.asarray(image).max() >= len(image.getpalette() or ()) // 3:
        raise ImageError("has pixels of a colour its palette does not hold")
    if mode == "P":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() < 255:
            raise _transparent(f"alpha {alpha.min()} of 255")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if image.mode not in ("RGB", "L"):
        raise ImageError(
            f"pillow mode {mode}; expected RGB, grey, or a palette of them",
            hint="Convert the picture to RGB (a CMYK picture needs its colour profile for that).",
        )
    pixels = _unit(np.asarray(image).astype(np.float64), 255.0)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _unit(values: Pixels, largest: float) -> Pixels:
    # A product, not a quotient: bit-equal to skimage's img_as_float, on which recipes were computed.
    return values * (1.0 / largest)


def read_array(path: Path) -> NDArray[Any]:
    """The array of an NPY file, whatever its values.

    Raises:
        ImageError: missing, damaged, pickled, or too large.
    """
    content = read_content(path)
    with naming(path):
        return _load_npy(content)


def read_numbers(path: Path) -> NDArray[np.float64]:
    """An NPY file of finite numbers, which need be no pixels.

    Raises:
        ImageError: missing, damaged, pickled, too large, neither floats nor whole numbers, or one not finite.
    """
    array = read_array(path)
    with naming(path):
        if array.dtype.kind not in "fiu":
            raise ImageError(f"dtype {array.dtype}; expected numbers")
        found = array.astype(np.float64)
        if not np.isfinite(found).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
            raise ImageError(f"value {found[place]} at index {list(place)}; expected finite numbers")
    return found


def _read_npy(content: bytes) -> NDArray[Any]:
    """The array of an NPY file, its dtype kept.

    Raises:
        ImageError: see `_load_npy`; not uint8 or float, or a value that is not a pixel.
    """
    array = _load_npy(content)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ImageError(f"dtype {array.dtype}; expected uint8, or floats in [0, 1]")
    if array.dtype.kind == "f":
        outside = ~((array >= 0) & (array <= 1))  # NaN is outside as well
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            raise ImageError(
                f"value {array[place]} at index {list(place)}; expected floats in [0, 1]",
                hint="Divide 0..255 values by 255, or save them as uint8." if array[place] > 1 else None,
            )
    return array


def _load_npy(content: bytes) -> NDArray[Any]:
    """The array of an NPY file, whatever its numbers are.

    Raises:
        ImageError: damaged, pickled, empty or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            # A header that claims more than the file holds takes address space, no memory, before it fails.
            found = np.load(io.BytesIO(content), allow_pickle=False)
    except _BROKEN_ARRAY as error:
        raise ImageError(f"not a readable NPY array ({error})") from error
    if not isinstance(found, np.ndarray):
        raise ImageError("an archive of arrays, expected one NPY array")
    if found.size == 0:
        raise ImageError(f"an array of shape {list(found.shape)}, which has no pixel")
    if found.size > 3 * MAX_PIXELS:
        raise _too_large()
    array: NDArray[Any] = found
    return array


def _floats(array: NDArray[Any]) -> Pixels:
    values = array.astype(np.float64)
    return _unit(values, 255.0) if array.dtype == np.uint8 else values


def _as_input(array: NDArray[Any], input_shape: tuple[int, int, int]) -> InputArray | None:
    """The array as the network's input, when it has exactly that shape in some layout; else None.

    Case 1: [C, H, W].  Case 2: [1, C, H, W], a batch of one.  Case 3: [H, W, C].  Case 4: [H, W], C = 1.
    """
    channels, height, width = input_shape
    if array.shape == input_shape or array.shape == (1, *input_shape):
        values = array.reshape(input_shape)
    elif array.shape == (height, width, channels):
        values = array.transpose(2, 0, 1)
    elif channels == 1 and array.shape == (height, width):
        values = array[np.newaxis]
    else:
        return None
    return np.ascontiguousarray(_floats(values), dtype=np.float32)


def _as_picture(array: NDArray[Any], input_shape: tuple[int, int, int]) -> Pixels:
    """Pixels [H, W, C] of an array in either layout.

    The network's own shape decides first, then the only axis that can be a channel axis (length 1 or 3).
    """
    if array.shape in (input_shape, (1, *input_shape)):
        return _floats(array.reshape(input_shape)).transpose(1, 2, 0)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return _floats(array)[:, :, np.newaxis]
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3), array.shape[2] in (1, 3)
        if last and (not first or array.shape == (*input_shape[1:], input_shape[0])):
            return _floats(array)
        if first and not last:
            return _floats(array).transpose(1, 2, 0)
    raise ImageError(
        f"array of shape {list(array.shape)}; the network takes {list(input_shape)} (C, H, W)",
        hint="Expected a layout C, H, W or H, W, C with 1 or 3 channels.",
    )


def _fit(
    pixels: Pixels, input_shape: tuple[int, int, int], recipe: Recipe | None, model_recipe: Recipe | None
) -> InputArray:
    """The pre-processed picture as network input [C, H, W], or the error that says what does not fit."""
    channels, height, width = input_shape
    *size, found = pixels.shape
    if size != [height, width]:
        applied = f" after `{recipe}`" if recipe is not None and recipe.steps else ""
        raise ImageError(
            f"{_wide(size)} pixels{applied}, but the network takes {_wide([height, width])} (width x height)",
            hint=_size_hint(recipe, model_recipe),
        )
    if found == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, axis=2)
    elif found != channels:
        hint = "Add the `grey` step: `--preprocess grey`, or `grey` in front of your recipe."
        raise ImageError(
            f"{found} channels, but the network takes {channels}",
            hint=hint if (found, channels) == (3, 1) else "Hand over an NPY array of its shape.",
        )
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)


def _wide(size: list[int]) -> str:
    return f"{size[1]} x {size[0]}"


def _size_hint(recipe: Recipe | None, model_recipe: Recipe | None) -> str:
    steps = recipe.steps if recipe is not None else ()
    resize = Recipe((*(step for step in steps if step != "resize"), "resize"))
    if model_recipe is None or not model_recipe.steps or model_recipe == recipe:
        return f"Use `--preprocess {resize}`."
    return f"Use the model's own recipe, `--preprocess {model_recipe}`, or `--preprocess {resize}`."
