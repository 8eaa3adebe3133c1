"""A new user's path from a fresh clone, each command timed: to a report, an encoder on own DICOM, a detector.

Clones this repository, runs what README.md says, and tells how many commands and minutes lie before each. The user's
own archive is stood in for by phantoms as DICOM, with boxes; drawing them is no command of the path. The trainings are
short: what is timed is the way, not the worth of the models. The installation downloads packages, or takes them from
pip's cache; VENV=FOLDER names an environment that is there, as it does for make.

Run: python benchmarks/new_user.py [--out FOLDER] [--pretraining_steps 60] [--detector_steps 60]
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

Times = tuple[float, float]
"""Seconds of the clock, core-seconds."""
REPOSITORY = Path(__file__).resolve().parents[1]
DRAW = """
from pathlib import Path
from scoutview.phantoms import write_phantoms
write_phantoms(Path("archive"), patients={"xray": 240, "ct": 60, "mr": 60, "us": 120}, seed=5, size=192, slices=3)
"""
SLIM = "--input_size 192 --width 64 --depth 2 --batch_size 8"
"""As docs/detection.md advises for two cores, at the size of these radiographs."""


def main() -> None:
    """Walk the path; every command that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a folder that is not there yet; a temporary one by default")
    parser.add_argument("--pretraining_steps", type=int, default=60)
    parser.add_argument("--detector_steps", type=int, default=60)
    arguments = parser.parse_args()
    out = (arguments.out or Path(tempfile.mkdtemp()) / "new-user").resolve()
    out.mkdir(parents=True)
    print(f"in {out}; what the commands print is in output.txt there")
    clone = out / "scoutview"
    # As in the Makefile: another environment, which is brought up to date if it is there.
    installation = (clone / os.environ.get("VENV", ".venv")).resolve()
    places = os.pathsep.join([str(installation / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": places, "SCOUTVIEW_KEY": "phantoms need no secret"}
    environment.pop("PYTHONPATH", None)

    def run(command: str, folder: Path = out) -> Times:
        """Run one command of a user."""
        print(f"$ {command}", flush=True)
        with (out / "output.txt").open("a") as output:
            begin = times()
            subprocess.run(shlex.split(command), cwd=folder, env=environment, stdout=output, stderr=output, check=True)
        seconds, core_seconds = (now - then for now, then in zip(times(), begin, strict=True))
        print(f"  {seconds:.0f} s, {core_seconds:.0f} core-seconds", flush=True)
        return seconds, core_seconds

    cloned = run(f"git clone --quiet {shlex.quote(str(REPOSITORY))} scoutview")
    # `make demo` installs first; timed apart, as it hangs on the network and happens once.
    installed = run(f"make VENV={shlex.quote(str(installation))} {shlex.quote(str(installation / '.ready'))}", clone)
    demo = run(f"make VENV={shlex.quote(str(installation))} demo", clone)
    subprocess.run([str(installation / "bin" / "python"), "-c", DRAW], cwd=out, env=environment, check=True)
    to_encoder = [
        run("scoutview ingest archive/images --out store"),
        run("scoutview inspect store --html inspect.html"),
        run(f"scoutview pretrain store --out run --recipe small_cpu --steps {arguments.pretraining_steps}"),
    ]
    training = f"scoutview finetune chest_detection store --encoder run --out detector {SLIM}"
    to_detector = [
        run("scoutview label store archive/boxes.json"),
        run(f"{training} --steps {arguments.detector_steps}"),
        run("scoutview evaluate detector store"),
        run("scoutview predict detector archive/images/xray/P0001 --out predictions"),
    ]
    for page in ("scoutview/demo/report.html", "inspect.html", "run/report.html", "detector/report.html"):
        assert (out / page).is_file(), page
    assert (out / "detector" / "cases.html").is_file()
    encoder, detector = f"{arguments.pretraining_steps} steps", f"{arguments.detector_steps} steps"
    show("clone and installation", 2, [cloned, installed])
    show("first report, once installed", 1, [demo])
    show(f"own DICOM to an encoder, {encoder}", len(to_encoder), to_encoder)
    show(f"encoder to a detector, its pages, predictions, {detector}", len(to_detector), to_detector)


def times() -> Times:
    """Seconds of the clock, and core-seconds of the commands so far, which other work on the machine changes less."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), children.ru_utime + children.ru_stime


def show(name: str, commands: int, taken: list[Times]) -> None:
    """A stretch of the path as figures."""
    minutes, core_minutes = (sum(part) / 60 for part in zip(*taken, strict=True))
    print(f"{name}, commands: {commands} (bar: none)")
    print(f"{name}, minutes: {minutes:.1f} (bar: none)")
    print(f"{name}, core-minutes: {core_minutes:.1f} (bar: none)")


if __name__ == "__main__":
    main()
