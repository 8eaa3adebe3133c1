"""What a training needs of data, from what one image costs: pure arithmetic, so that it can be checked by hand.

Batches hold equal parts of every modality, so the cost of an image of a batch is the mean over the modalities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

FIRST_CACHED = ("xray", "us")
"""Modalities of which a run goes through all images many times while it goes through the large ones once."""

Bottleneck = Literal["data", "views", "encoder", "step"]


@dataclass(frozen=True)
class ImageCost:
    """What the images of a modality cost.

    images: that take part. stored_bytes: of all images of the modality in the stores. read_bytes: mean per image at
    the resolution that its views need. decode_seconds: of one core, to read, check and decode an image;
    loader_seconds: of one core, for all that a loader process does with it; wall_seconds: of a loader process, with
    waiting for storage.
    """

    modality: str
    images: int
    stored_bytes: int
    read_bytes: float
    decode_seconds: float
    loader_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Cluster:
    """GPUs in all and per node, and CPU cores of a node, of which each GPU's own process keeps one."""

    gpus: int
    gpus_per_node: int
    cores_per_node: int

    @property
    def nodes(self) -> int:
        """How many nodes hold the GPUs."""
        return math.ceil(self.gpus / self.gpus_per_node)

    @property
    def loader_cores(self) -> int:
        """Cores of a node that are left for loader processes."""
        return max(self.cores_per_node - min(self.gpus, self.gpus_per_node), 1)


@dataclass(frozen=True)
class StepRates:
    """Images per second of one GPU: of rendering views, and of encoder and loss; views None: `encoder` is of both."""

    encoder: float
    views: float | None = None

    @property
    def step(self) -> float:
        """Of both, one after the other."""
        return self.encoder if self.views is None else 1 / (1 / self.views + 1 / self.encoder)


@dataclass(frozen=True)
class Budget:
    """images_per_second: what the GPUs can take; bytes_per_second: what storage and caches must give for it.

    decode_cores, loader_cores: busy cores per node for it. processes: loader processes per GPU. data_rate: images/s
    that the loader cores of all nodes can make. bottleneck: "step" where views and encoder are not told apart.
    stored_bytes: of all modalities; first_cached_bytes: of X-ray and ultrasound; cache_bytes: what a node's cache must
    hold so that nothing is fetched twice, as a node reads the same part of the stores in every epoch. passes: how often
    each modality is gone through.
    """

    nodes: int
    images_per_second: float
    bytes_per_second: float
    decode_cores: float
    loader_cores: float
    processes: int
    data_rate: float
    bottleneck: Bottleneck
    hours: float
    stored_bytes: int
    first_cached_bytes: int
    cache_bytes: float
    passes: dict[str, float]


def budget_of(costs: Sequence[ImageCost], cluster: Cluster, rates: StepRates, steps: int, batch_size: int) -> Budget:
    """The budget of `steps` batches of `batch_size` images over all GPUs."""
    wanted = cluster.gpus * rates.step
    loader_seconds = fmean(cost.loader_seconds for cost in costs)
    data_rate = cluster.nodes * cluster.loader_cores / loader_seconds
    bottleneck: Bottleneck = "data"
    if data_rate >= wanted:
        bottleneck = "step" if rates.views is None else "views" if rates.views < rates.encoder else "encoder"
    stored = sum(cost.stored_bytes for cost in costs)
    return Budget(
        nodes=cluster.nodes,
        images_per_second=wanted,
        bytes_per_second=wanted * fmean(cost.read_bytes for cost in costs),
        decode_cores=wanted * fmean(cost.decode_seconds for cost in costs) / cluster.nodes,
        loader_cores=wanted * loader_seconds / cluster.nodes,
        processes=math.ceil(rates.step * fmean(cost.wall_seconds for cost in costs)),
        data_rate=data_rate,
        bottleneck=bottleneck,
        hours=steps * batch_size / min(wanted, data_rate) / 3600,
        stored_bytes=stored,
        first_cached_bytes=sum(cost.stored_bytes for cost in costs if cost.modality in FIRST_CACHED),
        cache_bytes=stored / cluster.nodes,
        passes={cost.modality: steps * batch_size / len(costs) / cost.images for cost in costs},
    )
