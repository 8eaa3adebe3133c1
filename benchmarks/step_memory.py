"""Memory of a training step by encoder and batch, with and without checkpointed activations; and whether it grows.

What autograd keeps between the passes is counted tensor by tensor, each storage once; it does not depend on the device
but for the kernels' own work space. fp32; in bf16 activations take about half. Then 5,000 steps of a small recipe on a
store of random images, loader included: resident memory after 500 steps and at the end.

Run: python benchmarks/step_memory.py [--steps 5000]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from pathlib import Path
from typing import Any

from restarts import SETTINGS, make_store
from training_steps import Step, batch_of, kept_bytes, settings_of

from scoutview.training import make_fabric

CASES = (
    ("resnet50", 8), ("resnet50", 32), ("resnet50w2", 8), ("resnet50w2", 32), ("resnet152", 8), ("small_cpu", 96),
)  # fmt: skip
COUNTED = 2
"""Images with which it is counted; all but the weights and the queue grow with their number."""


def kept(encoder: str, checkpointed: bool, pipe: Any) -> None:
    """(bytes kept for the backward pass per image, bytes of weights, gradients, momentum and queue)."""
    small = encoder == "small_cpu"
    changes = {} if small else {"encoder": encoder}
    settings = settings_of(
        "small_cpu" if small else "xray_2d", precision="fp32", checkpoint_activations=checkpointed, **changes
    )
    images = COUNTED * len(settings.prototypes)
    step = Step(settings, images, make_fabric("32-true"))
    views = step.views(batch_of(settings.recipe, images, 0))
    state = 3 * sum(parameter.nbytes for parameter in step.network.parameters())
    state += sum(features.nbytes for features in step.method.queue.features)
    pipe.send((kept_bytes(step, views) / images, state))


def resident() -> int:
    """Bytes of this process and its children that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def growth(steps: int, pipe: Any) -> None:
    """Resident bytes after a tenth of the steps, and at their end."""
    import scoutview
    from scoutview.training.run_folder import RunFolder

    seen: list[int] = []
    log = RunFolder.log

    def logged(self: RunFolder, line: dict[str, Any]) -> None:
        log(self, line)
        if line.get("step") in (steps // 10, steps) and "loss" in line:
            seen.append(resident())

    RunFolder.log = logged  # type: ignore[method-assign]
    changes = {**SETTINGS, "steps": steps, "batch_size": 16, "log_every": steps // 10, "keep": 2, "workers": 1,
               "checkpoint_every": steps // 5}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder) / "store")
        scoutview.pretrain([Path(folder) / "store"], out=Path(folder) / "run", recipe="small_cpu", **changes)
    pipe.send((seen[0], seen[-1]))


def apart(work: Any, *arguments: Any) -> Any:
    """The result of `work` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=work, args=(*arguments, sender))
    process.start()
    process.join()
    return receiver.recv()


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    steps = parser.parse_args().steps
    known: dict[tuple[str, bool], tuple[float, float]] = {}
    print("encoder, images of a rank: GB (kept for the backward pass + weights, gradients, momentum, queue)")
    for encoder, images in CASES:
        for checkpointed in (False, True):
            if (encoder, checkpointed) not in known:
                known[encoder, checkpointed] = apart(kept, encoder, checkpointed)
            each, state = known[encoder, checkpointed]
            way = "checkpointed" if checkpointed else "plain"
            print(f"{encoder}, {images}, {way}: {(each * images + state) / 1e9:.2f} "
                  f"({each * images / 1e9:.2f} + {state / 1e9:.2f})", flush=True)  # fmt: skip
    early, late = apart(growth, steps)
    print(f"resident memory after {steps // 10} steps {early / 1e6:.0f} MB, after {steps} steps {late / 1e6:.0f} MB")
    print(f"growth from a tenth of {steps} steps to all: {late / early - 1:.1%} (bar: <= 5%)")


if __name__ == "__main__":
    main()
