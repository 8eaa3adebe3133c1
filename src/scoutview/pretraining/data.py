"""What a recipe trains on: the images of an archive, or its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scoutview.batches import Archive, Selection, VolumeDataset, VolumeList, VolumeReader
from scoutview.batches.loader import ViewDataset
from scoutview.batches.volume_references import volume_references
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.settings import resolve_input_size


@dataclass(frozen=True)
class TrainingData:
    """images: modality -> the selected images; volumes: those among them, None if the recipe trains on images.

    Selecting goes through all images of the archive, and listing volumes through its catalog: it is done once.
    """

    archive: Archive
    recipe: Recipe
    images: dict[str, Selection]
    volumes: VolumeList | None

    @classmethod
    def of(cls, archive: Archive, recipe: Recipe) -> Self:
        """What the recipe selects.

        Raises:
            UsageError: if there is none.
        """
        images = archive.select(recipe.splits, recipe.where)
        return cls(archive, recipe, images, VolumeList.of(archive, images) if recipe.spatial_dims == 3 else None)

    @property
    def selections(self) -> dict[str, Selection]:
        """modality -> its images that take part, or its volumes, each of which counts as one."""
        return self.images if self.volumes is None else self.volumes.selections

    def dataset(self, preprocessing: Preprocessing, folder: Path) -> ViewDataset | VolumeDataset:
        """Where the numbers of these selections become views.

        folder: of the run, which keeps the reference energies of volumes.

        Raises:
            UsageError: if a store has no reference energies of its images.
            RunError: if those of volumes cannot be measured.
        """
        views, seed = self.recipe.view_settings(), self.recipe.seed
        if self.volumes is not None:
            reader = self.reader(self.volumes, preprocessing)
            return VolumeDataset(self.archive, reader, views, volume_references(reader, folder), seed)
        identity = preprocessing.identity()
        references = {name: self.archive.reference_energies(name, identity) for name in self.images}
        return ViewDataset(self.archive, preprocessing, views, references, seed)

    def reader(self, volumes: VolumeList, preprocessing: Preprocessing) -> VolumeReader:
        """Reads volumes as the recipe says: whole, or the head at the input size."""
        size, _ = resolve_input_size(self.recipe)
        head = size if self.recipe.head and isinstance(size, tuple) else None
        return VolumeReader(volumes, preprocessing, head)
