"""What a worker answers, and that it survives every image."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import corgi
from corgi.batch import code, work
from corgi.batch import run as run_module
from corgi.batch.items import digest_of, files, unreadable
from corgi.batch.run import compute_rows
from corgi.batch.store import CRASHED, ERROR, FAILED, Item, Store
from corgi.batch.work import Answerer, local_worker
from corgi.errors import ModelError, UsageError, WorkerError
from corgi.reporting.versions import installed_versions
from tests.batch import cases


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def answerer(model: Path) -> Iterator[Answerer]:
    before = signal.getsignal(signal.SIGINT)
    yield Answerer(cases.work(model))
    signal.signal(signal.SIGINT, before)


def test_a_row_says_what_verify_says(answerer: Answerer, model: Path, tmp_path: Path) -> None:
    (item,) = files(cases.save_images(tmp_path, 1))
    network = corgi.load(model)
    image = np.load(item.name)
    expected = corgi.verify(network, image, cases.OPTIONS)
    for _ in range(2):  # nothing is kept from one image to the next
        answer, pictures = answerer.answer(item)
        document = json.loads(answer.document)
        assert document["certified_radius"] == expected.certificate.radius > 0
        assert document["attack_radius"] == expected.attack.radius
        assert document["evaluations"] == expected.certificate.evaluations
        assert document["recheck"]["rounding_bound"] == expected.certificate.decision.rounding_bound
        assert np.array_equal(pictures.cam, expected.cam.astype(np.float32))
        assert pictures.witness_cam.shape == (6, 6)
        assert pictures.image_png.startswith(b"\x89PNG")
        assert pictures.change_png.startswith(b"\x89PNG")


def test_an_image_that_cannot_be_served_is_an_answer(answerer: Answerer, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG and no more")
    np.save(tmp_path / "large.npy", np.zeros((1, 9, 9), dtype=np.float32))
    np.save(tmp_path / "tie.npy", np.zeros((1, 8, 8), dtype=np.float32))
    for item in files([tmp_path]):
        answer, pictures = answerer.answer(item)
        if "tie" in item.name:
            assert (answer.status, json.loads(answer.document)["certified_radius"]) == ("unknown", 0.0)
            assert "tie" in answer.reason
        else:
            assert (answer.status, pictures, answer.document) == (FAILED, None, None)
            assert Path(item.name).name in answer.reason


def test_what_fails_for_want_of_something_is_no_lasting_answer(
    answerer: Answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = files(cases.save_images(tmp_path, 1))

    def fails(error: Exception) -> Callable[..., None]:
        def raise_it(*arguments: object, **options: object) -> None:
            raise error

        return raise_it

    for error in (MemoryError(), OSError(errno.EMFILE, "too many open files"), RuntimeError("CUDA")):
        monkeypatch.setattr(work, "verify_explained", fails(error))
        assert answerer.answer(item)[0].status == ERROR
    monkeypatch.setattr(work, "verify_explained", fails(UsageError("k = 1000: the map has 36 pixels")))
    with pytest.raises(UsageError):
        answerer.answer(item)
    monkeypatch.undo()
    monkeypatch.setattr(np, "load", fails(OSError(errno.EMFILE, "too many open files")))
    assert answerer.answer(item)[0].status == ERROR
    monkeypatch.undo()
    monkeypatch.setattr(work, "pictures_of", fails(MemoryError()))
    answer, pictures = answerer.answer(item)
    assert (answer.status, pictures) == ("certified", None)


def test_another_file_under_the_same_name_is_refused(
    answerer: Answerer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = files(cases.save_images(tmp_path, 1))
    answer, _ = answerer.answer(replace(item, sha256="00"))
    assert answer.status == FAILED
    assert "changed" in answer.reason
    with pytest.raises(ModelError, match="changed"):
        Answerer(replace(answerer.work, model_sha256="00")).answer(item)
    with pytest.raises(UsageError, match="one release"):
        Answerer(replace(answerer.work, code="0")).answer(item)


def test_a_relative_name_begins_in_the_folder_of_the_run(answerer: Answerer, tmp_path: Path) -> None:
    (item,) = files(cases.save_images(tmp_path, 1))
    elsewhere = Answerer(replace(answerer.work, folder=tmp_path))
    answer, _ = elsewhere.answer(replace(item, name="000.npy", path=None))
    assert (answer.status, json.loads(answer.document)["image"]) == ("certified", "000.npy")


def test_errors_of_workers_travel() -> None:
    error = pickle.loads(pickle.dumps(UsageError("what", hint="do")))
    assert (type(error), error.message, error.hint, str(error)) == (UsageError, "what", "do", "what\ndo")


def test_a_name_that_is_no_text_is_a_row(answerer: Answerer, tmp_path: Path) -> None:
    (path,) = cases.save_images(tmp_path, 1)
    path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.npy"))
    (item,) = files([tmp_path])
    assert item.name.endswith("\\udcff.npy")
    answer, _ = answerer.answer(item)
    assert (answer.status, json.loads(answer.document)["image"]) == ("certified", item.name)


def test_a_worker_that_cannot_start_says_so(answerer: Answerer, tmp_path: Path) -> None:
    (item,) = files(cases.save_images(tmp_path, 1))
    with pytest.raises(WorkerError, match="cannot start: OSError: no space left"):
        Answerer(replace(answerer.work, prepare=cases.full_disk)).answer(item)


def test_images_of_a_folder_carry_its_classes(tmp_path: Path) -> None:
    cases.save_images(tmp_path / "images" / "12", 2)
    cases.save_images(tmp_path / "images" / "17" / "deep", 1)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    found = list(files([tmp_path / "images", tmp_path / "images" / "12" / "000.npy"]))
    assert [item.true_class for item in found] == ["12", "12", "17", None]
    assert found[0].sha256 == found[2].sha256 == found[3].sha256 != found[1].sha256
    with pytest.raises(UsageError, match="no such image"):
        list(files([tmp_path / "none"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image in"):
        list(files([tmp_path / "empty"]))


def test_the_same_bytes_read_as_array_and_as_picture_are_two_images(tmp_path: Path) -> None:
    (array,) = cases.save_images(tmp_path, 1)
    other = Path(shutil.copy(array, tmp_path / "000.dat"))
    assert digest_of(array) == f"npy:{digest_of(other)}"


def test_the_code_of_rows_is_source_and_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {code.code_version()}
    for part, other in (("_LIBRARIES", ("torch",)), ("_TAKES_PART", frozenset())):
        monkeypatch.setattr(code, part, other)
        code.code_version.cache_clear()
        found.add(code.code_version())
    monkeypatch.undo()
    code.code_version.cache_clear()
    assert len(found) == 3


def test_a_file_that_cannot_be_read_is_named_by_its_path(answerer: Answerer, tmp_path: Path) -> None:
    path = tmp_path / "lost.png"
    assert digest_of(path) == unreadable(path)
    answer, _ = answerer.answer(Item(digest_of(path), str(path)))
    assert (answer.status, "no such file" in answer.reason) == (FAILED, True)


def test_a_process_that_never_starts_ends_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "STARTS", 1)
    worker = local_worker(replace(cases.work(model), prepare=cases.killed))
    with Store(tmp_path / "runs.sqlite", create=True) as store:
        setting = store.setting("00", "m.onnx", {}, "code")
        run = store.begin_run(setting, "", 1, 1, installed_versions())
        with pytest.raises(WorkerError, match="died 1 times in a row"):
            compute_rows(
                store, setting, run, files(cases.save_images(tmp_path, 1)), [worker], lambda tally: None
            )
        assert not list(store.rows())


def test_a_process_that_dies_is_replaced(model: Path, tmp_path: Path) -> None:
    paths = cases.save_images(tmp_path, 2)
    deadly = paths[0].rename(tmp_path / "z-deadly.npy")
    chosen = tuple(files([paths[1], deadly]))
    with Store(tmp_path / "runs.sqlite", create=True) as store:
        setting = store.setting("00", "m.onnx", {}, "code")
        run = store.begin_run(setting, "", 1, 1, installed_versions())
        worker = local_worker(cases.work(model, cases.deadly))
        compute_rows(store, setting, run, chosen, [worker], lambda tally: None)
        found = {Path(row.item.name).name: row.answer for row in store.rows()}
    assert found["001.npy"].status == "certified"
    assert found["z-deadly.npy"].status == CRASHED
    assert "2 times" in found["z-deadly.npy"].reason


def test_what_systems_leave_in_folders_is_skipped_aloud(tmp_path: Path) -> None:
    """A copy in a hidden folder would take over the row of the picture, as equal content is one row."""
    folder = tmp_path / "signs"
    cases.save_images(folder / "12", 2)
    for name in ("12/.ipynb_checkpoints", "__MACOSX/12", ".hidden"):
        (folder / name).mkdir(parents=True)
        shutil.copy(folder / "12" / "000.npy", folder / name / "000-checkpoint.npy")
    for name in ("12/._001.npy", "12/Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"")
    cases.save_images(tmp_path / "elsewhere", 3)
    (folder / "17").symlink_to(tmp_path / "elsewhere")  # a class may lie on another disk
    (folder / "12" / "up").symlink_to(folder)
    (folder / "12" / "lost.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "12" / "pipe.png")
    told: dict[str, str] = {}
    found = list(files([folder], lambda path, why: told.update({str(path.relative_to(folder)): why})))
    assert [item.true_class for item in found] == ["12", "12", "17", "17", "17"]
    assert told == {
        "12/.ipynb_checkpoints": "hidden",
        "12/._001.npy": "hidden",
        "12/Thumbs.db": "left there by a system",
        "12/up": "a link to a folder it lies in",
        "12/lost.png": "a link to nothing",
        "12/pipe.png": "not a regular file",
        "__MACOSX": "left there by a system",
        ".hidden": "hidden",
        ".DS_Store": "hidden",
    }
    assert len(list(files([folder / ".hidden"]))) == 1  # what is named is taken
    shutil.rmtree(folder / "12")
    (folder / "17").unlink()
    with pytest.raises(UsageError, match=r"no image in this folder; 3 entries skipped: .*hidden"):
        list(files([folder]))


def test_what_is_digested_is_what_is_decoded(
    answerer: Answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read once: what is written to it meanwhile is seen by neither or by both."""
    one, other = cases.save_images(tmp_path, 2)
    (item,) = files([one])
    expected, _ = answerer.answer(item)
    reads: list[Path] = []

    def read(path: Path) -> bytes:
        reads.append(path)
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())  # somebody else, at the worst moment
        return content

    monkeypatch.setattr(work, "read_content", read)
    answer, _ = answerer.answer(item)
    radii = [json.loads(found.document)["certified_radius"] for found in (answer, expected)]
    assert (radii[0], reads) == (radii[1], [one])
    assert answerer.answer(item)[0].status == FAILED
