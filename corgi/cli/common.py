"""What the subcommands share: options, input, output files, progress."""

from __future__ import annotations

import io
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corgi.budget import announce, grace, heard, limited
from corgi.cli.start import began
from corgi.data.file import is_regular_file, resolved, write
from corgi.errors import UsageError
from corgi.progress import Listener, Progress
from corgi.terms import PICTURE_FORMATS, Norm, Size

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from corgi.cli.loading import Loading
    from corgi.data.image import Seen
    from corgi.network.network import Network
    from corgi.results import EmpiricalBound, ImageArray

STDOUT = Path("-")

DEEP_SECONDS = 45.0
"""Time limit of a property of a deep network where none is given: its bounds could take hours to get a little
better."""


def in_time(command: str, limit: float | None, network: Network, properties: int = 1) -> float | None:
    """The time limit of a command; of a deep network there is one where none is given."""
    from corgi.network.depth import is_deep

    if limit is not None or not is_deep(network.trunk):
        return limit
    seconds = DEEP_SECONDS * properties
    announce(command, f"a deep network: at most {seconds:g} s, or as --time-limit says (inf: no limit)")
    return seconds


def _there(what: str) -> Callable[[Path], Path]:
    """Refuse a missing file while the command line is read: before anything heavy loads."""

    def check(path: Path) -> Path:
        if not is_regular_file(path):
            raise UsageError(f"{path}: no such {what} file")
        return path

    return check


ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="ONNX classifier with a CAM head.", callback=_there("model")),
]
ImageArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, PPM or NPY file.", callback=_there("image"))
]
KOption = Annotated[
    str | None,
    typer.Option(
        "--k",
        metavar="N|auto",
        help="Size of the top set; auto: largest CAM gap.",
        show_default="15, at most half of the map",
    ),
]
K2Option = Annotated[
    int | None,
    typer.Option("--k2", help="Of topk: the set must stay among the K2 largest.", show_default="K"),
]
ClassOption = Annotated[
    int | None, typer.Option("--class", help="Class to explain.", show_default="the predicted one")
]
NormOption = Annotated[Norm, typer.Option(help="Norm of the radius, pixel scale [0, 1].")]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        "--radius-map",
        metavar="X1,Y1,X2,Y2|FILE|annotation|background",
        help="Only this part of the picture changes: as --region, or what lies outside of the annotation, or"
        " how far each pixel of the input may change, in radii (NPY).",
        show_default="all of it",
    ),
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        help="Recipe for pictures in RGB, before --scale, --mean, --std and --colour-order: as `resize`,"
        " `center-crop,resize` or `gtsrb`; `none`.",
        show_default="the model's own",
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE|-", help="Write JSON; - prints it instead of the text.")
]
PictureOption = Annotated[
    Path | None,
    typer.Option("--picture", help=f"Draw a picture: {', '.join(PICTURE_FORMATS)}.", metavar="FILE"),
]
WitnessOption = Annotated[Path | None, typer.Option(help="Save the witness [C, H, W].", metavar="FILE.npy")]


def _positive(seconds: float | None) -> float | None:
    """Refuse a time limit that is none."""
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--time-limit {seconds:g}: a time limit is a number of seconds > 0")
    return seconds


TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds, loading included; then the best until then.", show_default="none", callback=_positive
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No text, no progress: exit code and files only.")]


def parse_k(text: str | None) -> Size:
    """The value of `--k`.

    Raises:
        UsageError: neither a whole number nor `auto`.
    """
    try:
        return None if text is None else "auto" if text == "auto" else int(text)
    except ValueError:
        raise UsageError(f"--k {text}: expected a whole number or auto") from None


