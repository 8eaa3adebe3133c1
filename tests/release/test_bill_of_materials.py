"""The bill of materials on made-up packages whose closure is known by hand, and on what is installed."""

from __future__ import annotations

import json
import sys
from email.message import Message
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bill_of_materials.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = spec_from_file_location("bill_of_materials", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PACKAGES = {
    # name: (requirements, licence fields)
    "top": (
        ["One>=1", "never; python_version < '3'", "two[fast]; extra == 'quick'", "tests; extra == 'dev'"],
        ["Provides-Extra: quick", "Provides-Extra: dev", "License-Expression: Apache-2.0"],
    ),
    "one": (["three"], ["License-Expression: MIT AND (Apache-2.0 OR GPL-3.0-only)"]),
    "two": (["four; extra == 'fast'", "five; extra == 'slow'", "one"], ["License: MIT"]),
    "three": (["one"], ["Classifier: License :: OSI Approved :: BSD License"]),  # a circle
    "four": ([], ["License-Expression: 0BSD"]),
    "five": ([], []),
    "tests": ([], ["License: GPLv3"]),
}


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, (requirements, fields) in PACKAGES.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *fields]
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in requirements), ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_closure_is_the_one_made_by_hand(tool: ModuleType, made_up: Path) -> None:
    parts = {part.name: part for part in tool.runtime_parts("top")}
    assert {name: part.extra for name, part in parts.items()} == {
        "top": "",
        "one": "",
        "three": "",
        "two": "quick",
        "four": "quick",
    }
    assert parts["top"].needs == ("one", "two")
    assert all(part.accepted for part in parts.values())
    assert parts["three"].licence == "BSD"


def test_a_missing_requirement_is_an_error(tool: ModuleType, made_up: Path) -> None:
    (made_up / "three-1.0.dist-info" / "METADATA").unlink()
    (made_up / "three-1.0.dist-info").rmdir()
    with pytest.raises(metadata.PackageNotFoundError, match="three"):
        tool.runtime_parts("top")


@pytest.mark.parametrize(
    ("fields", "licence", "accepted"),
    [
        (["License-Expression: GPL-2.0-or-later"], "GPL-2.0-or-later", False),
        (["License-Expression: MIT AND GPL-3.0-only"], "MIT AND GPL-3.0-only", False),
        (["License-Expression: MIT OR GPL-3.0-only"], "MIT OR GPL-3.0-only", True),
        (["License: GPLv3"], "GPLv3", False),
        (["Classifier: License :: OSI Approved :: GNU Affero General Public License v3"],
         "GNU Affero General Public License v3", False),
        (["License: see LICENSE"], "see LICENSE", False),
        (["License: Dual License", "Classifier: License :: OSI Approved :: BSD License",
          "Classifier: License :: OSI Approved :: Apache Software License"], "BSD OR Apache-2.0", True),
        (["License: BSD", "License-Expression: AGPL-3.0-only"], "AGPL-3.0-only", False),
        ([], "unknown", False),
    ],
)  # fmt: skip
def test_licences(tool: ModuleType, fields: list[str], licence: str, accepted: bool) -> None:
    content = Message()
    for field in fields:
        name, value = field.split(": ", 1)
        content[name] = value
    assert tool.licence_of(content) == (licence, accepted)


def test_the_files_name_what_is_installed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: Path
) -> None:
    monkeypatch.setattr(tool, "PACKAGE", "top")
    monkeypatch.setattr(tool.runtime_parts, "__defaults__", ("top",))
    monkeypatch.setattr(sys, "argv", ["bill_of_materials.py", "--out", str(tmp_path / "out")])
    assert tool.main() == 0
    content = json.loads((tmp_path / "out" / "top-1.0.cdx.json").read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    named = {part["name"]: part for part in content["components"]}
    assert set(named) == {"one", "two", "three", "four"}
    assert [name for name, part in named.items() if part["scope"] == "optional"] == ["four", "two"]
    assert named["four"]["purl"] == "pkg:pypi/four@1.0"
    assert named["three"]["licenses"] == [{"license": {"name": "BSD"}}]
    edges = {entry["ref"]: entry["dependsOn"] for entry in content["dependencies"]}
    assert edges["pkg:pypi/three@1.0"] == ["pkg:pypi/one@1.0"]
    rows = (tmp_path / "out" / "top-1.0.licences.md").read_text().splitlines()[2:]
    assert rows[0] == "| four | 1.0 | 0BSD | quick |"
    # One package without a licence stops the release.
    (made_up / "four-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.4\nName: four\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "argv", ["bill_of_materials.py", "--out", str(tmp_path / "none")])
    assert tool.main() == 1
    assert not (tmp_path / "none").exists()


def test_every_licence_of_this_installation_is_accepted(tool: ModuleType) -> None:
    parts = tool.runtime_parts()
    assert [(part.name, part.licence) for part in parts if not part.accepted] == []
    assert {"torch", "numpy", "lightning-fabric"} <= {part.name for part in parts if not part.extra}
