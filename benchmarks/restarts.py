"""A pretraining killed ten times, each time gone on with by another number of ranks, beside undisturbed continuations.

Ranks are processes over gloo; fp32. At a random moment all are killed (kill -9), and another number of them goes on
from the newest checkpoint. In a copy of the run the same checkpoint is continued undisturbed on the number of ranks of
before: the next 20 losses of both are compared, and the images of every batch of every rank with those of the plan. For
scale, another copy is continued on the same ranks with weights that differ by one part in ten million.

Run: python benchmarks/restarts.py [--kills 10]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import numpy as np
import numpy.typing as npt
from scaling import free_port

from scoutview.batches import Archive, BatchPlan
from scoutview.files import replacing
from scoutview.images import MODALITIES, Image, band_energies, encode_spectrum, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import StoreWriter, make_record
from scoutview.store.shards import Keys
from scoutview.training.checkpoint import latest_checkpoint, load_checkpoint
from scoutview.training.run_folder import read_metrics

COMPARED = 20
FIRST = 150
"""Step before which nothing is killed: by then the losses have left ln K."""
STEPS = 100_000
BATCH = 48
RANKS = (1, 2, 3, 4)
SETTINGS: dict[str, Any] = {
    "encoder": "resnet18w0.125", "steps": STEPS, "batch_size": BATCH, "crops": (2, 2), "sizes": (64, 32),
    "visible": ((0.8, 1.0), (0.5, 0.8)), "energy": 0.2, "gamma_chance": 0.1, "linear_chance": 0.2, "prototypes": 8,
    "queue": 24, "queue_start": 30, "freeze_prototypes": 30, "projection": 8, "projector_hidden": 256,
    "learning_rate": 1.0, "warmup": 30, "precision": "fp32", "workers": 0, "log_every": 1, "checkpoint_every": 15,
    "probe_every": 0, "keep": 100_000, "input_size": 64,
}  # fmt: skip


def textured(generator: np.random.Generator, slope: float) -> npt.NDArray[np.float64]:
    """An image in [0, 1] whose amplitude falls as frequency^-slope."""
    noise = np.fft.rfft2(generator.standard_normal((96, 104)))
    radius = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(104)[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius**slope, s=(96, 104))
    scaled: npt.NDArray[np.float64] = (image - image.min()) / np.ptp(image)
    return scaled


def make_store(folder: Path) -> None:
    """64 random textures of every modality, which differ in how rough they are."""
    preprocessing = Preprocessing()
    grid = np.geomspace(32.0, 1200.0, 16)
    energies: dict[str, Any] = {}
    with StoreWriter(folder, "salt") as writer:
        for number, modality in enumerate(MODALITIES):
            generator = np.random.default_rng(number)
            spectra = []
            for count in range(64):
                pixels = textured(generator, 0.8 + 0.025 * count)
                stored, slope, offset, shifted = to_int16((pixels * 255).astype(np.uint8))
                image = Image(stored, modality, slope, offset, shifted=shifted)
                spectrum = radial_spectrum(preprocess(stored, calibration_of(image), preprocessing))
                spectra.append(spectrum)
                name = f"{modality}-{count:04d}"
                keys = Keys(name, name, "", "", name, name, name, "", "", "train")
                writer.add(make_record(image, keys, encode_spectrum(spectrum), preprocessing.identity()))
            table = np.stack([[band_energies(spectrum, side / 96) for spectrum in spectra] for side in grid])
            energies[modality] = {
                "preprocessing": preprocessing.identity(), "images": len(spectra), "short_sides": grid.tolist(),
                "mean": table.mean(1).tolist(), "deviation": table.std(1).tolist(),
            }  # fmt: skip
        writer.commit()
        writer.set_reference_energies(energies)


def rank(store: str, out: str) -> None:
    """One rank: the command, with the images of every batch written down."""
    import torch

    import scoutview
    from scoutview.pretraining import loop

    torch.set_num_threads(1)
    read = loop.view_loader  # type: ignore[attr-defined]
    number = os.environ.get("RANK", "0")

    def recorded(*arguments: object, **named: object) -> Iterator[object]:
        with (Path(out).parent / f"{Path(out).name}-ids-{number}.jsonl").open("a") as file:
            for batch in read(*arguments, **named):  # type: ignore[arg-type]
                ids = list(zip(batch.position.tolist(), batch.index.tolist(), strict=True))
                file.write(json.dumps([batch.step, ids]) + "\n")
                file.flush()
                yield batch

    loop.view_loader = recorded  # type: ignore[attr-defined,assignment]
    scoutview.pretrain([Path(store)], out=Path(out), recipe="small_cpu", **SETTINGS)


def start(store: Path, out: Path, ranks: int) -> list[Popen[bytes]]:
    """The processes of a run, as torchrun would start them."""
    port = str(free_port())
    processes = []
    for number in range(ranks):
        world = {}
        if ranks > 1:
            world = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "RANK": str(number),
                     "LOCAL_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0",
                     "TORCHELASTIC_RUN_ID": "restarts"}  # fmt: skip
        words = [sys.executable, __file__, "--rank", str(store), str(out)]
        processes.append(
            Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1", **world}, stdout=DEVNULL, stderr=DEVNULL)
        )
    return processes


def losses(out: Path) -> dict[int, float]:
    """Loss after every step of a run."""
    return {line["step"]: line["loss"] for line in read_metrics(out) if "loss" in line}


def until(out: Path, step: int, processes: list[Popen[bytes]]) -> None:
    """Wait until a run has logged a step."""
    while max(losses(out), default=0) < step:
        if any(process.poll() is not None for process in processes):
            raise SystemExit(f"a rank ended with {[process.poll() for process in processes]} before step {step}")
        time.sleep(0.2)


def kill(processes: list[Popen[bytes]]) -> None:
    """All at once."""
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()


def said(differences: list[float]) -> str:
    """Differences of losses after some of the steps."""
    return ", ".join(f"{differences[at - 1]:.0e} after {at}" for at in (1, 5, 10, 15, 20))


def newest(out: Path) -> int:
    """The step from which a run would go on."""
    path = latest_checkpoint(out / "checkpoints")
    return int(path.stem.split("-")[1]) if path else 0


def perturb(out: Path) -> None:
    """Change every weight of the newest checkpoint by one part in ten million, about fp32's rounding."""
    import torch

    path = latest_checkpoint(out / "checkpoints")
    assert path is not None
    state = load_checkpoint(path)
    for name, value in state["network"].items():
        if value.is_floating_point() and "running" not in name and "prototypes" not in name:
            state["network"][name] = value * (1 + 1e-7 * torch.sign(torch.randn_like(value)))
    with replacing(path) as temporary:
        torch.save(state, temporary)


