"""The public names: all there, all typed, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import corgi
from corgi.api import Changes, _chosen
from corgi.errors import UsageError


def test_every_public_name_resolves() -> None:
    assert set(corgi._HOME_OF) == set(corgi.__all__)
    for name in corgi.__all__:
        assert getattr(corgi, name) is not None


@pytest.mark.parametrize("module", ["corgi", "corgi.cli.start"])
def test_import_does_not_load_torch(module: str) -> None:
    """The command line sets how torch's threads wait; it must come before torch."""
    check = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


NAMES = {
    "nothing": ({}, corgi.PatchEngine(), True),
    "a method": ({"method": "alpha-crown"}, corgi.PatchEngine(corgi.PatchMethod.ALPHA_CROWN), False),
    "exact": ({"method": "exact"}, corgi.PatchEngine(), True),
    "patch": ({"engine": "patch"}, corgi.PatchEngine(), True),
    "lirpa": ({"engine": "lirpa"}, corgi.LirpaEngine(), False),
    "lirpa's": ({"method": "ibp"}, corgi.LirpaEngine(corgi.LirpaMethod.IBP), False),
    "lipschitz": ({"method": "lipschitz"}, corgi.LipschitzEngine(), False),
    "folded": ({"method": "crown", "form": "folded"}, corgi.PatchEngine(), False),
}


@pytest.mark.parametrize("asked", NAMES)
def test_names_are_accepted_where_enums_and_engines_are(asked: str) -> None:
    changes, engine, exactly = NAMES[asked]
    options = _chosen(None, Changes(**changes, norm="l2", k=3))
    assert (options.engine, options.exact is not None) == (engine, exactly)
    assert (options.norm, options.k) == (corgi.Norm.L2, 3)


def test_what_is_given_beside_names_stays() -> None:
    mine = corgi.VerifyOptions(k=4, exact=corgi.ExactOptions(gap=0.1))
    assert _chosen(mine, {"engine": "patch"}).exact == corgi.ExactOptions(gap=0.1)
    assert _chosen(mine, {"method": "exact", "exact": None}).exact is None
    assert _chosen(mine, {"engine": corgi.LirpaEngine()}).engine == corgi.LirpaEngine()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm": "l3"}, "norm 'l3': expected one of linf, l2, l1"),
        ({"method": "magic"}, "method 'magic'"),
        ({"engine": "patches"}, "engine 'patches'"),
        ({"engine": "lirpa", "method": "focus"}, "no method focus"),
        ({"engine": corgi.PatchEngine(), "method": "crown"}, "beside an engine"),
    ],
)
def test_names_that_are_none(changes: Changes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        _chosen(None, changes)
