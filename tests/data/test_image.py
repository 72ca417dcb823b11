import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from corgi.data import image as image_module
from corgi.data.image import load_input, read_image
from corgi.data.preprocess import Recipe
from corgi.errors import ImageError

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
GREY = RGB[:, :, 0]
FLOATS = np.random.default_rng(1).random((3, 6, 5)).astype(np.float32)
SHAPE = (3, 6, 5)


def saved(tmp_path, array, name="image.png", mode=None, **options):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(tmp_path / name, **options)
    return tmp_path / name


def saved_npy(tmp_path, array, name="image.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def png(width, height, depth, colour, rows, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = (
        chunk(b"IHDR", header)
        + b"".join(chunk(*each) for each in chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


# Pictures


@pytest.mark.parametrize("name", ["image.png", "image.ppm", "IMAGE.PNG"])
def test_lossless_formats_are_read_exactly(tmp_path, name):
    picture = read_image(saved(tmp_path, RGB, name))
    assert picture.dtype == np.float64
    assert np.array_equal(picture, RGB * (1 / 255))


def test_jpeg_is_close(tmp_path):
    flat = np.full((16, 16, 3), 120, np.uint8)
    assert read_image(saved(tmp_path, flat, "image.jpg")) == pytest.approx(120 / 255, abs=0.02)


def test_jpeg_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = saved(tmp_path, np.zeros((8, 16, 3), np.uint8), "image.jpg", exif=exif)
    assert read_image(path).shape[:2] == (16, 8)


def test_grey_has_one_channel(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path, GREY))[:, :, 0], GREY * (1 / 255))


def test_palette_is_looked_up(tmp_path):
    picture = read_image(saved(tmp_path, np.where(RGB > 127, 255, 0).astype(np.uint8), mode="P"))
    assert np.array_equal(picture, np.where(RGB > 127, 1.0, 0.0))


def test_black_and_white(tmp_path):
    path = saved(tmp_path, np.where(GREY > 127, 255, 0).astype(np.uint8), mode="1")
    assert np.array_equal(read_image(path)[:, :, 0], np.where(GREY > 127, 1.0, 0.0))


@pytest.mark.parametrize("name", ["image.png", "image.pgm"])
def test_16_bit_grey_keeps_its_bits(tmp_path, name):
    deep = np.array([[0, 1, 40001, 65535]], np.uint16)
    assert read_image(saved(tmp_path, deep, name))[:, :, 0] == pytest.approx(deep / 65535, abs=1e-12)


def test_opaque_alpha_is_dropped(tmp_path):
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    assert np.array_equal(read_image(saved(tmp_path, opaque)), RGB * (1 / 255))


def test_transparency_is_refused(tmp_path):
    clear = np.dstack([RGB, np.full(RGB.shape[:2], 9, np.uint8)])
    with pytest.raises(ImageError, match="alpha 9 of 255"):
        read_image(saved(tmp_path, clear))


def test_cmyk_is_refused(tmp_path):
    with pytest.raises(ImageError, match="CMYK"):
        read_image(saved(tmp_path, RGB, "image.jpg", mode="CMYK"))


@pytest.mark.parametrize("name", ["image.png", "image.ppm"])
def test_16_bit_colour_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(png(2, 1, 16, 2, bytes(13)) if name == "image.png" else b"P6 2 1 65535\n" + bytes(12))
    with pytest.raises(ImageError, match="16-bit colour"):
        read_image(path)


def test_large_pictures_are_refused_by_their_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000, 8, 2, b"\0"))
    with pytest.raises(ImageError, match=r"bomb\.png: more than \d+ pixels"):
        read_image(path)


def test_the_pixel_limit_is_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "MAX_PIXELS", 29)
    with pytest.raises(ImageError, match="more than 29 pixels"):
        read_image(saved(tmp_path, RGB))


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.ppm"])
def test_truncated_files_are_named(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(tmp_path, noise, name)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match=name):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"P6 x", b"GIF89a"])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.png"):
        read_image(path)


@pytest.mark.parametrize("name", ["gone.png", "gone.npy"])
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(ImageError, match=rf"{name}: no such file"):
        load_input(tmp_path / name, SHAPE, None, None)


def test_a_folder_is_not_a_picture(tmp_path):
    with pytest.raises(ImageError, match="a folder"):
        read_image(tmp_path)


# Network inputs


def test_a_picture_of_the_right_size_needs_no_recipe(tmp_path):
    loaded = load_input(saved(tmp_path, RGB), SHAPE, None, None)
    assert loaded.dtype == np.float32
    assert loaded.flags.c_contiguous
    assert np.array_equal(loaded, (RGB * (1 / 255)).transpose(2, 0, 1).astype(np.float32))


def test_the_models_recipe_is_used_and_the_flag_overrides_it(tmp_path):
    path = saved(tmp_path, RGB)
    equalized = load_input(path, SHAPE, None, Recipe.parse("equalize-value"))
    plain = load_input(path, SHAPE, Recipe.parse("none"), Recipe.parse("equalize-value"))
    assert not np.array_equal(equalized, plain)
    assert np.array_equal(plain, load_input(path, SHAPE, None, None))