def check_device(device: str) -> str:
    """A torch device that works here.

    Raises:
        UsageError: torch does not know it, or it cannot be used.
    """
    import torch

    try:
        torch.zeros(1, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--device {device} cannot be used: {reason}", hint="Use --device cpu.") from None
    return device


def read_input(
    loading: Loading, model: Path, image: Path, preprocess: str | None
) -> tuple[Network, ImageArray]:
    """A loaded network and the image [C, H, W] as its input.

    Raises:
        UsageError: the recipe is not one.
        ModelError, ImageError: a file cannot be served.
    """
    with grace():
        network = loading.load(model)
    return network, seen(network, image, preprocess).pixels


def seen(network: Network, image: Path, preprocess: str | None) -> Seen:
    """What a network sees of an image file.

    Raises:
        UsageError: the recipe is not one.
        ImageError: the file cannot be served.
    """
    from corgi.data.image import look_at
    from corgi.data.preprocess import Recipe

    recipe = None if preprocess is None else Recipe.parse(preprocess)
    own = None if network.preprocess is None else Recipe.parse(network.preprocess)
    return look_at(image, network.input_shape, recipe, own)


def check_outputs(inputs: tuple[Path, ...], outputs: dict[str, Path | None]) -> None:
    """Refuse output files that could not be written, before the work is done.

    Args:
        inputs: files that must not be overwritten.
        outputs: option name -> file; None and `-` are no files.

    Raises:
        UsageError: a missing or closed folder, a folder as file, an input, or one file for two outputs.
    """
    taken = {resolved(path): f"the input {path}" for path in inputs}
    for option, path in outputs.items():
        if path is None or (path == STDOUT and option == "--json"):
            continue
        folder = resolved(path).parent
        if not folder.is_dir():
            raise UsageError(f"{option} {path}: the folder {folder} does not exist", hint="Make it first.")
        if path.is_dir():
            raise UsageError(f"{option} {path}: is a folder, expected a file name")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise UsageError(f"{option} {path}: no permission to write there")
        if resolved(path) in taken:
            raise UsageError(f"{option} {path}: would overwrite {taken[resolved(path)]}")
        taken[resolved(path)] = option


def check_ending(option: str, path: Path | None, endings: tuple[str, ...]) -> None:
    """Refuse a file name without one of the endings.

    Raises:
        UsageError: another ending, or none.
    """
    if path is not None and path.suffix[1:].lower() not in endings:
        raise UsageError(f"{option} {path}: expected a name that ends in .{', .'.join(endings)}")


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as an NPY file."""
    import numpy as np

    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    return target.getvalue()


def ready_to_draw(picture: Path | None) -> None:
    """Load what draws `--picture` while the answer is computed: torch lets other threads run meanwhile."""

    def load() -> None:
        with suppress(Exception):  # whoever draws gets the same error, and says it
            import_module("matplotlib.backends.backend_agg")

    if picture is not None:
        threading.Thread(target=load, daemon=True).start()


def save_picture(figure: Figure, path: Path) -> None:
    """Write what `--picture` asked for."""
    from corgi.reporting.picture import picture_bytes

    write("--picture", path, picture_bytes(figure, path.suffix[1:].lower()))


NO_WITNESS = "no witness was found"


def image_of(attack: EmpiricalBound | None) -> ImageArray | None:
    """The witness that `--witness` saves; None if there is none."""
    return None if attack is None or attack.witness is None else attack.witness.image


def emit(text: RenderableType, json: Callable[[], str], target: Path | None, *, quiet: bool = False) -> None:
    """Print text for people, and JSON where `--json` wants it: `-` leaves stdout to JSON alone.

    Commands call it before they draw: a picture that fails must not take the answer with it.
    """
    if target == STDOUT:
        typer.echo(json(), nl=False)
        return
    if target is not None:
        write("--json", target, json().encode())
    if not quiet:
        show(text)


def show(text: RenderableType) -> None:
    """Print text for people."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(text)


def command_line() -> str:
    """The call as it was typed."""
    return shlex.join(["corgi", *sys.argv[1:]])


def note(message: str, *, quiet: bool = False) -> None:
    """A line on stderr that is no error."""
    if not quiet:
        typer.echo(f"corgi: {message}", err=True)


@contextmanager
def working(what: str, *, quiet: bool = False, seconds: float | None = None) -> Iterator[None]:
    """Work that may take so many seconds from the start of the process on.

    Where it is stands on stderr: on a terminal always, elsewhere a line now and then once it takes long, also
    where nothing was heard for long. What libraries print meanwhile goes to stderr, so
    that stdout carries the answer alone.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with redirect_stdout(sys.stderr), limited(None if seconds is None else began() + seconds):
        if quiet:
            yield
        elif not console.is_terminal:
            with _now_and_then(what) as listener, heard(listener):
                yield
        else:
            with console.status(what) as status, heard(_show(status.update, console.print)):
                yield


def _text(progress: Progress) -> str:
    certified = f", certified {progress.certified:.4g}" if progress.certified > 0 else ""
    attacked = "" if progress.attacked is None else f", witness at {progress.attacked:.4g}"
    return f"{progress.stage}: {progress.detail}{certified}{attacked}"


def _show(update: Callable[[str], None], keep: Callable[[str], None]) -> Listener:
    def listener(progress: Progress) -> None:
        (keep if progress.lasting else update)(_text(progress))

    return listener


_SILENT = 5.0
"""Seconds between two lines, at first; each line doubles them."""


@contextmanager
def _now_and_then(what: str) -> Iterator[Listener]:
    """Lines for a log: lasting ones at once, between them where the work is and how long it has taken."""
    last, started, over = what, time.monotonic(), threading.Event()

    def speak() -> None:
        pause = _SILENT
        while not over.wait(pause):
            pause *= 2
            note(f"{last} ({time.monotonic() - started:.0f} s so far)")

    def listener(progress: Progress) -> None:
        nonlocal last
        last = _text(progress)
        if progress.lasting:
            note(last)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield listener
    finally:
        over.set()
        speaker.join()
