"""What a worker does: load the network once, then answer for one image after the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Protocol

import torch

from corgi import workers
from corgi.batch.code import code_version
from corgi.batch.items import digest_of_content
from corgi.batch.pictures import pictures_of
from corgi.batch.question import Digests, Question
from corgi.batch.store import ERROR, FAILED, WITH, Answer, Item
from corgi.certify.explain import Explanation, explain
from corgi.certify.shares import decide_explained
from corgi.certify.sweep import SweepResult, sweep_explained
from corgi.certify.verify import VerifyOptions, verify_explained
from corgi.changes.interface import Change
from corgi.data.image import Seen, look_at, read_content
from corgi.data.preprocess import Recipe
from corgi.errors import CorgiError, ImageError, ModelError, UsageError, WorkerError, printable
from corgi.memory import keep_freed_memory
from corgi.network.network import Network
from corgi.reporting.case import Pictures
from corgi.reporting.document import verify_document
from corgi.reporting.sweep import sweep_document
from corgi.results import ImageArray, VerifyResult

Found = tuple[Answer, Pictures | None]
"""What comes of one image."""


Result = VerifyResult | SweepResult
"""What a question has as its answer."""


def described(result: Result, name: str) -> str:
    """The document of a result on the image of a name, as JSON."""
    if isinstance(result, SweepResult):
        return sweep_document(result, name).model_dump_json()
    return verify_document(result).model_dump_json()


@dataclass(frozen=True)
class Work:
    """All that a worker needs to know; travels to it pickled.

    Attributes:
        load: gives the network.
        model_sha256, code: what the network's digest and the worker's own code must be.
        folder: where relative names of images begin; a worker may run in another one.
        question: what is asked, its files by their whole paths; digests: of these files as the run began.
        threads: of torch.
        prepare: called once, before the network is loaded.
        describe: the document of a result on the image of a name, as JSON.
    """

    load: Callable[[], Network]
    model_sha256: str
    code: str
    folder: Path
    question: Question
    threads: int
    digests: Digests = (None, None)
    prepare: Callable[[], None] = keep_freed_memory
    describe: Callable[[Result, str], str] = described


class Worker(Protocol):
    """One worker, as the run sees it: it takes one image at a time."""

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        """What its futures raise if it died over an image."""

    @property
    def started(self) -> bool:
        """Whether it came as far as to look at images, before it died or up to now."""

    def submit(self, item: Item) -> Future[Found]:
        """Begin with an image. Besides `died`, the future raises CorgiError if no image can be served."""

    def restart(self) -> None:
        """Begin anew after it died."""

    def close(self) -> None:
        """End it at once, whatever it is doing."""


def local_worker(work: Work) -> workers.Worker[Item, Found]:
    """A worker that is a process of this machine."""
    return workers.Worker(partial(_answering, work))


def _answering(work: Work) -> Callable[[Item], Found]:
    answerer = Answerer(work)
    answerer.start()
    return answerer.answer


class Answerer:
    """A worker's inside: a network, loaded by `start`."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.network: Network | None = None
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it would end a search, and half a search is no row

    def start(self) -> None:
        """Load the network, if that has not been done.

        Raises:
            UsageError, ModelError: this worker's code or the model file is another one than it should be.
            WorkerError: it fails at something else.
        """
        if self.network is None:
            try:
                self.work.prepare()
                torch.set_num_threads(self.work.threads)
                self.network = self._load()
            except CorgiError:
                raise
            except Exception as error:  # of this machine: it is no image's fault
                raise WorkerError(f"a worker cannot start: {type(error).__name__}: {error}") from error

    def answer(self, item: Item) -> Found:
        """What comes of an image. An image that cannot be served is an answer, too.

        Raises:
            UsageError: what is asked cannot be asked of this network.
            CorgiError: no image can be served, see `start`.
        """
        self.start()
        assert self.network is not None
        # Each image alone, with nothing kept from the one before: the answer must not depend on which rows
        # this process happened to compute.
        try:
            with redirect_stdout(StringIO()):  # libraries print
                return self._verify(self.network, item)
        except UsageError:  # of the question, so of every image
            raise
        except CorgiError as error:
            return Answer(ERROR if _passing(error) else FAILED, error.message), None
        except Exception as error:  # a fault of corgi, of a library or of the machine: the others go on
            return Answer(ERROR, printable(f"unexpected {type(error).__name__}: {error}")), None

    def _load(self) -> Network:
        if code_version() != self.work.code:
            raise UsageError(
                f"a worker's corgi is {code_version()}, that of the run {self.work.code}",
                hint="Use one release on all machines, and do not change it while a batch runs.",
            )
        network = self.work.load()
        if network.sha256 != self.work.model_sha256:
            raise ModelError(f"{network.path}: has changed since the run began, or is another file here")
        return network

    def _verify(self, network: Network, item: Item) -> Found:
        question, path = self.work.question, self.work.folder / item.file
        content = read_content(path)  # once: the file may be written to at any time
        if digest_of_content(path, content) != item.content:
            raise ImageError(f"{item.name}: has changed since the run began, or is another file here")
        seen = self._look(network, path, content)
        options, started = question.options, time.monotonic()
        explained = explain(network, seen.pixels, options.k, options.class_id)
        try:
            options, change = self._read(network, seen, path)
            self._check_read(item, path)
            if options.property is not None:
                explained.question(options.property)
        except UsageError as error:  # of this picture: another one may have such a region, such values
            raise ImageError(f"{item.name}: {error.message}") from None
        result = self._decide(explained, options, change, item.name, started)
        answer = Answer(result.status.value, result.reason, self.work.describe(result, item.name))
        try:
            return answer, pictures_of(result)
        except Exception:  # the answer stands without them
            return answer, None

    def _look(self, network: Network, path: Path, content: bytes | None = None) -> Seen:
        """What the network sees of an image file."""
        asked, own = self.work.question.preprocess, network.preprocess
        recipe, its = (None if text is None else Recipe.parse(text) for text in (asked, own))
        return look_at(path, network.input_shape, recipe, its, content=content)

    def _pixels(self, network: Network, path: Path) -> ImageArray:
        """The input that another image file stands for."""
        return self._look(network, path).pixels

    def _read(self, network: Network, seen: Seen, path: Path) -> tuple[VerifyOptions, Change | None]:
        """What is asked of one picture, and the change along which, where there is one.

        Raises:
            UsageError, ImageError, DataError: this picture has no such region, or a file cannot be read.
        """
        question, shape, change = self.work.question, network.input_shape, None
        options = question.options
        if not question.wanted.plain:
            found = question.wanted.property(network.head.map_shape, seen.window, path)
            options = replace(options, property=found)
        if question.where is not None:
            options = replace(options, where=question.where.read(shape, seen.window, path))
        if question.change is not None:
            change = question.change.read(shape, seen.window, path, partial(self._pixels, network))
        return options, change

    def _check_read(self, item: Item, path: Path) -> None:
        """Refuse what was read for the question where it is not what the row is named by.

        Raises:
            ImageError: a file or an annotation has changed since the run began.
        """
        if self.work.question.digests() != self.work.digests:
            files = "a file of --region, --where or --change"
            raise ImageError(f"{item.name}: {files} has changed since the run began")
        said = self.work.question.annotated_by(path)
        if said is not None and item.sha256 != f"{item.content}{WITH}{said}":
            raise ImageError(f"{item.name}: its annotation has changed since the run began")

    def _decide(
        self,
        explained: Explanation,
        options: VerifyOptions,
        change: Change | None,
        name: str,
        started: float,
    ) -> Result:
        """The sweep along a change; or the search, and the radii to be decided besides."""
        question = self.work.question
        if change is not None:
            swept = replace(question.swept, property=options.property)
            return sweep_explained(explained, change, swept, started=started)
        if not question.radii:
            return verify_explained(explained, options, image_name=name, started=started)
        radii = question.radii
        return decide_explained(explained, options, radii, image_name=name, started=started).result


def _passing(error: BaseException | None) -> bool:
    """Whether an image could not be read for want of memory or by a system's error, so may be readable later.

    Damaged pictures raise OSError as well, but without a number.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            return True
        error = error.__cause__
    return False
