"""`--where` and `where=`: only a part of the image changes, in what is certified and in what is found."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import corgi
from corgi.batch.question import Question
from corgi.cli.main import app
from corgi.data.where import WantedWhere
from corgi.errors import UsageError
from tests.onnx_models import random_cam_network
from tests.pictures import annotated_picture


@pytest.fixture
def model(tmp_path):
    return random_cam_network(np.random.default_rng(3), tmp_path)


@pytest.fixture
def picture(tmp_path, model):
    """An image of the network's size, and its annotation: the upper half."""
    return annotated_picture(tmp_path, model, -1)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_only_what_may_change_does(model, picture, tmp_path) -> None:
    network = corgi.load(model)
    _, height, width = network.input_shape
    original, radii = corgi.read_image(picture, network), {}
    upper = f"0,0,{width - 1},{height // 2 - 1}"
    for where in (None, upper, "annotation", "background"):
        witness = tmp_path / "witness.npy"
        witness.unlink(missing_ok=True)
        asked = [] if where is None else ["--where", where]
        found = run("verify", model, picture, *asked, "--k", "3", "--witness", witness, "--json", "-")
        assert found.exit_code == 0, found.output
        document = json.loads(found.stdout)
        radii[where] = document["certified_radius"], document["attack_radius"]
        assert document["certified_radius"] < document["attack_radius"]
        if where is None:
            assert document["where"] is None
            continue
        clause = document["where"]["in_words"]
        assert clause in document["guarantee"]
        changed = (np.load(witness) != original).any(0)
        other = changed[: height // 2] if where == "background" else changed[height // 2 :]
        assert changed.any()
        assert not other.any()
        assert document["where"]["count"] == (changed.size - other.size)
    assert radii[upper] == radii["annotation"]
    # A part of the image is a smaller set: what holds on all of it holds there.
    assert all(radii[where][1] > radii[None][0] for where in radii)
    assert all(radii[where][0] >= 0.98 * radii[None][0] for where in radii)


def test_an_attack_alone(model, picture, tmp_path) -> None:
    network, witness = corgi.load(model), tmp_path / "witness.npy"
    radii = np.random.default_rng(0).random(network.input_shape)
    radii.flat[0] = 1
    np.save(tmp_path / "radii.npy", radii)
    found = run(
        "attack", model, picture, "--radius-map", tmp_path / "radii.npy", "--witness", witness, "--json", "-"
    )
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    change = np.abs(np.load(witness).astype(float) - corgi.read_image(picture, network).astype(float))
    assert (change <= document["attack_radius"] * radii).all()
    text = run("attack", model, picture, "--radius-map", tmp_path / "radii.npy")
    assert "times its share in" in " ".join(text.output.split())


def test_from_python(model, picture) -> None:
    network = corgi.load(model)
    image = corgi.read_image(picture, network)
    _, height, width = network.input_shape
    upper = np.zeros((height, width), bool)
    upper[: height // 2] = True
    text = f"0,0,{width - 1},{height // 2 - 1}"
    value = corgi.Where(torch.from_numpy(upper)[None].double(), "inside of the upper half")
    found = [corgi.verify(network, image, k=3, where=where) for where in (upper, text, value)]
    assert len({one.certificate.radius for one in found}) == 1
    assert found[2].where == found[2].certificate.where == value
    attacked = corgi.attack(network, image, k=3, where=upper)
    assert attacked.where.binary
    for norm in ("l2", "l1"):
        part = corgi.verify(network, image, k=3, norm=norm, where=upper)
        assert 0 < part.certificate.radius < part.attack.radius
    decided = corgi.decide_radii(network, image, [1e-4, 0.9], k=3, where=upper)
    assert decided.result.where == found[0].where
    both = corgi.verify(network, image, k=3, where=upper, label=True)
    assert both.label.where == both.certificate.where
    with pytest.raises(UsageError, match="not of the same search"):
        corgi.certify.verify.verify_explained(
            corgi.explain(network, image, 3), corgi.VerifyOptions(k=3), certified=found[0].certificate
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "nowhere"], "none that corgi reads"),
        (["--where", "0,0,999,999"], "lies outside of the picture"),
        (["--radius-map", "missing.npy"], "no such file"),
    ],
)
def test_places_that_are_none(options, message, model, picture) -> None:
    for command in ("verify", "attack"):
        found = run(command, model, picture, *options)
        assert found.exit_code == 4
        assert message in " ".join(found.output.split())


def test_a_batch_reads_it_for_every_picture(model, picture, tmp_path) -> None:
    store, asked = tmp_path / "runs.sqlite", ["--k", "3", "--time-limit", "20", "--workers", "1"]
    for where in (["--where", "annotation"], ["--where", "background"], []):
        found = run("batch", model, picture, *asked, *where, "--store", store)
        assert found.exit_code == 0, found.output
        assert "1 computed now" in found.output, "another question is another row"
    with sqlite3.connect(store) as rows:
        documents = [json.loads(text) for (text,) in rows.execute("SELECT document FROM results")]
    sources = {None if d["where"] is None else d["where"]["source"] for d in documents}
    assert sources == {None, "inside of annotation GT-test.csv", "outside of annotation GT-test.csv"}


