"""Radii as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.cli.radius import radii_of
from corgi.errors import UsageError
from tests.cli.test_cli import assert_error, corgi, image, model  # noqa: F401 - fixtures


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/255", 1 / 255),
        ("0.5/255", 0.5 / 255),
        (" 8 / 256 ", 1 / 32),
        ("1e-3", 1e-3),
        ("0.004", 0.004),
        ("-1/255", -1 / 255),
        ("1e-3/2", 5e-4),
        ("0", 0.0),
    ],
)
def test_a_number_is_what_python_says_it_is(text, value) -> None:
    assert radii_of("--radii", text) == (value,)


def test_lists_ascend() -> None:
    assert radii_of("--radii", "2/255,1/255,0.01,1/255") == (1 / 255, 2 / 255, 0.01)


@pytest.mark.parametrize(
    "text", ["", "/", "1/", "/255", "1/0", "1/2/3", "one", "nan", "inf", "1e400", "1/nan", "1,", "1;2"]
)
def test_what_is_no_number(text) -> None:
    with pytest.raises(UsageError, match=f"--radii {text}: expected numbers .* as 1/255"):
        radii_of("--radii", text)


def test_every_command_takes_fractions(model: Path, image: Path, tmp_path: Path) -> None:  # noqa: F811
    verified = corgi("verify", model, image, "--k", 3, "--eps", "1e-3/255", "--json", "-")
    assert json.loads(verified.stdout)["eps"] == 1e-3 / 255
    attacked = corgi("attack", model, image, "--k", 3, "--eps", "127.5/255", "--json", "-")
    assert attacked.exit_code == Exit.REFUTED
    smoothed = corgi("smooth", model, image, "--sigma", "64/256", "--samples", 100, "--json", "-")
    assert json.loads(smoothed.stdout)["sigma"] == 0.25
    exported = corgi("export", model, image, tmp_path / "out", "--k", 3, "--eps", "1/256")
    assert exported.exit_code == Exit.OK
    assert [path.name for path in (tmp_path / "out" / "vnnlib").iterdir()] != []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("verify", "--eps"),
        ("attack", "--eps"),
        ("smooth", "--radius"),
        ("smooth", "--sigma"),
        ("compare", "--sigma"),
        ("export", "--eps"),
        ("batch", "--eps"),
    ],
)
def test_errors_name_option_and_value(command, option, model: Path, image: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = [tmp_path / "out"] if command == "export" else []
    assert_error(corgi(command, model, image, *folder, option, "1/none"), option, "1/none", "0.5/255")


def test_a_default_is_a_number() -> None:
    assert "[default: 0.1]" in " ".join(CliRunner().invoke(app, ["compare", "--help"]).stdout.split())
