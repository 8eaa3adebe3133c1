"""The method of the paper: swapped prediction with prototypes, codes and queue per modality (sections III-A1, A2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scoutview.encoders import Network, Projector
from scoutview.pretraining.prototypes import Prototypes
from scoutview.pretraining.queue import FeatureQueue
from scoutview.pretraining.recipe import Settings
from scoutview.pretraining.sinkhorn import sinkhorn_codes
from scoutview.pretraining.swapped import global_mean, swapped_prediction
from scoutview.pretraining.telemetry import Telemetry


class SwavNetwork(nn.Module):
    """Encoder, projector and prototypes: everything that has gradients."""

    def __init__(self, encoder: Network, hidden: int, projection: int, prototypes: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(encoder.features, hidden, projection)
        self.prototypes = Prototypes(prototypes, projection)

    def forward(self, groups: Sequence[Tensor], counts: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """groups: views of equal shape, [view, image, 1, row, column]; counts: images per modality, in order.

        Returns the projections [view, image, F] and, per modality, the scores [view, image, K_m]. Views of equal
        shape go through the encoder together, and all through the projector at once, as BatchNorm is to see them.
        """
        images = groups[0].shape[1]
        features = [self.encoder(group.flatten(0, 1)) for group in groups]
        projections = self.projector(torch.cat(features)).unflatten(0, (-1, images))
        return projections, self.prototypes(projections, counts)


class Swav:
    """One step's loss, and the state beside the network: queues and telemetry."""

    def __init__(self, settings: Settings, network: SwavNetwork, rank: int, ranks: int, device: torch.device) -> None:
        self.settings = settings
        self.recipe = settings.recipe
        self.network = network
        self.rank, self.ranks = rank, ranks
        crops = len(self.recipe.code_crops)
        self.queue = FeatureQueue(list(settings.queue.values()), crops, self.recipe.projection, device)
        share = self.recipe.batch_size // len(settings.prototypes) // ranks
        self.telemetry = Telemetry(list(settings.prototypes.values()), share, ranks, device)
        self._fresh: list[Tensor] = []

    def loss(self, model: Any, groups: Sequence[Tensor], counts: Sequence[int], step: int) -> Tensor:
        """The loss of this rank's samples (Eq. 1 and 4), scaled so that ranks average to the global batch's mean.

        model: the network, possibly wrapped for several ranks.
        """
        projections, scores = model(groups, counts)
        crops = list(self.recipe.code_crops)
        detached = projections.detach()
        code_features = [block[crops] for block in detached.split(list(counts), dim=1)]
        codes = self._codes([block.detach()[crops] for block in scores], step)
        losses = swapped_prediction(scores, codes, crops, self.recipe.temperature)
        self._fresh = code_features
        self.telemetry.add(
            [loss.detach() for loss in losses],
            codes,
            [block.detach()[crops] for block in scores],
            [block[0] for block in code_features],
        )
        return global_mean(losses, self._global_count(sum(counts), projections.device), self.ranks)

    def _codes(self, scores: Sequence[Tensor], step: int) -> list[Tensor]:
        """Codes [code crop, sample, K_m] per modality; a full queue takes part in the balance."""
        blocks: list[Tensor] = []
        for number, block in enumerate(scores):
            matrix = self.network.prototypes.matrices[number].detach()
            waiting: Tensor | None = None
            if step >= self.recipe.queue_start and self.queue.ready(number):
                waiting = self.queue.slice_of(number, self.rank, self.ranks) @ matrix.T
            blocks += list(block if waiting is None else torch.cat([block, waiting], dim=1))
        balanced = iter(sinkhorn_codes(blocks, self.recipe.epsilon, self.recipe.sinkhorn_rounds))
        return [torch.stack([next(balanced)[: block.shape[1]] for _ in range(block.shape[0])]) for block in scores]

    def _global_count(self, local: int, device: torch.device) -> Tensor | int:
        if self.ranks == 1:
            return local
        count = torch.tensor(float(local), device=device)
        dist.all_reduce(count)
        return count

    def after_backward(self, step: int) -> None:
        """Frozen prototypes lose their gradient; before anything looks at gradients."""
        if step < self.recipe.freeze_prototypes:
            self.network.prototypes.freeze()

    def after_step(self, step: int) -> None:
        """Once the optimizer has stepped: prototypes that moved back to the sphere, features into the queue."""
        if step >= self.recipe.freeze_prototypes:
            self.network.prototypes.normalise()
        self.queue.enqueue(self._fresh)

    def state_dict(self) -> dict[str, Any]:
        """Queues and telemetry."""
        return {"queue": self.queue.state_dict(), "telemetry": self.telemetry.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; the network's prototypes were saved on the sphere."""
        self.queue.load_state_dict(state["queue"])
        self.telemetry.load_state_dict(state["telemetry"])
