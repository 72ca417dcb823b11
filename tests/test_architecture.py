"""The pipeline is the folder list: a layer imports only what stands below it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import corgi

PACKAGE = Path(corgi.__file__).parent
LAYERS = [
    {"cli"},
    {"api"},
    {"batch"},
    {"reporting"},
    {"train", "comparison", "vnnlib"},
    {"certify"},
    {"wanted"},
    {"decide"},
    {"attacks", "engines"},
    {"properties", "smoothing", "changes"},
    {"cam"},
    {"network"},
    {"data"},
    {"results"},
    {"types"},
    {"ambient"},
    {"budget"},
    {"errors", "memory", "progress", "terms", "workers"},
]
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """Parts of corgi a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("corgi.")}
    return found


ENGINES = ("patch", "lipschitz", "lirpa", "auto_lirpa", "forward")
BY_NAME = ("__init__.py", "certify/methods.py")
"""What builds engines by name; lazily, or for types."""


def modules(path: Path) -> set[str]:
    """Modules of corgi a file imports, by their whole names."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_only_names_know_the_inside_of_an_engine() -> None:
    inside = tuple(f"corgi.engines.{name}" for name in ENGINES)
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).as_posix()
        if relative in BY_NAME or relative.startswith(tuple(f"engines/{name}" for name in ENGINES)):
            continue
        wrong += [f"{relative} imports {name}" for name in modules(path) if name.startswith(inside)]
    assert not wrong, wrong


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_imports_go_down_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.stem in ("__init__", "__main__"):
            continue
        here = part(path)
        for other in imports(path) - {here}:
            if RANK[other] <= RANK[here]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports corgi.{other}")
    assert not wrong, wrong


def test_only_one_module_imports_auto_lirpa() -> None:
    users = [p.name for p in PACKAGE.rglob("*.py") if 'import_module("auto_LiRPA")' in p.read_text()]
    assert users == ["auto_lirpa.py"]
    assert not [p for p in PACKAGE.rglob("*.py") if "import auto_LiRPA" in p.read_text()]


def test_printing_and_exiting_live_in_the_cli() -> None:
    for path in PACKAGE.rglob("*.py"):
        if part(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("print", "exit", "sys.exit", "os._exit"), f"{path}: {name}"


def test_files_that_are_no_modules_are_installed() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]
    listed = {PACKAGE.parent / package.replace(".", "/") / name for package in data for name in data[package]}
    found = {
        p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts
    }
    assert found == listed


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_a_document_names_exist(name: str) -> None:
    """From the repository, from corgi/, or from the document; a bare name stands anywhere in corgi/."""
    document = PACKAGE.parent / name
    named = set(re.findall(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml)\b", document.read_text()))
    bare = {path.name for path in PACKAGE.rglob("*.py")}
    places = (PACKAGE.parent, PACKAGE, document.parent)
    assert [n for n in sorted(named - bare) if not any((place / n).is_file() for place in places)] == []