def test_another_size_is_never_resized_silently(tmp_path):
    with pytest.raises(ImageError) as caught:
        load_input(saved(tmp_path, RGB), (3, 8, 9), None, None)
    assert "5 x 6" in str(caught.value)
    assert "9 x 8" in str(caught.value)
    assert "--preprocess resize" in str(caught.value)


def test_another_size_proposes_the_models_own_recipe(tmp_path):
    with pytest.raises(ImageError, match="--preprocess center-crop,resize`, or `--preprocess resize`"):
        load_input(saved(tmp_path, RGB), (3, 8, 9), Recipe(), Recipe.parse("center-crop,resize"))


def test_the_proposal_works(tmp_path):
    path = saved(tmp_path, RGB)
    with pytest.raises(ImageError, match="--preprocess center-crop,resize"):
        load_input(path, (3, 8, 9), Recipe.parse("center-crop"), None)
    assert load_input(path, (3, 8, 9), Recipe.parse("center-crop,resize"), None).shape == (3, 8, 9)


def test_grey_is_replicated_for_a_colour_network(tmp_path):
    loaded = load_input(saved(tmp_path, GREY), SHAPE, None, None)
    assert np.array_equal(loaded, np.repeat(loaded[:1], 3, axis=0))


def test_colour_needs_a_grey_step(tmp_path):
    path = saved(tmp_path, RGB)
    with pytest.raises(ImageError, match=r"(?s)3 channels.*takes 1.*grey"):
        load_input(path, (1, 6, 5), None, None)
    assert load_input(path, (1, 6, 5), Recipe.parse("grey"), None).shape == (1, 6, 5)


def test_a_picture_does_not_fit_four_channels(tmp_path):
    with pytest.raises(ImageError, match="takes 4"):
        load_input(saved(tmp_path, RGB), (4, 6, 5), None, None)


# Arrays


@pytest.mark.parametrize("array", [FLOATS, FLOATS[np.newaxis], FLOATS.transpose(1, 2, 0)])
def test_an_array_of_the_networks_shape_is_taken_as_it_is(tmp_path, array):
    loaded = load_input(saved_npy(tmp_path, array), SHAPE, None, Recipe.parse("gtsrb"))
    assert np.array_equal(loaded, FLOATS)


def test_an_explicit_recipe_is_applied_to_it(tmp_path):
    loaded = load_input(saved_npy(tmp_path, FLOATS), SHAPE, Recipe.parse("equalize-value"), None)
    assert not np.array_equal(loaded, FLOATS)


@pytest.mark.parametrize("array", [RGB, RGB.transpose(2, 0, 1)])
def test_uint8_counts_to_255(tmp_path, array):
    loaded = load_input(saved_npy(tmp_path, array), SHAPE, None, None)
    assert np.array_equal(loaded, (RGB * (1 / 255)).transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0)])
def test_arrays_of_another_size_are_pictures_in_either_layout(tmp_path, axes):
    path = saved_npy(tmp_path, FLOATS.transpose(axes))
    with pytest.raises(ImageError, match="5 x 6 pixels, but the network takes 9 x 8"):
        load_input(path, (3, 8, 9), None, None)
    expected = load_input(saved_npy(tmp_path, FLOATS, "chw.npy"), (3, 8, 9), Recipe.parse("resize"), None)
    assert np.array_equal(load_input(path, (3, 8, 9), None, Recipe.parse("resize")), expected)


def test_a_flat_array_is_grey(tmp_path):
    path = saved_npy(tmp_path, FLOATS[0])
    assert np.array_equal(load_input(path, (1, 6, 5), None, None), FLOATS[:1])
    assert load_input(path, SHAPE, None, None).shape == SHAPE


def test_other_channel_counts_pass_when_the_shape_is_the_networks(tmp_path):
    array = np.zeros((4, 6, 5), np.float32)
    assert load_input(saved_npy(tmp_path, array), (4, 6, 5), None, None).shape == (4, 6, 5)


@pytest.mark.parametrize("shape", [(7,), (3, 7, 3), (2, 6, 5), (2, 3, 6, 5), (0, 4, 3), ()])
def test_arrays_that_are_no_picture_are_refused(tmp_path, shape):
    for recipe in (None, Recipe.parse("center-crop,resize")):
        with pytest.raises(ImageError, match=r"image\.npy"):
            load_input(saved_npy(tmp_path, np.zeros(shape)), SHAPE, recipe, None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001, 255.0])
def test_the_offending_value_is_named(tmp_path, value):
    array = FLOATS.copy()
    array[1, 2, 3] = value
    with pytest.raises(ImageError, match=r"index \[1, 2, 3\]") as caught:
        load_input(saved_npy(tmp_path, array), SHAPE, None, None)
    assert f"{np.float32(value)}" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64, np.uint16])
def test_other_dtypes_are_refused(tmp_path, dtype):
    with pytest.raises(ImageError, match=np.dtype(dtype).name):
        load_input(saved_npy(tmp_path, np.zeros(SHAPE, dtype)), SHAPE, None, None)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "image.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="not a readable NPY array"):
        load_input(tmp_path / "image.npy", SHAPE, None, None)


