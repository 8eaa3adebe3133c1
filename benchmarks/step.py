"""A whole training step beside its bare encoder, and beside a plain PyTorch step, on this machine's CPU.

ResNet-50, 2 views of 224 px and 6 of 92 px of each image of 1024 px. Whole: views from canvases, forward, codes with a
full queue, loss, backward, check for NaN, LARC, SGD, queue. Bare: the encoder's forward and backward pass over the same
crops in the same precision and process. Both for xray_2d with its queue, and for mixed_2d with four modalities and the
share of a queue that one of 32 ranks has. Plain, in a process of its own: fp32, NCHW, torch's memory as it comes, an
image's views one by one on the CPU (the energy augmentation by Gaussian filters at full resolution, where the recipe
draws it), the same network and loss, LARC as a loop over parameters; beside it the same with PIL's views instead.

Run: python benchmarks/step.py [--images 32] [--rounds 2]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from training_steps import Step, batch_of, picture, references, settings_of, timed

from scoutview.images import radial_spectrum
from scoutview.memory import keep_freed_memory
from scoutview.pretraining.methods import make_network
from scoutview.training import make_fabric
from scoutview.views import draw_parameters

RANKS = 32


def ours(images: int, rounds: int) -> dict[str, float]:
    """Medians of seconds: bare and whole of both recipes, in turns."""
    keep_freed_memory()
    found: dict[str, list[float]] = {}
    for name, queue in (("xray_2d", None), ("mixed_2d", "share")):
        settings = settings_of(name, encoder="resnet50", precision="fp32")
        length = None if queue is None else max(settings.queue.values()) // RANKS
        step = Step(settings, images, make_fabric("32-true"), length)
        for number in range(rounds + 1):
            batch = batch_of(settings.recipe, images, number)
            views = step.views(batch)
            work = {"bare": partial(step.bare, views), "whole": partial(step.whole, batch)}
            for kind, seconds in [(kind, timed(part, step.fabric.device)) for kind, part in work.items()]:
                if number:  # the first takes memory and chooses kernels
                    found.setdefault(f"{name} {kind}", []).append(seconds)
        print(f"{name}: {max(step.method.queue.filled)} in a queue, {max(settings.prototypes.values())} prototypes")
    return {key: float(np.median(values)) for key, values in found.items()}


def plain(images: int, rounds: int, pipe: Any) -> None:
    """Seconds of a plain step: {"views": of the filters, "pil": of PIL's views, "rest": of everything else}."""
    from views import SIZES, by_filters, by_pil

    settings = settings_of("xray_2d", encoder="resnet50", precision="fp32")
    recipe = settings.recipe
    torch.manual_seed(0)
    from scoutview.encoders import make_encoder

    network = make_network(settings, make_encoder("resnet50"))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, foreach=False)
    queue = torch.nn.functional.normalize(torch.randn(2, settings.queue["xray"], recipe.projection), dim=2)
    spectra = [radial_spectrum(picture(number)) for number in range(8)]
    times: dict[str, list[float]] = {"views": [], "pil": [], "rest": []}
    for number in range(rounds + 1):
        began = time.perf_counter()
        crops: list[list[torch.Tensor]] = []
        for place in range(images):
            parameters = draw_parameters(
                recipe.view_settings(), (1024, 1024), spectra[place % 8], references(), seed=0, step=number,
                position=place,
            )  # fmt: skip
            crops.append(by_filters(picture(place % 8), parameters, SIZES))
        viewed = time.perf_counter()
        groups = [
            torch.stack([torch.stack([crop[view] for crop in crops]) for view in part]).unsqueeze(2)
            for part in (range(2), range(2, 8))
        ]
        projections, (scores,) = network(groups, [images])
        loss = torch.zeros(())
        for crop in (0, 1):
            waiting = queue[crop] @ network.prototypes.matrices[0].detach().T
            q = torch.exp((torch.cat([scores[crop].detach(), waiting]) - 1) / recipe.epsilon)
            for _ in range(recipe.sinkhorn_rounds):
                q = q / q.sum(0, keepdim=True) / q.shape[1]
                q = q / q.sum(1, keepdim=True)
            for view in range(8):
                if view != crop:
                    loss = loss - (q[:images] * torch.log_softmax(scores[view] / recipe.temperature, 1)).sum(1).mean()
        optimizer.zero_grad()
        (loss / 14).backward()
        if math.isfinite(float(loss.detach())):
            for parameter in network.parameters():
                assert parameter.grad is not None
                size, slope = float(parameter.detach().norm()), float(parameter.grad.norm())
                if size and slope:
                    parameter.grad.add_(parameter.detach(), alpha=recipe.weight_decay)
                    parameter.grad.mul_(recipe.trust * size / (slope + recipe.weight_decay * size))
            optimizer.step()
            network.prototypes.normalise()
        queue = torch.cat([projections.detach()[:2], queue], dim=1)[:, : queue.shape[1]]
        ended = time.perf_counter()
        from PIL import Image

        colour = [Image.fromarray((picture(place % 8) * 255).astype(np.uint8)).convert("RGB") for place in range(8)]
        began_pil = time.perf_counter()
        for place in range(images):
            by_pil(colour[place % 8], 0.8, 0.5)
        if number:
            times["views"].append(viewed - began)
            times["rest"].append(ended - viewed)
            times["pil"].append(time.perf_counter() - began_pil)
    pipe.send({key: float(np.median(values)) for key, values in times.items()})


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    other = context.Process(target=plain, args=(arguments.images, arguments.rounds, sender))
    other.start()
    other.join()
    theirs: dict[str, float] = receiver.recv()
    found = ours(arguments.images, arguments.rounds)
    for key, value in {**found, **{f"plain {key}": value for key, value in theirs.items()}}.items():
        print(f"{key}: {value:.2f} s for {arguments.images} images")
    whole = found["xray_2d whole"]
    print(f"whole over bare, xray_2d with its queue: {whole / found['xray_2d bare']:.3f} (bar: <= 1.08)")
    mixed = found["mixed_2d whole"] / found["mixed_2d bare"]
    print(f"whole over bare, mixed_2d with a rank's share of the queue: {mixed:.3f} (bar: <= 1.12)")
    print(f"plain with the same views over whole: {(theirs['views'] + theirs['rest']) / whole:.2f} (bar: >= 2.5)")
    print(f"plain with PIL views without energies over whole: {(theirs['pil'] + theirs['rest']) / whole:.2f}")


if __name__ == "__main__":
    main()
