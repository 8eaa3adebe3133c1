"""A new user's path from a fresh clone, each command timed: to a report, an encoder on own DICOM, a detector.

Clones this repository, runs what README.md says, and tells how many commands and minutes lie before each. The user's
own archive is stood in for by phantoms as DICOM, with boxes; drawing them is no command of the path. The trainings are
short: what is timed is the way, not the worth of the models. The installation downloads packages, or takes them from
pip's cache.

Run: python benchmarks/new_user.py [--out FOLDER] [--pretraining_steps 120] [--detector_steps 120]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--pretraining_steps", type=int, default=120)
    parser.add_argument("--detector_steps", type=int, default=120)
    arguments = parser.parse_args()
    out = (arguments.out or Path(tempfile.mkdtemp()) / "new-user").resolve()
    out.mkdir(parents=True)
    print(f"in {out}; what the commands print is in output.txt there")
    clone = out / "scoutview"
    places = os.pathsep.join([str(clone / ".venv" / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": places, "SCOUTVIEW_KEY": "phantoms need no secret"}
    environment.pop("PYTHONPATH", None)

    def run(command: str, folder: Path = out) -> float:
        """Run one command of a user; returns its minutes."""
        print(f"$ {command}", flush=True)
        with (out / "output.txt").open("a") as output:
            begin = time.monotonic()
            subprocess.run(shlex.split(command), cwd=folder, env=environment, stdout=output, stderr=output, check=True)
        minutes = (time.monotonic() - begin) / 60
        print(f"  {minutes * 60:.0f} s", flush=True)
        return minutes

    cloned = run(f"git clone --quiet {shlex.quote(str(REPOSITORY))} scoutview")
    # `make demo` installs first; timed apart, as it hangs on the network and happens once.
    installed = run("make .venv/.ready", clone)
    demo = run("make demo", clone)
    subprocess.run([str(clone / ".venv" / "bin" / "python"), "-c", DRAW], cwd=out, env=environment, check=True)
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
    print(f"minutes of clone and installation: {cloned + installed:.1f} (bar: none)")
    print("commands from nothing to the first report: 2 (bar: none)")
    print(f"minutes of the demo, once installed: {demo:.1f} (bar: none)")
    print(f"commands from own DICOM to an encoder: {len(to_encoder)} (bar: none)")
    print(f"minutes of these, {arguments.pretraining_steps} steps: {sum(to_encoder):.1f} (bar: none)")
    print(f"commands from there to a detector, its pages and predictions: {len(to_detector)} (bar: none)")
    print(f"minutes of these, {arguments.detector_steps} steps: {sum(to_detector):.1f} (bar: none)")


if __name__ == "__main__":
    main()
