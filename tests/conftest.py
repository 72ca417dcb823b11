"""What all tests share: the real data, and Hypothesis without a clock."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from corgi.network.network import Network, load

# Timing is not a property under test, and a fixed search keeps a failure reproducible.
settings.register_profile("corgi", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("corgi")
# Two workers share two cores: more threads, those of started processes among them, only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


_SLOW = (
    "attacks/test_attacks.py", "batch/test_processes.py", "batch/test_work.py", "certify/test_curve.py",
    "certify/test_exact.py", "certify/test_label.py", "certify/test_radii.py", "cli/test_cli_smooth.py",
    "decide/test_deciders.py", "decide/test_linear.py", "engines/patch/test_engine.py",
    "engines/patch/test_intervals.py", "engines/patch/test_norms.py", "engines/patch/test_sampled.py",
    "engines/patch/test_unfold.py", "hostile", "lipschitz/test_engine.py", "network/test_exporters.py",
    "reporting/test_degenerate_pictures.py", "soundness", "test_ambient.py", "test_api.py", "test_budget.py",
    "test_imports.py", "test_workers.py", "train", "vnnlib/test_run.py",
)  # fmt: skip
"""Below tests/: what `make check` leaves out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they stand and what they need; see pyproject.toml."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix()
        if place.startswith(_SLOW):
            item.add_marker("slow")
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
        if "browser" in place:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared real data: $CORGI_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CORGI_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set CORGI_DATA")
    return folder


@pytest.fixture(scope="session")
def paper_model(data_dir: Path) -> Network:
    """The network of Gu et al., loaded."""
    path = data_dir / "corgi_paper" / "gtsrb_gu2020.onnx"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    return load(path)


@pytest.fixture(scope="session")
def paper_image(data_dir: Path) -> NDArray[np.float32]:
    """The image of their figure 3, as published and pre-processed: float32 [3, 48, 48]."""
    path = data_dir / "corgi_paper" / "image_496.npy"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    return np.load(path)
