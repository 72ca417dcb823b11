import numpy as np
import pytest

from corgi.data.image import load_input, read_image
from corgi.data.preprocess import GTSRB, Recipe
from corgi.errors import UsageError


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, channels))


def test_reproduces_the_papers_preprocessing_exactly(data_dir):
    ours = load_input(data_dir / "corgi_paper" / "image_496.ppm", (3, 48, 48), GTSRB, None)
    assert np.abs(ours - np.load(data_dir / "corgi_paper" / "image_496.npy")).max() == 0.0


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("none", ()),
        ("resize", ("resize",)),
        ("gtsrb", ("equalize-value", "center-crop", "resize")),
        (" grey , gtsrb", ("grey", "equalize-value", "center-crop", "resize")),
    ],
)
def test_parse_and_print_are_inverse(text, steps):
    recipe = Recipe.parse(text)
    assert recipe.steps == steps
    assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize("text", ["", "sharpen", "resize,", "none,resize"])
def test_unknown_steps_are_named(text):
    with pytest.raises(UsageError):
        Recipe.parse(text)


def test_error_lists_the_known_steps():
    with pytest.raises(UsageError, match=r"(?s)'sharpen'.*center-crop.*gtsrb"):
        Recipe.parse("sharpen")


def test_none_changes_nothing():
    image = picture(5, 7)
    assert np.array_equal(Recipe.parse("none").apply(image, (48, 48)), image)


@pytest.mark.parametrize(("size", "side"), [((6, 10), 6), ((11, 7), 6), ((1, 9), 1), ((2, 2), 2)])
def test_crop_is_the_central_square(size, side):
    image = picture(*size)
    cropped = Recipe.parse("center-crop").apply(image, (48, 48))
    assert cropped.shape == (side, side, 3)
    row, column = size[0] // 2 - side // 2, size[1] // 2 - side // 2
    assert np.array_equal(cropped, image[row : row + side, column : column + side])


def test_crop_comes_out_of_the_middle():
    pixels = np.zeros((4, 9, 1))
    pixels[:, 2:6] = 1
    assert Recipe.parse("center-crop").apply(pixels, (4, 4)).min() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_gtsrb_makes_the_network_size_and_stays_in_the_box(channels):
    done = Recipe.parse("gtsrb").apply(picture(31, 40, channels), (16, 16))
    assert done.shape == (16, 16, channels)
    assert done.min() >= 0
    assert done.max() <= 1


def test_equalising_a_grey_picture_is_equalising_its_value():
    grey = picture(20, 20, 1)
    colour = np.repeat(grey, 3, axis=2)
    recipe = Recipe.parse("equalize-value")
    assert recipe.apply(colour, (1, 1)) == pytest.approx(
        np.repeat(recipe.apply(grey, (1, 1)), 3, axis=2), abs=1e-12
    )


def test_grey_gives_one_channel_and_leaves_grey_alone(tmp_path):
    recipe = Recipe.parse("grey")
    assert recipe.apply(picture(4, 5), (1, 1)).shape[2] == 1
    grey = picture(4, 5, 1)
    assert np.array_equal(recipe.apply(grey, (1, 1)), grey)


def test_reads_the_original_size(data_dir):
    image = read_image(data_dir / "corgi_paper" / "image_496.ppm")
    assert image.shape[2] == 3
    assert min(image.shape) > 0
