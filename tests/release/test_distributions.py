"""What `make dist` makes: the wheel holds the package and nothing else, the source distribution the repository."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import scoutview

REPOSITORY = Path(__file__).resolve().parents[2]
LEFT = ("dist", "build", "*.egg-info", "__pycache__", "demo", "runs", "site")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (find_spec("build") and find_spec("setuptools")), reason="no build"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of both distributions, built from a copy: a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("release")
    copy = folder / "copy"
    copy.mkdir()
    for path in sorted(REPOSITORY.iterdir()):
        if path.name.startswith(".") or any(path.match(pattern) for pattern in LEFT):
            continue
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        else:
            shutil.copy(path, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"scoutview-{scoutview.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        rest = {name.split(".dist-info/")[1] for name in file.namelist() if ".dist-info/" in name}
        source = REPOSITORY / "src"
        there = {path for path in (source / "scoutview").rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert names == {path.relative_to(source).as_posix() for path in there}
        for path in there:
            assert file.read(path.relative_to(source).as_posix()) == path.read_bytes()
    assert {"scoutview/py.typed", "scoutview/recipes/small_cpu.yaml", "scoutview/report/atlas.js"} <= names
    assert rest == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


def test_the_metadata_say_version_python_licence_and_extras(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        text = file.read(f"scoutview-{scoutview.__version__}.dist-info/METADATA").decode()
    fields = email.message_from_string(text)
    assert fields["Version"] == scoutview.__version__
    assert f"\nversion: {scoutview.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "Apache-2.0"
    assert {"cluster", "dicom-sr", "export", "monai", "s3"} <= set(fields.get_all("Provides-Extra") or [])
    assert (fields["Description-Content-Type"], text.count("# scoutview")) == ("text/markdown", 1)


def test_the_source_distribution_is_the_repository(built: Path) -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listing.returncode or not listing.stdout:
        pytest.skip("not a git checkout")
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        top = f"scoutview-{scoutview.__version__}/"
        names = {member.name.removeprefix(top) for member in file if member.isfile()}
    tracked = {name for name in listing.stdout.splitlines() if (REPOSITORY / name).is_file()}
    missing = {name for name in tracked - names if not name.startswith(".")}  # CI and git's own files
    assert missing == set()
    extra = {name for name in names - tracked if not name.startswith("src/scoutview.egg-info/")}
    assert extra <= {"PKG-INFO", "setup.cfg"} | untracked()


def untracked() -> set[str]:
    """Files that git would add: they are in the working copy, and so in what is built from it."""
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    return set(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines())
