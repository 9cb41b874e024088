"""What users rely on stands in the README as it stands in the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import pytest
import yaml

from hostwatch.model.reason import Reason
from hostwatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the table below a heading: first cell, without backticks, to the rest."""
    section = README.split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    cells = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in table[0].splitlines()[2:]
    ]
    return {name.strip("`"): rest for name, *rest in cells}


def settings() -> Iterator[tuple[str, str, str]]:
    for concern in get_type_hints(Settings).values():
        for name, field in concern.model_fields.items():
            description = " ".join((field.description or "").split())
            yield f"HOSTWATCH_{name.upper()}", default_of(field), description


def default_of(field) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return ""
    value = field.default
    if value in ((), None):
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_is_documented_as_it_is_defined() -> None:
    documented = {
        name: (default.strip("`"), text)
        for name, (default, text) in rows("### Settings").items()
        if name.startswith("HOSTWATCH_")
    }
    assert documented == {name: (value, text) for name, value, text in settings()}


def test_every_reason_is_explained() -> None:
    section = README.split("### What the status says")[1].split("### Collect now")[0]
    explained = re.findall(r"^\| `([A-Z]\w+)` \| \w", section, re.MULTILINE)
    conditions = {"Ready", "Reachable", "HostKeyTrusted", "Healthy"}
    assert set(explained) - conditions == {str(reason) for reason in Reason}


def test_every_metric_is_listed_with_its_help() -> None:
    page = (ROOT / "tests/fixtures/metrics.txt").read_text()
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    listed = {n: text for n, (text,) in rows("## The operator's own state").items()}
    assert listed == helps


def test_every_field_of_the_spec_is_explained() -> None:
    crd = yaml.safe_load((ROOT / "crds/monitoredservers.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = set(schema["properties"]["spec"]["properties"]) - {"jumpHostRef"}
    explained = {
        part.split(".")[0]
        for name in rows("## The resource")
        for part in name.split("`, `")
        if not part.startswith(".")
    }
    assert explained == fields


def test_the_defaults_of_the_crd_are_those_of_the_model() -> None:
    crd = yaml.safe_load((ROOT / "crds/monitoredservers.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]["properties"]
    defaults = {
        name: value["default"] for name, value in spec.items() if "default" in value
    }
    assert defaults == {
        "port": 22,
        "user": "hostwatch",
        "connection": "Persistent",
        "intervalSeconds": 30,
        "timeoutSeconds": 60,
        "retries": 2,
        "suspend": False,
    }


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "<!--" not in README


@pytest.mark.parametrize(
    "subject",
    [
        "hostwatch.<organization>.resources.<namespace>.<name>",
        "hostwatch.<organization>.>",
    ],
)
def test_the_subjects_stand_in_the_readme(subject: str) -> None:
    assert subject in README
