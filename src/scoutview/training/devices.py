"""Devices, precision and ranks through Lightning Fabric: one CPU, one GPU, or what torchrun or SLURM started."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

Precision = Literal["bf16-mixed", "32-true"]


def device() -> str:
    """Where networks run that are not trained under a Fabric."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(wanted: str) -> tuple[Precision, str]:
    """(precision, reason). `auto` is bf16 where the processor multiplies it natively, else fp32."""
    if wanted == "bf16":
        return "bf16-mixed", ""
    if wanted == "fp32":
        return "32-true", ""
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported():
            return "bf16-mixed", "the GPU has bf16"
        return "32-true", "the GPU has no bf16"
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bf16-mixed", "the processor has bf16 instructions"
    return "32-true", "the processor has no bf16 instructions, in which case bf16 is emulated and slow"


def resolve_compile(wanted: bool | str) -> tuple[bool, str]:
    """(whether torch compiles the encoder, reason). `auto` does on GPUs that Triton serves."""
    if isinstance(wanted, bool):
        return wanted, ""
    if not torch.cuda.is_available():
        return False, "no GPU: on a CPU it was not measured to pay"
    if importlib.util.find_spec("triton") is None:
        return False, "torch needs Triton to compile for a GPU, and it is not installed"
    return True, "a GPU with Triton"


def resolve_workers(wanted: int | str, ranks_here: int) -> tuple[int, str]:
    """(loader processes per rank, reason). `auto` leaves a core to each rank's own work, and takes at most 8."""
    if isinstance(wanted, int):
        return wanted, ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(0, min(8, cores // max(ranks_here, 1) - 1))
    return workers, f"{cores} cores for {ranks_here} rank(s) here, one of them for the rank itself"


def make_fabric(precision: Precision) -> Fabric:
    """A launched Fabric: NCCL between GPUs, gloo between CPUs, when torchrun or SLURM started several ranks."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        local, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    else:
        local, total = int(os.environ.get("SLURM_NTASKS_PER_NODE", "1")), int(os.environ.get("SLURM_NTASKS", "1"))
    fabric = Fabric(
        accelerator=device(),
        devices=local,
        num_nodes=max(total // local, 1),
        # Buffers are those of BatchNorm, which are the same on all ranks already.
        strategy=DDPStrategy(gradient_as_bucket_view=True, forward_sync_buffers=False) if total > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric
