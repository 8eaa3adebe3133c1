"""Installs the wheel as a user does, under each interpreter, and tries it: alone, then with every extra.

    python tools/try_wheel.py dist python3.11 python3.12 [--without_torch]

Alone: the help, `doctor`, an ingest, a pretraining of two steps, and what a command says whose extra is missing. With
every extra: the tests that came with the source distribution, against the wheel. What is installed must be what the
bill of materials names. Needs the package index; takes half an hour per interpreter, nearly all of it tests.
--without_torch is for interpreters that torch has no build for at hand: all but torch is installed, and only tried are
the tests that run without it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
CONSTRAINTS = TOOLS.parent / "constraints.txt"
EXTRAS = "cluster,dicom-sr,export,monai,s3"
FOR_TESTS = ("SimpleITK", "build", "flask", "flask-cors", "hypothesis", "moto[s3]", "pytest", "pyyaml", "setuptools")
LOGGERS = ("mlflow-skinny", "wandb")
"""In no bill of materials: installed after what it names was compared."""
NO_TORCH_TESTS = ("images/test_types.py", "store/test_blocks.py", "store/test_masks.py", "phantoms/test_drawing.py")
PHANTOMS = """
from pathlib import Path
from scoutview.phantoms import write_phantoms
write_phantoms(Path("phantoms"), patients={"xray": 8, "us": 8}, seed=0, size=64, slices=1)
"""


def main() -> int:
    """Try every interpreter that is there. Returns 0; a failed try ends with the output of what failed."""
    parser = argparse.ArgumentParser(description="installs the wheel and tries it")
    parser.add_argument("dist", type=Path)
    parser.add_argument("pythons", nargs="+")
    parser.add_argument("--without_torch", action="store_true")
    parser.add_argument("--tests", default="-m 'not slow'", help="words for pytest, in one argument")
    arguments = parser.parse_args()
    (wheel,) = arguments.dist.resolve().glob("*.whl")
    tried = 0
    for python in arguments.pythons:
        if shutil.which(python) is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
            print(f"{python}: not here, left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            if arguments.without_torch:
                try_without_torch(python, wheel, Path(folder))
            else:
                install_everything(python, wheel, Path(folder))
                try_alone(python, wheel, Path(folder))
                run_tests(Path(folder), Path(folder) / "whole", wheel, shlex.split(arguments.tests))
        tried += 1
        print(f"{python}: good", flush=True)
    if not tried:
        sys.exit("no interpreter was tried")
    return 0


def try_alone(python: str, wheel: Path, folder: Path) -> None:
    """Without extras: what is installed, the help, the doctor, a store, a run, the advice where an extra is missing."""
    compare(install(python, folder / "alone", str(wheel)), components(folder, {"required"}))
    scout = str(folder / "alone" / "bin" / "scoutview")
    version = wheel.name.split("-")[1]
    assert run(folder, scout, "--version").strip() == f"scoutview {version}"
    assert "pretrain" in run(folder, scout, "--help")
    run(folder, scout, "doctor")
    run(folder, str(folder / "alone" / "bin" / "python"), "-c", PHANTOMS)
    counts = json.loads(run(folder, scout, "ingest", "phantoms/images", "--out", "store", "--json").splitlines()[-1])
    assert counts["taken"] == counts["images"] == 16, counts
    small = ["--steps", "2", "--batch_size", "8", "--workers", "0", "--probe_every", "0"]
    run(folder, scout, "pretrain", "store", "--out", "run", "--recipe", "demo", *small)
    assert (folder / "run" / "report.html").is_file()
    for words in (
        ["export", "run", "--format", "onnx", "--out", "exported"],
        ["ingest", "s3://bucket/folder", "--out", "other"],
        ["ingest", "phantoms/images", "--out", "other", "--cluster", "local"],
    ):
        said = run(folder, scout, *words, code=2)
        assert re.search(r"pip install 'scoutview\[\w+\]'", said), said
        assert "Traceback" not in said, said


def install_everything(python: str, wheel: Path, folder: Path) -> None:
    """With every extra. Leaves in the folder the bill of materials of this interpreter, as some require more."""
    installed = install(python, folder / "whole", f"{wheel}[{EXTRAS}]")
    inside = str(folder / "whole" / "bin" / "python")
    run(folder, inside, str(TOOLS / "bill_of_materials.py"), "--out", ".")
    compare(installed, components(folder, {"required", "optional"}))
    version = run(folder, inside, "-c", "import sys; print(*sys.version_info[:2])").split()
    if version == [str(number) for number in sys.version_info[:2]]:  # that of the bill beside the wheel
        compare(installed, components(wheel.parent, {"required", "optional"}))


def compare(installed: set[tuple[str, str]], named: set[tuple[str, str]]) -> None:
    """What is installed must be what is named."""
    assert installed == named, f"installed and not named: {installed - named}, named and not: {named - installed}"


def try_without_torch(python: str, wheel: Path, folder: Path) -> None:
    """All requirements but torch and what requires it, by their pins, and the tests of the rooms that need none."""
    torchless = [
        f"{part['name']}=={part['version']}"
        for part in bill(wheel.parent)["components"]
        if part["name"] not in ("torch", "lightning-fabric", "monai")
    ]
    install(python, folder / "part", *torchless)
    pip(folder / "part", "--no-deps", str(wheel))
    scout = str(folder / "part" / "bin" / "scoutview")
    assert run(folder, scout, "--version").startswith("scoutview ")
    run(folder, str(folder / "part" / "bin" / "python"), "-c", PHANTOMS)
    words = ["-p", "no:cacheprovider", *(f"tests/{name}" for name in NO_TORCH_TESTS)]
    run_tests(folder, folder / "part", wheel, words)


def run_tests(folder: Path, environment: Path, wheel: Path, words: list[str]) -> None:
    """Unpack the source distribution without its package, so that the wheel is what is imported."""
    pip(environment, *FOR_TESTS, *LOGGERS)
    (source,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as file:
        file.extractall(folder, filter="data")
    root = folder / source.name.removesuffix(".tar.gz")
    where = "import scoutview; print(scoutview.__path__[0])"
    python = str(environment / "bin" / "python")
    assert run(root, python, "-c", where).strip().startswith(str(environment)), (
        "the sources are imported, not the wheel"
    )
    print(run(root, python, "-m", "pytest", "-q", *words).splitlines()[-1], flush=True)


def bill(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The bill of materials in a folder."""
    (file,) = folder.glob("*.cdx.json")
    content: dict[str, list[dict[str, str]]] = json.loads(file.read_text(encoding="utf-8"))
    return content