def test_archives_are_refused(tmp_path):
    np.savez(tmp_path / "image.npz", a=FLOATS)
    path = (tmp_path / "image.npz").rename(tmp_path / "image.npy")
    with pytest.raises(ImageError, match="archive"):
        load_input(path, SHAPE, None, None)


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    path = saved_npy(tmp_path, FLOATS)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(3, 6, 5)", b"(9999999, 9999, 9999)")[: len(content)])
    with pytest.raises(ImageError, match="not a readable NPY array"):
        load_input(path, SHAPE, None, None)


def one_row(path, bits, colour, row, width, *chunks):
    """A PNG of one row: pillow writes no grey of 2 or 4 bits with a transparent colour."""
    path.write_bytes(png(width, 1, bits, colour, b"\0" + row, *chunks))
    return path


@pytest.mark.parametrize(
    ("bits", "row", "width", "used", "unused"),
    [
        (1, b"\x00", 8, 0, 1),
        (2, b"\x05", 4, 1, 3),
        (4, b"\x12", 2, 2, 9),
        (8, b"\x01\x80", 2, 128, 7),
        (16, b"\x01\x02\x03\x04", 2, 0x0102, 0x0103),
    ],
)
def test_a_transparent_grey_is_refused_where_a_pixel_has_it(tmp_path, bits, row, width, used, unused):
    plain = read_image(one_row(tmp_path / "plain.png", bits, 0, row, width))
    assert plain.shape == (1, width, 1)
    key = (b"tRNS", struct.pack(">H", unused))
    assert np.array_equal(read_image(one_row(tmp_path / "unused.png", bits, 0, row, width, key)), plain)
    key = (b"tRNS", struct.pack(">H", used))
    with pytest.raises(ImageError, match="transparent"):
        read_image(one_row(tmp_path / "used.png", bits, 0, row, width, key))


def test_a_transparent_colour_as_well(tmp_path):
    row = b"\x01\x02\x03\x04\x05\x06"
    plain = read_image(one_row(tmp_path / "plain.png", 8, 2, row, 2))
    key = (b"tRNS", struct.pack(">HHH", 1, 2, 6))
    assert np.array_equal(read_image(one_row(tmp_path / "unused.png", 8, 2, row, 2, key)), plain)
    with pytest.raises(ImageError, match="transparent"):
        read_image(one_row(tmp_path / "used.png", 8, 2, row, 2, (b"tRNS", struct.pack(">HHH", 4, 5, 6))))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_entry_of_a_palette_is_refused_where_a_pixel_has_it(tmp_path, bits):
    palette = (b"PLTE", bytes(range(6)))
    opaque = one_row(tmp_path / "unused.png", bits, 3, b"\0", 1, palette, (b"tRNS", b"\xff\x00"))
    assert np.array_equal(read_image(opaque)[0, 0] * 255, [0, 1, 2])
    with pytest.raises(ImageError, match="transparent"):
        read_image(one_row(tmp_path / "used.png", bits, 3, b"\0", 1, palette, (b"tRNS", b"\x00")))


def test_what_is_broken_behind_the_first_picture_of_an_mpo_does_not_matter(tmp_path):
    first, second = io.BytesIO(), io.BytesIO()
    picture = Image.fromarray(RGB)
    picture.save(first, "MPO", save_all=True, append_images=[picture])
    picture.save(second, "JPEG")
    content = first.getvalue()
    expected = read_image(saved(tmp_path, RGB, "plain.jpg"))
    index, behind = content.index(b"MPF\0") + 4, content.rindex(b"\xff\xd8\xff")
    for number, (start, stop) in enumerate(
        [(index, index + 8), (index + 8, index + 60), (behind, len(content))]
    ):
        for value in (0, 255):
            path = tmp_path / f"{number}{value}.jpg"
            path.write_bytes(content[:start] + bytes([value]) * (stop - start) + content[stop:])
            assert np.array_equal(read_image(path), expected)
    (tmp_path / "cut.jpg").write_bytes(content[: behind + 20])
    assert np.array_equal(read_image(tmp_path / "cut.jpg"), expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_other_formats_are_named_whatever_their_ending(tmp_path, kind):
    path = tmp_path / "image.png"
    picture = Image.fromarray(RGB)
    picture.save(path, kind, save_all=True, append_images=[picture.rotate(90)])
    with pytest.raises(ImageError, match="not a PNG, JPEG or PPM file"):
        read_image(path)


def test_an_animated_png_is_refused(tmp_path):
    picture = Image.fromarray(RGB)
    picture.save(tmp_path / "image.png", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    with pytest.raises(ImageError, match="animation of 2 frames"):
        read_image(tmp_path / "image.png")


def test_a_colour_profile_is_not_applied(tmp_path):
    picture, profile = Image.fromarray(RGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture.save(tmp_path / "image.png", icc_profile=profile)
    plain = saved(tmp_path, RGB, "plain.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), read_image(plain))
