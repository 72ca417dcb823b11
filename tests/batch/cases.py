"""A small network and images, and workers that do what a test needs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np

import corgi
from corgi.attacks.search import AttackOptions
from corgi.batch.code import code_version
from corgi.batch.items import files
from corgi.batch.question import Question
from corgi.batch.run import compute_rows
from corgi.batch.store import Answer, Item, Store
from corgi.batch.work import Found, Result, Work, described, local_worker
from corgi.certify.verify import VerifyOptions
from corgi.reporting.versions import installed_versions
from tests.onnx_models import OnnxModel, float32

SHAPE = (1, 8, 8)
OPTIONS = VerifyOptions(k=3, exact=None, attack=AttackOptions(steps=5))


def save_model(folder: Path, seed: int = 3) -> Path:
    """Two convolutions with ReLUs, a 6 x 6 map, two classes."""
    rng = np.random.default_rng(seed)
    net = OnnxModel(SHAPE)
    value = net.chain(
        [
            ("Conv", [float32(rng, 4, 1, 3, 3, scale=0.5), float32(rng, 4, scale=0.2)], {}),
            ("Relu", [], {}),
            ("Conv", [float32(rng, 4, 4, 1, 1, scale=0.7), 1 + float32(rng, 4, scale=0.1)], {}),
            ("Relu", [], {}),
        ]
    )
    return net.save(folder, net.head(value, float32(rng, 2, 4)))


def save_images(folder: Path, number: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:03}.npy" for i in range(number)]
    for i, path in enumerate(paths):
        np.save(path, np.random.default_rng(i).random(SHAPE, dtype=np.float32))
    return paths


def work(model: Path, describe: Callable[[Result, str], str] | None = None) -> Work:
    return Work(
        load=partial(corgi.load, model),
        model_sha256=corgi.load(model).sha256,
        code=code_version(),
        folder=Path.cwd(),
        question=Question(OPTIONS),
        threads=1,
        prepare=nothing,
        describe=describe or described,
    )


def nothing() -> None:
    pass


def full_disk() -> None:
    raise OSError("no space left on device")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(result: Result, name: str) -> str:
    """Kills the worker's process over an image that is named so: `deadly` always, `once` the first time."""
    mark = Path(name + ".died")
    if "deadly" in name or ("once" in name and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return described(result, name)


def slow(result: Result, name: str) -> str:
    """Gives others time to act."""
    time.sleep(0.1)
    return described(result, name)


class Died(Exception):
    pass


class FakeWorker:
    """Answers at once, in this thread; `script` decides how."""

    died, started = (Died,), True

    def __init__(self, script: Callable[[Item], Answer]) -> None:
        self.script, self.restarts, self.closed = script, 0, False
        self.asked: list[str] = []

    def submit(self, item: Item) -> Future[Found]:
        self.asked.append(item.sha256)
        future: Future[Found] = Future()
        try:
            future.set_result((self.script(item), None))
        except Exception as error:
            future.set_exception(error)
        return future

    def restart(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        self.closed = True


def main(path: Path, model: Path, images: Path) -> None:
    """One process of several on one store."""
    with Store(path, create=True) as store:
        setting = store.setting("00", "m.onnx", {}, "code")
        run = store.begin_run(setting, "", 1, 1, installed_versions())
        compute_rows(
            store, setting, run, files([images]), [local_worker(work(model, slow))], lambda tally: None
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
