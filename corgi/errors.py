"""The errors corgi raises for input it cannot serve.

Every message names the file, node or value, says what was expected, and `hint` says what to do.
"Unknown" is never one of these: an undecided question is a result with a reason (`corgi.results`).
"""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Callable, Iterator

LONGEST_TEXT = 2000
"""Characters of a message: names in a hostile file can be megabytes long."""


def printable(text: str) -> str:
    r"""Text on one line, cut to `LONGEST_TEXT`; what steers a terminal is written out, as \x1b.

    Names come from files, and an escape sequence in one could clear the screen or write over the answer.
    """
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
    if cut.isprintable():
        return cut
    plain = (c.isprintable() or unicodedata.category(c) == "Zs" for c in cut)
    return "".join(
        c if kept else c.encode("unicode_escape").decode() for c, kept in zip(cut, plain, strict=True)
    )


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
    """What is raised inside of a file's content names the file; code in there does not have to know it."""
    try:
        yield
    except (ImageError, ModelError, SpecError) as error:
        raise type(error)(f"{file}: {error.message}", hint=error.hint) from error


def first_line(error: BaseException) -> str:
    """The first line of what a library says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes of a path that are none are written out, as \udcff."""
    return text.encode(errors="backslashreplace").decode()


class CorgiError(Exception):
    """Base of all errors a user can cause. Carries a one-line `message` and an optional `hint`."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = printable(message)
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.message if self.hint is None else f"{self.message}\n{self.hint}")

    def __reduce__(self) -> tuple[Callable[[str], CorgiError], tuple[str]]:
        """Errors of worker processes come pickled."""
        return functools.partial(type(self), hint=self.hint), (self.message,)


class UsageError(CorgiError):
    """An option or argument has a value that cannot be served."""


class ImageError(CorgiError):
    """An image file cannot be read, or does not fit the network's input."""


class DataError(CorgiError):
    """A data folder does not have the layout of the data set it is said to hold."""


class StoreError(CorgiError):
    """A store of batch results is none, is of another schema version, or cannot be read or written."""


class WorkerError(CorgiError):
    """No worker of a batch can start."""


class ModelError(CorgiError):
    """A model file cannot be read, is not valid ONNX, or uses something corgi does not honour."""


class UnsupportedOperator(ModelError):
    """A node's operator, attribute or operand is outside the set corgi honours."""


class NoCamHead(ModelError):
    """The network does not end in pooling -> fully connected, so it has no class activation map."""


class GateError(ModelError):
    """The network corgi built does not equal onnxruntime on the same input."""


class EngineError(CorgiError):
    """A bounding engine cannot serve this network, or broke its own contract."""


class SpecError(CorgiError):
    """A VNN-LIB file or a list of instances cannot be read, or asks for what corgi does not decide."""
