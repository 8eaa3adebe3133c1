"""The hybrid objective (Eq. 5-7): alpha L_ss + beta L_sup of a classifier on the encoder's features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoutview.encoders import Network
from scoutview.pretraining.labels import Labels, label_losses
from scoutview.pretraining.method import Method, ViewNetwork, joined_images
from scoutview.pretraining.swapped import global_mean

Outputs = tuple[Any, Tensor]


class HybridNetwork(nn.Module):
    """The network of a method and g_omega, a linear layer on the features of the first `large` views."""

    def __init__(self, unlabelled: ViewNetwork, classes: int, large: int) -> None:
        super().__init__()
        self.unlabelled = unlabelled
        self.large = large
        self.classifier = nn.Linear(unlabelled.encoder.features, classes)

    def compile_encoder(self) -> None:
        """See `ViewNetwork`."""
        self.unlabelled.compile_encoder()

    def forward(self, groups: Sequence[Tensor], counts: Sequence[int]) -> Outputs:
        """(what the method needs, logits [view, image, class])."""
        features = self.unlabelled.features(groups)
        return self.unlabelled.heads(features, counts), self.classifier(features[: self.large])


class Hybrid(Method):
    """A method that learns from labels, too. inner: the method without."""

    reported = ("supervised_loss", "labelled")

    def __init__(self, inner: Method, network: HybridNetwork, labels: Labels) -> None:
        super().__init__(inner.settings, network, inner.rank, inner.all_counts, inner.device, labels)
        self.inner = inner
        self.known = labels

    @property
    def encoder(self) -> Network:
        """That of the method."""
        return self.inner.encoder

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], outputs: Outputs, step: int, index: Tensor | None = None) -> Outputs:
        """(those of the method, labels [image, class], NaN where unknown)."""
        assert index is not None
        return self.inner.targets(views, outputs[0], step, index), self.known.of(index, self.device)

    def loss_of(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """Eq. 7: L_sup is summed over labelled images and divided by the size of the global batch."""
        losses, labelled = label_losses(outputs[1], targets[1], self.known.exclusive)
        counts = [count * len(losses) // max(sum(self.counts), 1) for count in self.counts]
        self.means.add("supervised_loss", losses, counts, labelled)
        self.means.add("labelled", labelled.float(), counts)
        supervised = global_mean([losses], self.total, self.ranks)
        loss: Tensor = self.recipe.alpha * self.inner.loss_of(outputs[0], targets[0]) + self.recipe.beta * supervised
        return loss

    def joined(self, parts: Sequence[Outputs], counts: Sequence[int]) -> Outputs:
        """Logits modality after modality, as the method's."""
        return self.inner.joined([part for part, _ in parts], counts), joined_images(
            [logits for _, logits in parts], counts
        )

    def parted(self, targets: Outputs, parts: int) -> list[Outputs]:
        """The labels of each part beside the method's targets."""
        split = [block.tensor_split(parts) for block in targets[1].split(self.counts)]
        labels = [torch.cat([block[part] for block in split]) for part in range(parts)]
        return list(zip(self.inner.parted(targets[0], parts), labels, strict=True))

    def after_backward(self, step: int) -> None:
        """As the method."""
        self.inner.after_backward(step)

    def after_step(self, step: int, good: Tensor | None = None) -> None:
        """As the method."""
        self.inner.after_step(step, good)

    def lines(self) -> list[dict[str, float]]:
        """Those of the method, with the loss of labelled images and their share; "loss" stays L_ss."""
        return [{**line, **more} for line, more in zip(self.inner.lines(), super().lines(), strict=True)]

    def warning(self, lines: Iterable[dict[str, Any]]) -> str | None:
        """As the method."""
        return self.inner.warning(lines)

    def state_dict(self) -> dict[str, Any]:
        """The method's, and telemetry."""
        return {"inner": self.inner.state_dict(), **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        super().load_state_dict(state)
        self.inner.load_state_dict(state["inner"])
