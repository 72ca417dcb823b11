"""Hostile images: every one is to be refused with one line, whatever it claims to be."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (8, 8)
RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
FLOATS = RNG.random((3, *SIZE), dtype=np.float32)


def saved(array: NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    picture, target = Image.fromarray(array), io.BytesIO()
    (picture.convert(mode) if mode else picture).save(target, kind, **options)
    return target.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes, interlace: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = b"".join(
        (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def npy(array: NDArray[Any], **options: Any) -> bytes:
    target = io.BytesIO()
    np.save(target, array, **options)
    return target.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0), data: bytes = bytes(768)) -> bytes:
    """An NPY file with a header of one's own."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode("latin-1") + data


def described(shape: str = "(3, 8, 8)", descr: str = "'<f4'", order: str = "False") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n")


def with_value(value: float) -> bytes:
    array = FLOATS.copy()
    array[1, 2, 3] = value
    return npy(array)


def frames(kind: str) -> bytes:
    first, second, target = Image.fromarray(RGB), Image.fromarray(255 - RGB), io.BytesIO()
    first.save(target, kind, save_all=True, append_images=[second])
    return target.getvalue()


def archive() -> bytes:
    target = io.BytesIO()
    np.savez(target, a=FLOATS)
    return target.getvalue()


def zip_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("a.npy", described() + bytes(10**7))
    return target.getvalue()


