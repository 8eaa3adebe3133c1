"""The method of the paper: swapped prediction with prototypes, codes and queue per modality (sections III-A1, A2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
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
        # Not a module of its own: a compiled encoder has the same weights under the same names.
        self.encode: Callable[[Tensor], Tensor] = self.encoder.__call__

    def compile_encoder(self) -> None:
        """Have torch compile the encoder: one graph per size of view."""
        self.encode = torch.compile(self.encoder)

    def forward(self, groups: Sequence[Tensor], counts: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """groups: views of equal shape, [view, image, 1, row, column]; counts: images per modality, in order.

        Returns the projections [view, image, F] and, per modality, the scores [view, image, K_m]. Views of equal
        shape go through the encoder together, and all through the projector at once, as BatchNorm is to see them.
        """
        images = groups[0].shape[1]
        features = [self.encode(group.flatten(0, 1)) for group in groups]
        projections = self.projector(torch.cat(features)).unflatten(0, (-1, images))
        return projections, self.prototypes(projections, counts)


class Swav:
    """One step's codes and loss, and the state beside the network: queues and telemetry.

    counts [rank][modality]: samples of every rank in a step, which are the same in all steps.
    """

    def __init__(
        self, settings: Settings, network: SwavNetwork, rank: int, counts: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        self.settings = settings
        self.recipe = settings.recipe
        self.network = network
        self.rank, self.ranks, self.counts = rank, len(counts), [list(row) for row in counts]
        self.total = sum(sum(row) for row in counts)
        self.crops = list(self.recipe.code_crops)
        self.queue = FeatureQueue(list(settings.queue.values()), len(self.crops), self.recipe.projection, device)
        share = self.recipe.batch_size // len(settings.prototypes) // self.ranks
        self.telemetry = Telemetry(list(settings.prototypes.values()), share, self.ranks, device)
        self._fresh: list[Tensor] = []

    def loss(self, model: Any, groups: Sequence[Tensor], step: int) -> Tensor:
        """The loss of this rank's samples (Eq. 1 and 4), scaled so that ranks average to the global batch's mean.

        model: the network, possibly wrapped for several ranks.
        """
        projections, scores = model(groups, self.counts[self.rank])
        return self.loss_of(scores, self.codes(projections, scores, step))

    @torch.no_grad()
    def codes(self, projections: Tensor, scores: Sequence[Tensor], step: int) -> list[Tensor]:
        """Codes [code crop, sample, K_m] per modality, of all samples of the step; a full queue takes part.

        projections [view, sample, F]; scores per modality [view, sample, K_m].
        """
        features = [block[self.crops] for block in projections.detach().split(self.counts[self.rank], dim=1)]
        scored = [block.detach()[self.crops] for block in scores]
        blocks: list[Tensor] = []
        for number, block in enumerate(scored):
            matrix = self.network.prototypes.matrices[number].detach()
            waiting: Tensor | None = None
            if step >= self.recipe.queue_start and self.queue.ready(number):
                waiting = self.queue.slice_of(number, self.rank, self.ranks) @ matrix.T
            blocks += list(block if waiting is None else torch.cat([block, waiting], dim=1))
        counts = [count for count in self.counts[self.rank] for _ in self.crops]
        balanced = iter(sinkhorn_codes(blocks, self.recipe.epsilon, self.recipe.sinkhorn_rounds, counts))
        codes = [torch.stack([next(balanced) for _ in self.crops]) for _ in scored]
        self._fresh = features
        self.telemetry.add(codes, scored, [block[0] for block in features])
        return codes

    def loss_of(self, scores: Sequence[Tensor], codes: Sequence[Tensor]) -> Tensor:
        """The loss of some or all samples of the step, given their codes; parts of a step add up to its loss."""
        losses = swapped_prediction(scores, codes, self.crops, self.recipe.temperature)
        self.telemetry.add_losses([loss.detach() for loss in losses])
        return global_mean(losses, self.total, self.ranks)

    def after_backward(self, step: int) -> None:
        """Frozen prototypes lose their gradient; before anything looks at gradients."""
        if step < self.recipe.freeze_prototypes:
            self.network.prototypes.freeze()

    def after_step(self, step: int, good: Tensor | None = None) -> None:
        """Once the optimizer has stepped: prototypes that moved back to the sphere, features into the queue.

        good: whether the step was finite, so that the optimizer made it.
        """
        if step >= self.recipe.freeze_prototypes:
            self.network.prototypes.normalise()
        self.queue.enqueue(self._fresh, self.counts, good)

    def state_dict(self) -> dict[str, Any]:
        """Queues and telemetry."""
        return {"queue": self.queue.state_dict(), "telemetry": self.telemetry.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; the network's prototypes were saved on the sphere."""
        self.queue.load_state_dict(state["queue"])
        self.telemetry.load_state_dict(state["telemetry"])
