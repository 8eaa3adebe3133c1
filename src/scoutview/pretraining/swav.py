"""The method of the paper: swapped prediction with prototypes, codes and queue per modality (sections III-A1, A2).

With `shared_prototypes` one set serves all modalities, whose samples are then balanced together: the published SwAV.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from scoutview.encoders import Network, Projector
from scoutview.pretraining.collapse import collapse_warning
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.method import Method, ViewNetwork, joined_images
from scoutview.pretraining.prototypes import Prototypes
from scoutview.pretraining.queue import FeatureQueue
from scoutview.pretraining.settings import Settings
from scoutview.pretraining.sinkhorn import sinkhorn_codes
from scoutview.pretraining.swapped import global_mean, swapped_prediction
from scoutview.pretraining.telemetry import Telemetry


class SwavNetwork(ViewNetwork):
    """Encoder, projector and prototypes."""

    def __init__(self, encoder: Network, hidden: int, projection: int, prototypes: Sequence[int]) -> None:
        super().__init__(encoder)
        self.projector = Projector(encoder.features, hidden, projection)
        self.prototypes = Prototypes(prototypes, projection)

    def heads(self, features: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The projections [view, image, F] and, per modality, the scores [view, image, K_m].

        All views go through the projector at once.
        """
        projections = self.projector(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return projections, self.prototypes(projections, counts)


class Swav(Method):
    """One step's codes and loss, and the state beside the network: queues and telemetry."""

    accumulates = True

    def __init__(
        self,
        settings: Settings,
        network: SwavNetwork,
        rank: int,
        counts: Sequence[Sequence[int]],
        device: torch.device,
        labels: Labels | None = None,
    ) -> None:
        super().__init__(settings, network, rank, counts, device, labels)
        self.crops = list(self.recipe.code_crops)
        modalities = len(self.counts)
        prototypes = list(settings.prototypes.values())
        # The modalities of each matrix of prototypes.
        self.sets = (
            [list(range(modalities))] if self.recipe.shared_prototypes else [[each] for each in range(modalities)]
        )
        self.queue = FeatureQueue(list(settings.queue.values()), len(self.crops), self.recipe.projection, device)
        self.telemetry = Telemetry(
            prototypes * modalities if self.recipe.shared_prototypes else prototypes, self.counts, self.ranks, device
        )
        self._fresh: list[Tensor] = []

    @classmethod
    def network_of(cls, settings: Settings, encoder: Network, labels: Labels | None = None) -> SwavNetwork:
        """Encoder, projector, and prototypes: one matrix per modality, or one for all."""
        prototypes = list(settings.prototypes.values())
        return SwavNetwork(encoder, settings.projector_hidden, settings.recipe.projection, prototypes)

    @torch.no_grad()
    def targets(
        self, views: Sequence[Tensor], outputs: tuple[Tensor, list[Tensor]], step: int, index: Tensor | None = None
    ) -> list[Tensor]:
        """The codes; see `codes`."""
        return self.codes(*outputs, step)

    @torch.no_grad()
    def codes(self, projections: Tensor, scores: Sequence[Tensor], step: int) -> list[Tensor]:
        """Codes [code crop, sample, K_m] per modality, of all samples of the step; a full queue takes part.

        projections [view, sample, F]; scores per modality [view, sample, K_m].
        """
        features = [block[self.crops] for block in projections.detach().split(self.counts, dim=1)]
        scored = [block.detach()[self.crops] for block in scores]
        blocks: list[Tensor] = []
        for number, held in enumerate(self.sets):
            block = _joined([scored[modality] for modality in held])
            matrix = self.network.prototypes.matrices[number].detach()
            waiting: Tensor | None = None
            if step >= self.recipe.queue_start and self.queue.ready(number):
                waiting = self.queue.slice_of(number, self.rank, self.ranks) @ matrix.T
            blocks += list(block if waiting is None else torch.cat([block, waiting], dim=1))
        counts = [sum(self.counts[modality] for modality in held) for held in self.sets for _ in self.crops]
        balanced = iter(sinkhorn_codes(blocks, self.recipe.epsilon, self.recipe.sinkhorn_rounds, counts))
        codes = []
        for held in self.sets:
            joint = torch.stack([next(balanced) for _ in self.crops])
            codes += joint.split([self.counts[modality] for modality in held], dim=1)
        self._fresh = [_joined([features[modality] for modality in held]) for held in self.sets]
        self.telemetry.add(codes, scored, [block[0] for block in features])
        return codes

    def loss_of(self, outputs: tuple[Tensor, list[Tensor]], targets: Sequence[Tensor]) -> Tensor:
        """Eq. 1 and 4, given the codes of the samples."""
        losses = swapped_prediction(outputs[1], targets, self.crops, self.recipe.temperature)
        self.telemetry.add_losses([loss.detach() for loss in losses])
        return global_mean(losses, self.total, self.ranks)

    def joined(
        self, parts: Sequence[tuple[Tensor, list[Tensor]]], counts: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """Projections and scores of all samples, modality after modality."""
        projections = joined_images([projections for projections, _ in parts], counts)
        scores = [torch.cat(column, dim=1) for column in zip(*(scores for _, scores in parts), strict=True)]
        return projections, scores

    def parted(self, targets: Sequence[Tensor], parts: int) -> list[list[Tensor]]:
        """Codes per modality of each part."""
        split = [block.tensor_split(parts, 1) for block in targets]
        return [[block[part] for block in split] for part in range(parts)]

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
        counts = [[sum(row[modality] for modality in held) for held in self.sets] for row in self.all_counts]
        self.queue.enqueue(self._fresh, counts, good)

    def lines(self) -> list[dict[str, float]]:
        """See `Telemetry`."""
        return self.telemetry.read()

    def warning(self, lines: Iterable[dict[str, Any]]) -> str | None:
        """A loss that stays at ln K."""
        return collapse_warning(lines, self.settings)

    def state_dict(self) -> dict[str, Any]:
        """Queues and telemetry."""
        return {"queue": self.queue.state_dict(), "telemetry": self.telemetry.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; the network's prototypes were saved on the sphere."""
        self.queue.load_state_dict(state["queue"])
        self.telemetry.load_state_dict(state["telemetry"])


def _joined(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
