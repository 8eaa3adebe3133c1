"""constraints.txt holds a version of everything that pyproject.toml asks for, and one that it allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_requirement_has_a_pin_that_it_allows() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    wanting = {
        requirement.name: str(requirement.specifier)
        for requirement in map(Requirement, asked)
        if requirement.name != project["name"]
        and not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    }
    assert wanting == {}
