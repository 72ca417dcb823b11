"""What each way through the command line may load: heavy libraries only where they are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from corgi.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch", "numpy", "onnx", "onnxruntime", "scipy", "highspy", "clarabel", "skimage", "PIL", "matplotlib",
    "captum", "jinja2", "auto_LiRPA", "rich",
)  # fmt: skip
"""Nothing of these is needed to read a command line, or to refuse it."""

_RUN = """
import json, sys
from corgi.cli.main import app
found = {}
for line in json.loads(sys.argv[1]):
    try:
        app(line)
    except SystemExit as stop:
        modules = [m for m in sys.modules if "." not in m or m.startswith("torch._")]
        found[" ".join(line)] = stop.code, sorted(modules)
sys.stdout.flush()
print("\\n" + json.dumps(found))
"""


def loaded_by(*lines: list[str]) -> dict[str, tuple[int, list[str]]]:
    """Exit code and modules there are after each of some command lines, run in one new process."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(lines)],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_a_command_line_is_read_and_refused_before_anything_heavy_loads() -> None:
    wrong = [
        ["verify", "no.onnx", "no.png"],
        ["cam", "no.onnx", "no.png"],
        ["inspect", "no.onnx"],
        ["smooth", "README.md", "no.png"],
        ["batch", "no.onnx", "images"],
        ["vnn", "run", "no.csv"],
        ["verify", "README.md", "README.md", "--method", "exact", "--form", "folded"],
        ["verify", "README.md", "README.md", "--k", "many"],
        ["verify", "README.md", "README.md", "--nonsense"],
    ]
    right = [["--version"], ["--help"], *([name, "--help"] for name in COMMANDS)]
    for line, (code, modules) in loaded_by(*right, *wrong).items():
        assert code == (0 if line.split() in right else 4), line
        assert [name for name in HEAVY if name in modules] == [], line


def test_an_answer_loads_nothing_that_it_does_not_use() -> None:
    line = ["verify", "models/gtsrb.onnx", "models/demo/no_entry.png", "--no-attack", "--method", "crown-ibp"]
    ((code, modules),) = loaded_by([*line, "--eps", "1e-5", "--json", "-"]).values()
    assert code == 0
    assert {"torch", "onnxruntime"} <= set(modules)
    unused = {"matplotlib", "captum", "jinja2", "auto_LiRPA", "playwright", "pyarrow", "torch._dynamo"}
    assert not unused & set(modules)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_of_them_says(name: str) -> None:
    group = typer.main.get_command(app)
    command = group.get_command(typer.Context(group), name)
    assert command.help.partition("\n\n")[0].replace("\n", " ") == COMMANDS[name]


def test_an_engine_without_its_library_is_refused_with_a_line_that_installs_it(monkeypatch) -> None:
    from corgi.certify.methods import build_engine
    from corgi.terms import EngineName, Method

    for module in ("auto_LiRPA", "corgi.engines.lirpa", "corgi.engines.auto_lirpa"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(Exception, match="pip install --no-deps auto-LiRPA"):
        build_engine(EngineName.LIRPA, Method.CROWN, "cpu")
