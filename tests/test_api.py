"""The public names: all there, all typed, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import corgi


def test_every_public_name_resolves() -> None:
    assert set(corgi._HOME_OF) == set(corgi.__all__)
    for name in corgi.__all__:
        assert getattr(corgi, name) is not None


@pytest.mark.parametrize("module", ["corgi", "corgi.cli.start"])
def test_import_does_not_load_torch(module: str) -> None:
    """The command line sets how torch's threads wait; it must come before torch."""
    check = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
