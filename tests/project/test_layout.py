"""The repository itself: what may lie where, and words that must not stand in it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "hostwatch"
MODULES = sorted(PACKAGE.rglob("*.py"))


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_the_top_level_holds_what_it_should() -> None:
    top = {path.split("/")[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} <= {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "kind-config.yaml",
        "operator",
        "crds",
        "helm",
        "tests",
    }


def test_operator_is_a_folder_and_shadows_no_module() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_has_one_subject(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 400
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
        # A command's options are its signature: what counts is what it does.
        and (node.end_lineno or node.lineno) - node.body[0].lineno >= 60
    ]
    assert long == []


def test_host_keys_are_always_checked() -> None:
    switched_off = [
        str(module)
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.keyword)
        and node.arg == "known_hosts"
        and isinstance(node.value, ast.Constant)
        and node.value.value is None
        and "ssh" in module.parts
    ]
    assert switched_off == []


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager"])
def test_no_module_is_a_drawer(name: str) -> None:
    assert [str(m) for m in MODULES if m.stem == name] == []


@pytest.mark.parametrize(
    "parts",
    [
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("proxy.golang", ".org"),
        ("sum.golang", ".org"),
        ("/wo", "rk/"),
        ("/tmp/", "venv"),
    ],
    ids="".join,
)
def test_no_file_speaks_of_one_registry_or_one_machine(parts: tuple[str, ...]) -> None:
    """The word is in parts, so that this file does not hold it either."""
    word = "".join(parts)
    files = [ROOT / path for path in tracked()]
    texts = {file: file.read_bytes() for file in files if file.is_file()}
    found = [file for file, text in texts.items() if word.encode() in text]
    assert [str(file.relative_to(ROOT)) for file in found] == []


def test_kubectl_finds_the_command_beside_it() -> None:
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        [f"{scripts}/kubectl", "hostwatch", "--help"],
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Watch Linux servers over plain SSH" in done.stdout


def test_the_locks_name_no_address() -> None:
    locks = [path for path in tracked() if path.endswith("requirements.txt")]
    assert len(locks) == 4
    assert [lock for lock in locks if "://" in (ROOT / lock).read_text()] == []
