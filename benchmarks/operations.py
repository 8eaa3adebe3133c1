"""Operations and bytes of an image in a training step, by recipe, and the time that they take at the least here.

Floating-point operations are counted by torch: of the network's two passes, and of sampling and filtering the views of
an image of 1024 px. The floor is what the operations take at the speed of products of 2048 x 2048 matrices on this
machine, in fp32, and the bytes of activations at the speed of a copy.

Run: python benchmarks/operations.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode
from training_steps import Step, batch_of, kept_bytes, settings_of, timed

from scoutview.memory import keep_freed_memory
from scoutview.training import make_fabric

RECIPES = (("small_cpu", None), ("xray_2d", "resnet50"), ("xray_2d", None), ("mixed_2d", None))
EACH = 2
"""Images of each modality in the batch that is counted."""


def main() -> None:
    """Count, and print what was found."""
    keep_freed_memory()
    cpu = torch.device("cpu")
    a, b = torch.randn(2, 2048, 2048)
    a @ b
    peak = 2 * 2048**3 / min(timed(lambda: a @ b, cpu) for _ in range(5))
    source, target = torch.randn(2, 2**26)
    copied = 2 * source.nbytes / min(timed(lambda: target.copy_(source), cpu) for _ in range(5))
    print(f"this machine: {peak / 1e9:.0f} GFLOP/s in products, {copied / 1e9:.1f} GB/s in copies")
    print("recipe, encoder: GFLOP of the network, of the views; MB of the canvas, kept; floor in ms, an image")
    for name, encoder in RECIPES:
        changes = {"encoder": encoder} if encoder else {}
        settings = settings_of(name, precision="fp32", **changes)
        images = EACH * len(settings.prototypes)
        step = Step(settings, images, make_fabric("32-true"))
        batch = batch_of(settings.recipe, images, 0)
        with FlopCounterMode(display=False) as counter:
            views = step.views(batch)
        sampled = counter.get_total_flops() / images
        with FlopCounterMode(display=False) as counter:
            projections, scores = step.network(views, step.method.counts)
            (projections.sum() + sum(block.sum() for block in scores)).backward()
        network = counter.get_total_flops() / images
        kept = kept_bytes(step, views) / images
        # Written and read in the forward pass, read in the backward pass, where gradients of the same size come and go.
        floor = network / peak + 5 * kept / copied
        print(f"{name}, {settings.recipe.encoder}: {network / 1e9:.1f}, {sampled / 1e9:.2f}; "
              f"{batch.pixels.nbytes / images / 1e6:.1f}, {kept / 1e6:.0f}; {floor * 1e3:.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