def wrong_ids(folder: Path, plan: BatchPlan) -> tuple[int, int]:
    """(batches of ranks that were read, those with other images than the plan's)."""
    seen = wrong = 0
    for file in folder.glob("*-ids-*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                step, ids = json.loads(line)
            except ValueError:
                continue  # cut short by a kill
            planned = {draw.position: draw.index for draw in plan.batch(step)}
            seen += 1
            wrong += any(planned[position] != index for position, index in ids)
    return seen, wrong


def main() -> None:
    """Measure, and print what was found."""
    if sys.argv[1:2] == ["--rank"]:
        rank(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    kills = parser.parse_args().kills
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, out = folder / "store", folder / "run"
        make_store(store)
        ranks, worst = 2, 0.0
        processes = start(store, out, ranks)
        until(out, FIRST, processes)
        for number in range(kills):
            time.sleep(generator.uniform(0.0, 3.0))
            kill(processes)
            before, ranks = ranks, generator.choice([count for count in RANKS if count != ranks])
            step = newest(out)
            copy = folder / f"undisturbed-{number}"
            shutil.copytree(out, copy)
            undisturbed = start(store, copy, before)
            until(copy, step + COMPARED, undisturbed)
            kill(undisturbed)
            if number == 0:
                changed = folder / "perturbed"
                shutil.copytree(out, changed)
                perturb(changed)
                perturbed = start(store, changed, before)
                until(changed, step + COMPARED, perturbed)
                kill(perturbed)
                rounding = [abs(losses(copy)[at] - losses(changed)[at]) for at in range(step + 1, step + COMPARED + 1)]
                print(f"weights changed by 1e-7, the same ranks: {said(rounding)}", flush=True)
            processes = start(store, out, ranks)
            until(out, step + COMPARED, processes)
            one, other = losses(copy), losses(out)
            differences = [abs(one[at] - other[at]) for at in range(step + 1, step + COMPARED + 1)]
            worst = max(worst, *differences)
            print(
                f"killed at step {max(one)} or before, {before} -> {ranks} ranks from step {step}: {said(differences)}",
                flush=True,
            )
        kill(processes)
        archive = Archive.open([store])
        plan = BatchPlan.make(archive.select(("train", "validation")), BATCH, 0)
        seen, wrong = wrong_ids(folder, plan)
    print(f"batches of ranks whose images were compared: {seen}")
    print(f"batches with other images than the plan's: {wrong} (bar: 0)")
    print(f"largest difference of the {COMPARED} losses after {kills} restarts: {worst:.1e} (bar: <= 1e-4)")


if __name__ == "__main__":
    main()