def test_a_changed_annotation_is_asked_anew(model, picture, tmp_path) -> None:
    asked = ["--k", "3", "--time-limit", "20", "--workers", "1", "--where", "background", "--no-attack"]
    asked += ["--eps", "1e-5", "--method", "crown-ibp", "--store", tmp_path / "runs.sqlite"]
    table = tmp_path / "GT-test.csv"
    for text, said in ((None, "1 computed now"), (None, "0 computed now"), (";1;0", "1 computed now")):
        if text is not None:
            table.write_text(table.read_text().replace(";0;0;", ";1;0;"))
        found = run("batch", model, picture, *asked)
        assert found.exit_code == 0, found.output
        assert said in found.output


def test_the_identity_of_a_batch_holds_what_may_change() -> None:
    plain = Question().parameters()
    assert "where" not in plain
    ones = torch.ones(1, 2, 2, dtype=torch.float64)
    values = [
        Question(where=WantedWhere("0,0,1,1")).parameters(),
        Question(corgi.VerifyOptions(where=corgi.Where(ones, "them"))).parameters(),
    ]
    assert all(one != plain for one in values)
    assert values[0] != values[1]
    with pytest.raises(UsageError, match="beside that of the options"):
        Question(corgi.VerifyOptions(where=corgi.Where(ones, "them")), where=WantedWhere("0,0,1,1"))


def test_what_may_change_is_said_as_it_is(model, picture) -> None:
    """Single channels are no pixels, and a share is one of the radius."""
    network = corgi.load(model)
    ones = torch.zeros(network.input_shape, dtype=torch.float64)
    ones[0] = 1
    if len(ones) > 1:
        assert corgi.Where(ones, "inside of it").in_words.startswith("only some channels of pixels")
    shares = torch.full((1, *network.input_shape[1:]), 0.5, dtype=torch.float64)
    shares[0, 0, 0] = 1
    assert corgi.Where(shares, "radii.npy").in_words == (
        "each entry changes by the radius times its share in radii.npy at most"
    )


def test_no_answer_is_taken_for_one_of_other_places(model, picture) -> None:
    network = corgi.load(model)
    image = corgi.read_image(picture, network)
    upper = np.zeros(network.input_shape[1:], bool)
    upper[: len(upper) // 2] = True
    with pytest.raises(UsageError, match="change everywhere"):
        corgi.curve(network, image, [3], where=upper)
    found = corgi.attack(network, image, k=3).found
    options = corgi.VerifyOptions(k=3, where=corgi.Where(torch.from_numpy(upper)[None].double(), "it"))
    explained = corgi.explain(network, image, 3)
    verify = corgi.certify.verify.verify_explained
    with pytest.raises(UsageError, match="not of the same question"):
        verify(explained, options, attacked=found)
    plain = verify(explained, corgi.VerifyOptions(k=3), attacked=found)
    assert plain.attack.radius <= found.radius
    for one in corgi.verify_properties(network, image, ["topk", "iou"], k=3, where=upper).results:
        assert one.where.count == int(upper.sum())


def test_places_that_are_written_to_are_others(model, picture) -> None:
    """A bounder that knows a ball does not take one with other places for it."""
    network = corgi.load(model)
    image = torch.from_numpy(corgi.read_image(picture, network))
    scale = torch.zeros(1, *image.shape[1:], dtype=torch.float64)
    scale[0, 0, 0] = 1
    where, bounder = corgi.Where(scale, "it"), corgi.PatchEngine().bind(network, 0)
    before = bounder.pixels(corgi.Ball(image, 0.1, where=where))
    where.scale.fill_(1)
    after = bounder.pixels(corgi.Ball(image, 0.1, where=where))
    assert bool((after.lower <= before.lower).all())
    assert bool((after.lower < before.lower).any())


def test_files_that_change_during_a_batch_are_noticed(model, picture, tmp_path) -> None:
    from corgi.batch.call import _work
    from corgi.batch.items import annotated, item_of
    from corgi.batch.work import Answerer

    network, table = corgi.load(model), tmp_path / "GT-test.csv"
    shares = np.ones(network.input_shape[1:])
    np.save(tmp_path / "radii.npy", shares)
    for text in ("annotation", str(tmp_path / "radii.npy")):
        question = Question(
            corgi.VerifyOptions(k=3, attack=None, exact=None, time_limit=10), where=WantedWhere(text)
        )
        (item,) = annotated([item_of(picture)], question.annotated_by)
        answerer = Answerer(_work(question, model, network.sha256, 1, question.digests()))
        answerer.start()
        answer, _ = answerer.answer(item)
        assert answer.status == "certified"
        table.write_text(table.read_text().replace(";0;0;", ";1;0;"))
        shares[0, 0] /= 2
        np.save(tmp_path / "radii.npy", shares)
        answer, _ = answerer.answer(item)
        assert answer.status == "failed"
        assert "has changed since the run began" in answer.reason