def components(folder: Path, scopes: set[str]) -> set[tuple[str, str]]:
    """(name, version) of what the bill of materials there names, local versions such as +cpu aside."""
    parts = bill(folder)["components"]
    return {(part["name"], part["version"].partition("+")[0]) for part in parts if part["scope"] in scopes}


def install(python: str, environment: Path, *what: str) -> set[tuple[str, str]]:
    """A fresh virtual environment; (canonical name, version) of all that pip then lists but scoutview and itself."""
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    before = listed(environment)
    pip(environment, *what)
    # setuptools may come with the environment, as in Python 3.11, or be required.
    return {entry for entry in listed(environment) if entry not in before and entry[0] not in ("pip", "scoutview")}


def pip(environment: Path, *what: str) -> None:
    """Install by the pins."""
    words = ["install", "--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS), *what]
    run(environment, str(environment / "bin" / "python"), "-m", "pip", *words)


def listed(environment: Path) -> set[tuple[str, str]]:
    """What pip lists."""
    words = ["-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    entries = json.loads(run(environment, str(environment / "bin" / "python"), *words).splitlines()[0])
    return {(re.sub(r"[-_.]+", "-", entry["name"]).lower(), entry["version"].partition("+")[0]) for entry in entries}


def run(folder: Path, *words: str, code: int = 0) -> str:
    """What a command says, where it failed as it should its complaint; it must end with `code`."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"SCOUTVIEW_KEY": "of a try"}
    said = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if said.returncode != code:
        sys.exit(
            f"{' '.join(words)}\nended with {said.returncode}, not {code}:\n{said.stdout[-4000:]}{said.stderr[-4000:]}"
        )
    return said.stderr if code else said.stdout


if __name__ == "__main__":
    sys.exit(main())
