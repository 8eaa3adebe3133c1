"""`scoutview doctor`: what it finds, what stands in the way, and that one failing look does not hide the others."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scoutview import doctor
from scoutview.__main__ import main
from scoutview.commands import doctor as module
from scoutview.errors import UsageError


def findings(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, dict[str, str]]]:
    code = doctor(folder, json=True)
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == (1 if content["bad"] else 0)
    return code, {entry["name"]: entry for entry in content["findings"]}


def test_numbers_are_those_of_the_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = findings(capsys, tmp_path)
    free = shutil.disk_usage(tmp_path).free / 2**30
    assert abs(float(found["disk"]["text"].split()[0]) - free) <= 1.5
    assert str(tmp_path) in found["disk"]["text"]
    assert found["open files"]["text"].startswith(str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    assert f"{len(os.sched_getaffinity(0))} cores" in found["processor"]["text"]
    assert found["store codec"]["state"] == found["DICOM decoders"]["state"] == "good"
    assert not list(tmp_path.iterdir())


def test_a_secret_that_others_can_read_is_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCOUTVIEW_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert findings(capsys, tmp_path)[1]["secret"]["state"] == "note"
    key = tmp_path / "scoutview" / "key"
    assert not key.exists()  # looking makes none
    key.parent.mkdir()
    key.write_text("secret")
    key.chmod(0o644)
    code, found = findings(capsys, tmp_path)
    assert (code, found["secret"]["state"]) == (1, "bad")
    assert "chmod 600" in found["secret"]["text"]
    key.chmod(0o600)
    assert findings(capsys, tmp_path)[1]["secret"]["state"] == "good"
    assert "secret" not in json.dumps(findings(capsys, tmp_path)[1]["secret"]).replace(str(key), "").replace(
        '"name": "secret"', ""
    )


def test_one_failing_look_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no decoder")

    monkeypatch.setattr(module, "encode", broken)
    code, found = findings(capsys, tmp_path)
    assert code == 1
    assert found["store codec"]["text"] == "cannot be looked at: OSError: no decoder"
    assert "disk" in found


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    developers = {"dev", "docs"}
    brought = {name: {Requirement(text).name for text in extras[name]} for name in set(extras) - developers}
    assert {name: set(distributions) for name, (distributions, _) in module.EXTRAS.items()} == brought


def test_an_extra_names_its_versions_or_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "onnxscript":
            raise metadata.PackageNotFoundError(name)
        return "7.8"

    monkeypatch.setattr(module.metadata, "version", version)
    found = findings(capsys, tmp_path)[1]
    missing = "models as ONNX: lacks onnxscript: pip install 'scoutview[export]'"
    assert (found["export"]["state"], found["export"]["text"]) == ("note", missing)
    assert (found["s3"]["state"], found["s3"]["text"]) == ("good", "archives in object storage: obstore 7.8")


def test_the_folder_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCOUTVIEW_KEY", "secret")
    assert main(["doctor", "--json"]) == 0
    assert str(tmp_path.resolve()) in capsys.readouterr().out.splitlines()[-1]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder: give the one where stores and runs are to lie"):
        doctor(tmp_path / "nowhere")
