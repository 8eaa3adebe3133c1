"""Two ranks over gloo on two cores, beside two independent runs on one core each: images per second of both together.

ResNet-50, the crops and the queue of xray_2d, whole steps as the loop makes them. The ranks average gradients, share
BatchNorm's statistics and balance their codes together; the independent runs, which go on at the same time so that the
cores, caches and memory are as busy, do nothing of that.

Run: python benchmarks/scaling.py [--images 16] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from subprocess import PIPE, Popen

import numpy as np


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def rank(images: int, rounds: int) -> None:
    """One process, as torchrun would start it, or alone: prints seconds per step, and the share of each stage."""
    import torch
    from training_steps import Step, batch_of, settings_of, timed

    from scoutview.memory import keep_freed_memory
    from scoutview.training import make_fabric, watch_gradients

    torch.set_num_threads(1)
    keep_freed_memory()
    fabric = make_fabric("32-true")
    step = Step(settings_of("xray_2d", encoder="resnet50", precision="fp32"), images, fabric)
    if fabric.world_size > 1:
        watch_gradients(step.model._forward_module, step.stages)
    batch = batch_of(step.recipe, images, fabric.global_rank)
    times = []
    for number in range(rounds + 1):
        step.stages.lap()
        seconds = timed(lambda: step.whole(batch), fabric.device)
        if number:
            times.append(seconds)
    shares = ", ".join(f"{stage} {share:.1%}" for stage, share in step.stages.lap()[1].items() if share)
    print(f"seconds {float(np.median(times)):.3f} of which {shares}", flush=True)


def run(images: int, rounds: int, joined: bool) -> float:
    """Images per second of two processes together."""
    words = [sys.executable, __file__, "--images", str(images), "--rounds", str(rounds), "--rank"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    port = str(free_port())
    processes = []
    for number in range(2):
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(number), "LOCAL_RANK": str(number)}
        world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "scaling"}
        world |= {"GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
        processes.append(Popen(words, env={**environment, **(world if joined else {})}, stdout=PIPE, text=True))
    total = 0.0
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"a process ended with {process.returncode}")
        line = next(line for line in output.splitlines() if line.startswith("seconds"))
        print(f"{'two ranks' if joined else 'alone'}: {line}")
        total += images / float(line.split()[1])
    return total


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16, help="of a rank")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        rank(arguments.images, arguments.rounds)
        return
    alone = run(arguments.images, arguments.rounds, joined=False)
    together = run(arguments.images, arguments.rounds, joined=True)
    print(f"independent runs: {alone:.3f} images/s together; two ranks: {together:.3f} images/s")
    print(
        f"two ranks over two independent runs, {arguments.images} images a rank: {together / alone:.3f} (bar: >= 0.92)"
    )


if __name__ == "__main__":
    main()
