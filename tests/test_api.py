"""The public names: all there, all typed, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import corgi


def test_every_public_name_resolves() -> None:
    assert set(corgi._HOME_OF) == set(corgi.__all__)
    for name in corgi.__all__:
        assert getattr(corgi, name) is not None


def test_import_does_not_load_torch() -> None:
    check = "import corgi, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
