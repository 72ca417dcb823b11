"""What every command about the map of one image shares: read, ask, print, write, draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.groups import with_group
from corgi.cli.loading import Loading, with_loading
from corgi.data.file import write
from corgi.terms import PICTURE_FORMATS

if TYPE_CHECKING:
    import numpy as np

    from corgi.data.window import Window
    from corgi.network.network import Network
    from corgi.reporting.answers import Answer
    from corgi.results import ImageArray

A = TypeVar("A", bound="Answer")


@dataclass(frozen=True)
class Array(Generic[A]):
    """An array of the answer that an option saves.

    Attributes:
        option, path: the option and its file (NPY), None where it was not given.
        of: the array; None if the answer has none, which `missing` says.
    """

    option: str
    path: Path | None
    of: Callable[[A], np.ndarray[Any, Any] | None]
    missing: str = ""


@dataclass(frozen=True)
class Task:
    """Model and image, how they are read, and where the answer goes."""

    model: Path
    image: Path
    loading: Loading
    preprocess: str | None
    json: Path | None
    picture: Path | None
    quiet: bool

    def __post_init__(self) -> None:
        common.check_ending("--picture", self.picture, PICTURE_FORMATS)
        self.check({})

    def check(self, others: dict[str, Path | None]) -> None:
        """Refuse output files, these among them, that could not be written.

        Raises:
            UsageError: see `check_outputs`.
        """
        files = {"--json": self.json, "--picture": self.picture}
        common.check_outputs((self.model, self.image), files | others)

    def window(self, network: Network) -> Window:
        """The part of the image that a network sees, whatever its map."""
        return common.seen(network, self.image, self.preprocess).window

    def answer(
        self,
        ask: Callable[[Network, ImageArray], A],
        exit_of: Callable[[A], Exit],
        *,
        seconds: float | None = None,
        array: Array[A] | None = None,
    ) -> Exit:
        """Read the input, ask, and show the answer; the exit code.

        Args:
            ask: what answers.
            exit_of: the exit code of an answer.
            seconds: time there is, from the start of the process on.
            array: what else to save.

        Raises:
            UsageError: a file that cannot be read or written.
            CorgiError: see what answers.
        """
        if array is not None:
            common.check_ending(array.option, array.path, ("npy",))
            self.check({array.option: array.path})
        with common.working("loading", quiet=self.quiet, seconds=seconds):
            network, pixels = common.read_input(self.loading, self.model, self.image, self.preprocess)
            common.ready_to_draw(self.picture)
            found = ask(network, pixels)
        from corgi.reporting import answers
        from corgi.reporting.document import to_json

        text, document = answers.written(found, str(self.image))
        common.emit(text, lambda: to_json(document), self.json, quiet=self.quiet)
        if array is not None and array.path is not None:
            self._save(array, found)
        if self.picture is not None:
            common.save_picture(answers.drawn(found), self.picture)
        return exit_of(found)

    def _save(self, array: Array[A], found: A) -> None:
        values = array.of(found)
        assert array.path is not None
        if values is None:
            common.note(f"{array.missing}, {array.path} is not written", quiet=self.quiet)
        else:
            write(array.option, array.path, common.npy_bytes(values))


@with_loading
def _task(
    model: common.ModelArgument,
    image: common.ImageArgument,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> Task:
    return Task(model, image, loading, preprocess, json, picture_file, quiet)


with_task = with_group("task", _task)
"""A command with a parameter `task: Task`, as typer sees it: with arguments and options instead."""