def files() -> Iterator[tuple[str, bytes]]:
    """File name -> content; the network takes 3 x 8 x 8."""
    good, grey = saved(RGB, "PNG"), saved(RGB[:, :, 0], "PNG")
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    large = {kind: saved(noise, kind) for kind in ("PNG", "JPEG", "PPM")}

    for name, content in {
        "empty": b"",
        "text": b"not a picture\n",
        "zeros": bytes(999),
        "noise": RNG.bytes(999),
        "signature": good[:8],
        "html": b"<html></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        "pdf": b"%PDF-1.7\n",
        "zip": archive(),
        "pickle": b"\x80\x04cos\nsystem\n(S'echo owned'\ntR.",
    }.items():
        yield f"{name}.png", content
        yield f"{name}.npy", content
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "ICO"):
        yield f"other-{kind}.png", saved(RGB, kind)
    yield "animated.gif", frames("GIF")
    yield "animated.png", frames("PNG")
    yield "many-frames.png", png(8, 8, 8, 2, bytes(200), chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)))
    for kind, content in large.items():
        for share in (0.01, 0.2, 0.5, 0.9):
            yield f"cut-{share}.{kind.lower()}", content[: int(share * len(content))]
    for i in range(0, 60, 4):
        damaged = bytearray(good)
        damaged[8 + i] ^= 0x55
        yield f"flipped-{i}.png", bytes(damaged)
    yield "no-data.png", good[:33] + chunk(b"IEND", b"")
    yield "size-0.png", png(0, 0, 8, 2, b"")
    yield "size-0-wide.png", png(8, 0, 8, 2, b"")
    yield "size-1.png", png(1, 1, 8, 2, bytes(4))
    yield "size-9.png", png(9, 8, 8, 2, bytes(28 * 8))
    yield "bomb.png", png(60_000, 60_000, 8, 2, b"\0")
    yield "bomb-largest.png", png(2**31 - 1, 2**31 - 1, 8, 2, b"\0")
    yield "bomb-wide.png", png(2**31 - 1, 1, 1, 0, b"\0")
    yield "bomb-grey.png", png(7_001, 7_200, 1, 0, bytes(877 * 7_200))
    yield (
        "bomb-text.png",
        png(8, 8, 8, 2, bytes(200), *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))] * 4),
    )
    yield (
        "bomb-profile.png",
        png(9, 8, 8, 2, bytes(28 * 8), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))),
    )
    yield "bomb.ppm", b"P6 99999 99999 255\n"
    yield "bomb-huge.ppm", b"P6 " + b"9" * 30 + b" 1 255\n"
    yield "bomb.jpg", sized_jpeg(65_500, 65_500)
    for name, content in {
        "negative": b"P6 -8 -8 255\n",
        "zero": b"P6 0 0 255\n",
        "no-maximum": b"P6 8 8 0\n" + bytes(192),
        "large-maximum": b"P6 8 8 65536\n" + bytes(192),
        "short": b"P6 8 8 255\n" + bytes(191),
        "comment": b"P6 8 8 #" + b"x" * 10**6,
        "words": b"P6 eight eight 255\n",
        "plain": b"P3 8 8 255\n1 2 x",
        "plain-large": b"P3 8 8 255\n" + b"999 " * 192,
        "deep": b"P6 8 8 65535\n" + bytes(384),
        "float": b"Pf\n8 8\n-1.0\n" + bytes(256),
        "arbitrary": b"P7\nWIDTH 8\nENDHDR\n",
    }.items():
        yield f"{name}.ppm", content
    yield "channels-2.png", saved(np.dstack([RGB[:, :, 0], np.full(SIZE, 9, np.uint8)]), "PNG")
    yield "transparent.png", saved(np.dstack([RGB, np.full(SIZE, 9, np.uint8)]), "PNG")
    yield "deep-colour.png", png(8, 8, 16, 2, bytes(49 * 8))
    yield "depth-3.png", png(8, 8, 3, 2, bytes(200))
    yield "colour-5.png", png(8, 8, 8, 5, bytes(200))
    yield "palette-missing.png", png(8, 8, 8, 3, bytes(72))
    yield "palette-short.png", png(8, 8, 8, 3, (b"\0" + b"\xff" * 8) * 8, chunk(b"PLTE", b"\1\2\3"))
    yield (
        "transparent-palette.png",
        png(8, 8, 8, 3, bytes(72), chunk(b"PLTE", b"\1\2\3"), chunk(b"tRNS", b"\0")),
    )
    yield "filter-9.png", png(8, 8, 8, 2, (b"\x09" + bytes(24)) * 8)
    yield "interlace-9.png", png(8, 8, 8, 2, bytes(200), interlace=9)
    yield "rows-short.png", png(8, 8, 8, 2, bytes(60))
    yield "cmyk.jpg", saved(RGB, "JPEG", "CMYK")
    yield "turned.jpg", turned(6)
    yield "exif-broken.jpg", saved(RGB, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    yield (
        "exif-loop.jpg",
        saved(
            RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\0\0\0\0\x08\0\0\0"
        ),
    )

    # Arrays.
    yield "objects.npy", npy(np.array([{}], dtype=object), allow_pickle=True)
    yield "objects-shape.npy", described(descr="'|O'")
    yield "archive.npy", archive()
    yield "zip-bomb.npy", zip_bomb()
    for value in (np.nan, np.inf, -np.inf, -1e-6, 1.0001, 255.0, 1e38):
        yield f"value-{value}.npy", with_value(value)
    yield "value-nan-half.npy", npy(np.full((3, *SIZE), np.nan, np.float16))
    yield "value-nan-big-endian.npy", npy(np.full((3, *SIZE), np.nan, ">f8"))
    for dtype in ("int64", "int8", "bool", "complex64", "U3", "S3", "M8[s]", "uint16", "V4"):
        yield f"dtype-{dtype}.npy", npy(np.zeros((3, *SIZE), dtype))
    yield "dtype-record.npy", npy(np.zeros((3, *SIZE), [("a", "f4"), ("b", "f4")]))
    for shape in (
        (),
        (7,),
        (0,),
        (3, 0, 8),
        (192,),
        (2, 3, 8, 8),
        (1, 1, 3, 8, 8),
        (4, 8, 8),
        (3, 8, 9),
        (8, 3, 8),
        (1,) * 32,
    ):
        yield f"shape-{'x'.join(map(str, shape))}.npy", npy(np.zeros(shape, np.float32))
    for name, text in {
        "huge": "(4611686018427387904, 4, 4)",
        "wraps": "(4294967296, 4294967296, 3)",
        "beyond": f"({2**70},)",
        "negative": "(-3, 8, 8)",
        "float": "(3.0, 8, 8)",
        "text": "'3'",
        "true": "(True, 8, 8)",
        "list": "[3, 8, 8]",
        "none": "None",
        "more": "(3, 8, 9)",
        "nested": "((3, 8), 8)",
        "many": f"({'1,' * 100})",
        "digits": f"({'9' * 4000},)",
        "call": "__import__('os').getpid()",
    }.items():
        yield f"header-shape-{name}.npy", described(text)
    for name, text in {
        "unknown": "'<q9'",
        "none": "None",
        "wide": "'<f1000000'",
        "text": "'<U1000000000'",
        "list": "[('a', '<f4', (2147483647,))]",
        "number": "4",
        "align": "{'names': ['a'], 'formats': ['f4'], 'offsets': [-4]}",
        "minus": "-'<f4'",
        "half": "'<f2",
        "void": "'|V0'",
        "objects": "[('a', '|O')]",
        "long-double": "'<f16'",
    }.items():
        yield f"header-type-{name}.npy", described(descr=text)
    yield "header-order.npy", described(order="'maybe'")
    for name, text in {
        "empty": "",
        "text": "hello",
        "open": "{",
        "brackets": "(" * 9000,
        "lists": "[" * 150 + "]" * 150,
        "minus": "-" * 9000 + "1",
        "minus-fewer": "-" * 3000 + "1",
        "sum": "1" + "+1" * 4000,
        "not": "not " * 2000 + "1",
        "dots": "a" + ".a" * 4000,
        "long": "{" + " " * 60_000 + "}",
        "python-2": "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 8L, 8L",
        "nul": "\0",
        "keys": "{'descr': '<f4'}",
        "quote": "'''",
        "indent": "{}\n  {}\n {}",
        "escape": "\x1b[2J\x07",
    }.items():
        yield f"header-{name}.npy", header(text)
    yield "header-version-9.npy", header("{}", (9, 0))
    yield "header-size.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"
    for end in (3, 6, 8, 9, 40, 100, 128, 200):
        yield f"cut-{end}.npy", npy(FLOATS)[:end]
    yield "escape\x1b[2J\n.png", b"text"
    yield f"grey-{len(grey)}-alpha.png", saved(np.dstack([RGB[:, :, 0], np.zeros(SIZE, np.uint8)]), "PNG")


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(np.zeros((8, 16, 3), np.uint8), "JPEG", exif=exif)


def sized_jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    content = bytearray(saved(RGB, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def with_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name -> a path that is no regular file."""
    for ending in (".png", ".npy"):
        os.mkfifo(folder / f"pipe{ending}")
        yield f"fifo{ending}", folder / f"pipe{ending}"
        (folder / f"folder{ending}").mkdir()
        yield f"folder{ending}", folder / f"folder{ending}"
        (folder / f"loop{ending}").symlink_to(f"loop{ending}")
        yield f"loop{ending}", folder / f"loop{ending}"
        yield f"missing{ending}", folder / f"nobody{ending}"
        yield f"long{ending}", folder / ("n" * 300 + ending)
        with (folder / f"sparse{ending}").open("wb") as file:
            file.truncate(2**40)
        yield f"sparse{ending}", folder / f"sparse{ending}"
        (folder / f"zero{ending}").symlink_to("/dev/zero")
        yield f"zero{ending}", folder / f"zero{ending}"
        (folder / f"mem{ending}").symlink_to("/proc/self/mem")
        yield f"mem{ending}", folder / f"mem{ending}"
