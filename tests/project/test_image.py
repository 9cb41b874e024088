"""The image, as far as can be told without building it: its recipe, its wheel."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "hostwatch"
DOCKERFILE = (ROOT / "operator" / "Dockerfile").read_text()

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage; a continued line is one."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            found.append([])
        found[-1].append((keyword, rest))
    return found


def values(stage: list[Instruction], keyword: str) -> list[str]:
    return [rest for name, rest in stage if name == keyword]


def test_every_stage_starts_from_the_same_python() -> None:
    assert [stage[0] for stage in stages()] == [
        ("FROM", "python:3.13-slim AS build"),
        ("FROM", "python:3.13-slim"),
    ]


def test_the_last_stage_installs_nothing_and_runs_as_nobody() -> None:
    *_, last = stages()
    assert values(last, "RUN") == []
    assert values(last, "COPY") == ["--from=build /opt/hostwatch /opt/hostwatch"]
    assert values(last, "USER") == ["65532:65532"]
    assert values(last, "ENTRYPOINT") == ['["hostwatch"]']
    assert values(last, "CMD") == ['["operator"]']
    environment = dict(
        entry.split("=", 1) for entry in shlex.split(values(last, "ENV")[0])
    )
    assert environment["USER"] == "hostwatch"
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_whatever_comes_from_an_index_has_a_known_hash() -> None:
    build, _ = stages()
    commands = [c for run in values(build, "RUN") for c in run.split("&&")]
    installs = [c for c in commands if re.search(r"\bpip .*(install|wheel) ", c)]
    assert len(installs) == 5
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    build, _ = stages()
    copied = [path for rest in values(build, "COPY") for path in rest.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied)
    assert "*" in lines


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d")
    subprocess.run([*command, directory], cwd=ROOT, capture_output=True, check=True)
    (built,) = directory.glob("hostwatch-*-py3-none-any.whl")
    return built


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {n for n in archive.namelist() if ".dist-info/" not in n}
    files = (path for path in PACKAGE.rglob("*") if path.is_file())
    expected = {
        f"hostwatch/{path.relative_to(PACKAGE)}"
        for path in files
        if "__pycache__" not in path.parts
    }
    assert packed == expected
    assert "hostwatch/py.typed" in packed
    assert "hostwatch/store/migrations/0001_servers_and_samples.sql" in packed


def test_the_wheel_installs_into_an_empty_environment(
    wheel: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    pip = (tmp_path / "bin" / "pip", "--disable-pip-version-check", "install")
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    listed = "import hostwatch.store.migrations; print(*hostwatch.__path__)"
    done = subprocess.run(
        [tmp_path / "bin" / "python", "-c", listed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (site,) = (tmp_path / "lib").glob("python*/site-packages/hostwatch")
    assert done.stdout.strip() == str(site)
    commands = {path.name for path in (tmp_path / "bin").glob("*hostwatch")}
    assert commands == {"hostwatch", "kubectl-hostwatch"}
