"""What the loop knows of a method: a network, targets without gradients, a loss, and what happens around a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scoutview.encoders import Network
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.means import ModalityMeans
from scoutview.pretraining.settings import Settings


class ViewNetwork(nn.Module):
    """An encoder and the heads of a method: everything that has gradients. A method overrides `heads`."""

    def __init__(self, encoder: Network) -> None:
        super().__init__()
        self.encoder = encoder
        # Not a module of its own: a compiled encoder has the same weights under the same names.
        self.encode: Callable[[Tensor], Tensor] = self.encoder.__call__

    def compile_encoder(self) -> None:
        """Have torch compile the encoder: one graph per size of view."""
        compiled: Any = torch.compile(self.encoder)
        self.encode = compiled.__call__

    def features(self, groups: Sequence[Tensor]) -> Tensor:
        """[view, image, feature] of views of equal shape in groups, each [view, image, 1, row, column].

        Views of equal shape go through the encoder together, as BatchNorm is to see them.
        """
        images = groups[0].shape[1]
        features = torch.cat([self.encode(group.flatten(0, 1)) for group in groups])
        views: Tensor = features.unflatten(0, (sum(len(group) for group in groups), images))
        return views

    def heads(self, features: Tensor, counts: Sequence[int]) -> Any:
        """What the method needs of features [view, image, feature]; counts: images per modality, in order."""
        raise NotImplementedError

    def forward(self, groups: Sequence[Tensor], counts: Sequence[int]) -> Any:
        """See `features` and `heads`."""
        return self.heads(self.features(groups), counts)


class Method:
    """A method of pretraining, for one rank: what it learns from in a step, and its state beside the network.

    settings: the resolved recipe. network: what `network_of` made, without the wrapping for several ranks.
    counts [rank, modality]: images of every rank in a step, which are the same in all steps.
    labels: of the recipe's label, if it names one.
    A method is a file with a subclass that methods.py names. In each step the loop calls the network, `targets`,
    `loss_of` and the backward pass, `after_backward`, the optimizer, `after_step`.
    """

    reported: ClassVar[tuple[str, ...]] = ()
    """Names of the means of a log line, which `means` collects; a method may report otherwise."""
    accumulates: ClassVar[bool] = False
    """Whether a step may be made in parts: the loss of an image depends on others through its targets only."""

    def __init__(
        self,
        settings: Settings,
        network: Any,
        rank: int,
        counts: Sequence[Sequence[int]],
        device: torch.device,
        labels: Labels | None = None,
    ) -> None:
        self.settings = settings
        self.recipe = settings.recipe
        self.network = network
        self.rank, self.ranks = rank, len(counts)
        self.all_counts = [list(row) for row in counts]
        self.counts = self.all_counts[rank]
        self.total = sum(sum(row) for row in counts)
        self.device = device
        self.labels = labels
        self.means = ModalityMeans(self.reported, len(self.counts), device)

    @classmethod
    def network_of(cls, settings: Settings, encoder: Network, labels: Labels | None = None) -> ViewNetwork:
        """The network with all that has gradients, on the CPU."""
        raise NotImplementedError

    @property
    def encoder(self) -> Network:
        """The network that the encoder file holds."""
        encoder: Network = self.network.encoder
        return encoder

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], outputs: Any, step: int, index: Tensor | None = None) -> Any:
        """What the outputs of all images of the step are compared with.

        views: see `ViewNetwork.features`; outputs: the network's of them; index [image]: numbers in the archive.
        """
        return None

    def loss_of(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of this rank's images, scaled so that ranks average to the global batch's mean.

        Of a method that accumulates: of some or all images of the step; parts of a step add up to its loss.
        """
        raise NotImplementedError

    def joined(self, parts: Sequence[Any], counts: Sequence[int]) -> Any:
        """The outputs of all images of a step from those of its parts; counts: images of each modality in a part."""
        raise NotImplementedError

    def parted(self, targets: Any, parts: int) -> list[Any]:
        """The targets of each part of a step."""
        raise NotImplementedError

    def loss(self, model: Any, views: Sequence[Tensor], step: int, index: Tensor | None = None) -> Tensor:
        """The loss of a whole step. model: the network, possibly wrapped for several ranks."""
        outputs = model(views, self.counts)
        return self.loss_of(outputs, self.targets(views, outputs, step, index))

    def after_backward(self, step: int) -> None:
        """Before anything looks at the gradients."""

    def after_step(self, step: int, good: Tensor | None = None) -> None:
        """Once the optimizer has stepped. good: whether the step was finite, so that the optimizer made it."""

    def lines(self) -> list[dict[str, float]]:
        """Telemetry since the last call, over all ranks, per modality; each has a "loss"."""
        return self.means.read()

    def warning(self, lines: Iterable[dict[str, Any]]) -> str | None:
        """A message if the last lines of metrics.jsonl show that nothing is learnt."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the next step and the next log line depend on beside the network."""
        return {"means": self.means.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.means.sums.copy_(state["means"])


def joined_images(parts: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """[view, image, ...] of all images of a step, modality after modality, from those of its parts.

    counts: images of each modality in a part.
    """
    split = [part.split(list(counts), dim=1) for part in parts]
    return torch.cat([torch.cat(column, dim=1) for column in zip(*split, strict=True)], dim=1)
