"""DINO (Caron et al. 2021): a student predicts what a teacher, its own moving average, says of the large crops.

The teacher's outputs are centred and sharpened, which keeps them from becoming constant or flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders import Network, at_least_fp32
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.method import Method, ViewNetwork
from scoutview.pretraining.prototypes import Prototypes
from scoutview.pretraining.settings import Settings
from scoutview.pretraining.swapped import global_mean, swapped_prediction
from scoutview.training import all_reduce

CENTRE_MOMENTUM = 0.9


class DinoNetwork(ViewNetwork):
    """Encoder and head: three layers with GELU, L2 normalisation, and a last layer of unit rows without a bias."""

    def __init__(self, encoder: Network, hidden: int, projection: int, outputs: int) -> None:
        super().__init__(encoder)
        self.projector = nn.Sequential(
            nn.Linear(encoder.features, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, projection),
        )
        # torch's own weights: LARC takes biases of zero a whole step, and they would drown weights of 0.02.
        self.prototypes = Prototypes([outputs], projection)

    def heads(self, features: Tensor, counts: Sequence[int]) -> Tensor:
        """Cosines with the last layer's rows: [view, image, K]."""
        projections = F.normalize(at_least_fp32(self.projector(features)), dim=2)
        cosines: Tensor = self.prototypes(projections, [features.shape[1]])[0]
        return cosines


def teacher_momentum(step: int, steps: int, base: float) -> float:
    """Half a cosine from base at step 0 to 1 at the end: how much of the teacher stays."""
    return 1.0 - (1.0 - base) * (1.0 + math.cos(math.pi * step / steps)) / 2.0


class Dino(Method):
    """Student and teacher; the encoder file holds the teacher's. Its large crops are the first kind of the recipe."""

    reported = ("loss", "target_entropy", "feature_std")

    def __init__(
        self,
        settings: Settings,
        network: DinoNetwork,
        rank: int,
        counts: Sequence[Sequence[int]],
        device: torch.device,
        labels: Labels | None = None,
    ) -> None:
        super().__init__(settings, network, rank, counts, device, labels)
        # Without what was compiled: the teacher runs as it is.
        self.teacher = deepcopy(network, {id(network.encode): None}).requires_grad_(False)
        self.teacher.encode = self.teacher.encoder.__call__
        self.large = self.recipe.crops[0]
        outputs = next(iter(settings.prototypes.values()))
        self.outputs = outputs
        self.centre = torch.zeros(outputs, device=device)
        self._mean = self.centre.clone()

    @classmethod
    def network_of(cls, settings: Settings, encoder: Network, labels: Labels | None = None) -> DinoNetwork:
        """The student."""
        outputs = next(iter(settings.prototypes.values()))
        return DinoNetwork(encoder, settings.projector_hidden, settings.recipe.projection, outputs)

    @property
    def encoder(self) -> Network:
        """The teacher's."""
        return self.teacher.encoder

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], outputs: Tensor, step: int, index: Tensor | None = None) -> Tensor:
        """softmax((teacher - centre) / teacher_temperature) of the large crops: [large crop, image, K]."""
        self.teacher.train()  # its BatchNorm sees the batch; probing the encoder has left it in evaluation mode
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16-mixed"):
            scores = at_least_fp32(self.teacher(views[:1], self.counts))[: self.large]
        count = scores.new_full((1,), scores.shape[0] * scores.shape[1])
        summed = all_reduce(torch.cat([scores.sum((0, 1)), count]))
        self._mean = summed[:-1] / summed[-1]
        targets = torch.softmax((scores - self.centre) / self.recipe.teacher_temperature, dim=2)
        entropy = -(targets * torch.log(targets.clamp_min(1e-30))).sum(2).mean(0)
        self.means.add("target_entropy", entropy, self.counts)
        self.means.add_spread("feature_std", outputs[0], self.counts)
        return targets

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-sum teacher log student, mean over pairs of a large crop and any other view."""
        (losses,) = swapped_prediction([outputs], [targets], range(self.large), self.recipe.temperature)
        self.means.add("loss", losses, self.counts)
        return global_mean([losses], self.total, self.ranks)

    def after_backward(self, step: int) -> None:
        """The last layer is frozen at first, as prototypes are."""
        if step < self.recipe.freeze_prototypes:
            self.network.prototypes.freeze()

    @torch.no_grad()
    def after_step(self, step: int, good: Tensor | None = None) -> None:
        """Last layer back to unit rows; then the teacher and the centre follow, unless the step was not finite."""
        if step >= self.recipe.freeze_prototypes:
            self.network.prototypes.normalise()
        moved = 1.0 if good is None else good.to(self.centre.dtype)
        share = (1.0 - teacher_momentum(step, self.recipe.steps, self.recipe.teacher_momentum)) * moved
        mine: list[Tensor] = list(self.teacher.parameters())
        apart = list(torch._foreach_sub(list(self.network.parameters()), mine))
        torch._foreach_mul_(apart, share)
        torch._foreach_add_(mine, apart)
        mean = torch.where(torch.isfinite(self._mean), self._mean, self.centre)
        self.centre = self.centre + (1.0 - CENTRE_MOMENTUM) * moved * (mean - self.centre)

    def lines(self) -> list[dict[str, float]]:
        """Loss, entropy of the targets (0 or ln K is collapse), and the spread of the student's outputs."""
        return [{**line, "ln_outputs": math.log(self.outputs)} for line in super().lines()]

    def state_dict(self) -> dict[str, Any]:
        """Teacher, centre and telemetry."""
        return {"teacher": self.teacher.state_dict(), "centre": self.centre, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        super().load_state_dict(state)
        self.teacher.load_state_dict(state["teacher"])
        self.centre = state["centre"].to(self.device)
