"""The real thing: the paper's network and image, held to the paper's own numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

import corgi


def test_class_and_map_equal_the_published_ones(paper_model, paper_image, data_dir) -> None:
    reference = json.loads((data_dir / "corgi_paper" / "reference.json").read_text())
    explanation = corgi.explain(paper_model, paper_image)
    assert explanation.class_id == reference["class_id"] == 17
    largest = np.sort(explanation.cam.reshape(-1))[::-1][:20]
    np.testing.assert_allclose(largest, reference["cam_sorted_first_20"], rtol=1e-3)
    assert not explanation.top.tie


def test_certificate_and_attack_beat_the_paper(paper_model, paper_image, data_dir) -> None:
    reference = json.loads((data_dir / "corgi_paper" / "reference.json").read_text())
    result = corgi.verify(paper_model, paper_image, k=15)
    assert result.attack is not None
    assert result.attack.radius is not None
    assert result.certificate.radius >= 0.0011 > reference["certificate_by_k"]["15"]
    assert result.attack.radius <= 0.0016 < reference["attack_by_k"]["15"]
    assert result.certificate.radius < result.attack.radius
    assert result.certificate.evaluations <= 8
    assert result.certificate.decision is not None
    assert result.certificate.decision.margin > result.certificate.decision.rounding_bound


def test_one_radius_is_decided(paper_model, paper_image) -> None:
    assert corgi.verify(paper_model, paper_image, eps=0.0009, attack=None).status is corgi.Status.PROVED
    assert corgi.verify(paper_model, paper_image, eps=0.0013).status is corgi.Status.REFUTED


def test_preprocessing_gives_the_published_input(data_dir, paper_model, paper_image) -> None:
    picture = data_dir / "corgi_paper" / "image_496.ppm"
    if not picture.is_file():
        pytest.skip(f"{picture} not found")
    np.testing.assert_array_equal(corgi.read_image(picture, paper_model, "gtsrb"), paper_image)
