"""Training steps on a GPU in bf16: images per second, beside a plain PyTorch loop and the matrix products it can do.

For ResNet-50 and ResNet-50w2 with the crops of xray_2d: whole steps as the loop makes them (views on the GPU, codes
with a full queue, LARC, SGD; channels_last, compiled where Triton is), and a plain loop of the same network on the same
crops (autocast, NCHW, not compiled, LARC as a loop over parameters, loss read in every step). Floating-point operations
are counted by torch; the peak is what products of 8192 x 8192 matrices reach in the same run. The hours are those of
the paper's runs at the measured speed, communication left out; those of ct_3d from the dense net's two passes over its
crops alone. --tiny runs the same on any device, small, to see that it runs.

Run: python benchmarks/gpu.py [--images 32] [--steps 20] [--tiny]
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from training_steps import Step, batch_of, settings_of, timed

from scoutview.encoders import make_encoder
from scoutview.memory import keep_freed_memory
from scoutview.pretraining.methods import make_network
from scoutview.pretraining.swapped import global_mean, swapped_prediction
from scoutview.training import make_fabric
from scoutview.views import ViewBatch

PAPER = {"xray_2d": (126_700, 1024), "mixed_2d": (507_000, 1024)}
CT_STEPS, CT_BATCH = 19_100, 128


def matmul_peak(device: torch.device, side: int) -> float:
    """Floating-point operations per second of products of bf16 matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds = min(timed(lambda: [a @ b for _ in range(10)], device) for _ in range(3))
    return 10 * 2 * side**3 / seconds


def operations(step: Step, batch: ViewBatch) -> int:
    """Floating-point operations of the network's two passes over the crops of a batch."""
    views = step.views(batch)
    encode, step.network.encode = step.network.encode, step.network.encoder.__call__
    counter = FlopCounterMode(display=False)
    with counter, step.fabric.autocast():
        projections, scores = step.network(views, step.method.counts)
        (projections.float().sum() + scores[0].sum()).backward()
    step.network.encode = encode
    return int(counter.get_total_flops())


def plain_step(network: Any, optimizer: torch.optim.SGD, step: Step, views: list[torch.Tensor]) -> None:
    """The same on the same crops as one would write it first."""
    device = step.fabric.device
    images = views[0].shape[1]
    optimizer.zero_grad()
    with torch.autocast(device.type, torch.bfloat16):
        projections, scores = network([view.contiguous() for view in views], [images])
    codes = step.method.codes(projections.float(), scores, step.number)
    loss = global_mean(swapped_prediction(scores, codes, [0, 1], step.recipe.temperature), images, 1)
    loss.backward()
    if not torch.isfinite(loss):
        return
    for parameter in network.parameters():
        assert parameter.grad is not None
        size, slope = parameter.detach().norm(), parameter.grad.norm()
        rate = torch.where((size > 0) & (slope > 0), step.recipe.trust * size / (slope + 1e-8), 1.0)
        parameter.grad.mul_(rate)
    optimizer.step()
    network.prototypes.normalise()


def measure(name: str, images: int, steps: int, peak: float, sizes: dict[str, object]) -> float:
    """Print what one encoder does; images per second of whole steps."""
    settings = settings_of("xray_2d", encoder=name, precision="bf16", **sizes)
    fabric = make_fabric("bf16-mixed")
    step = Step(settings, images, fabric)
    batches = [batch_of(settings.recipe, images, number) for number in range(4)]
    count = operations(step, batches[0])
    for number in range(4):  # kernels are chosen, graphs compiled
        step.whole(batches[number])
    step.stages.lap()

    def run() -> None:
        for number in range(steps):
            step.whole(batches[number % 4])

    seconds = timed(run, fabric.device) / steps
    shares = step.stages.lap()[1]
    views = step.views(batches[0])
    plain = make_network(settings, make_encoder(name))
    plain.to(fabric.device)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-4, momentum=0.9, foreach=False)
    work = partial(plain_step, plain, optimizer, step, views)
    for _ in range(3):
        work()
    theirs = timed(lambda: [work() for _ in range(steps)], fabric.device) / steps
    print(f"{name}: {images / seconds:.0f} images/s in batches of {images}, {count / images / 1e9:.0f} GFLOP an image")
    print(f"{name}: " + ", ".join(f"{stage} {share:.1%}" for stage, share in shares.items() if share))
    print(f"{name}, plain loop over whole step: {theirs / seconds:.2f} (bar: >= 1.5)")
    print(f"{name}, share of the measured matmul peak: {count / seconds / peak:.1%} (bar: >= 15%)")
    print(f"{name}, views and method: {shares['views'] + shares['method']:.1%} of the step (bar: <= 8%)")
    return images / seconds


def volumes_per_second(device: torch.device, volumes: int, shape: tuple[int, int, int]) -> float:
    """The dense net's two passes over a large and four small crops of each volume."""
    network = make_encoder("densenet_3d").to(device)
    depth, rows, columns = shape
    crops = [torch.rand(volumes, 1, depth, rows, columns, device=device)]
    crops.append(torch.rand(4 * volumes, 1, depth, rows // 2, columns // 2, device=device))

    def work() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            total = torch.stack([network(crop).float().square().mean() for crop in crops])
        total.sum().backward()

    work()
    return volumes / min(timed(work, device) for _ in range(3))


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.tiny:
        print("no GPU here: nothing was measured")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    print(torch.cuda.get_device_name(0) if device.type == "cuda" else "a CPU, tiny sizes: the figures mean nothing")
    peak = matmul_peak(device, 256 if arguments.tiny else 8192)
    print(f"matrix products in bf16: {peak / 1e12:.1f} TFLOP/s")
    names = ("resnet18w0.125", "resnet18w0.25") if arguments.tiny else ("resnet50", "resnet50w2")
    sizes: dict[str, object] = {"sizes": (64, 32), "prototypes": 16} if arguments.tiny else {}
    images, steps = (4, 2) if arguments.tiny else (arguments.images, arguments.steps)
    speed = {name: measure(name, images, steps, peak, sizes) for name in names}
    volumes = volumes_per_second(device, 1 if arguments.tiny else 4, (8, 64, 64) if arguments.tiny else (40, 224, 192))
    for gpus in (8, 32):
        for recipe, (count, batch) in PAPER.items():
            print(f"{recipe} on {gpus} such GPUs: {count * batch / speed[names[1]] / gpus / 3600:.1f} hours")
        hours = CT_STEPS * CT_BATCH / volumes / gpus / 3600
        print(f"ct_3d on {gpus} such GPUs, views and method left out: {hours:.1f} hours")


if __name__ == "__main__":
    main()
