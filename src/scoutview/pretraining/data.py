"""What a recipe trains on: the images of an archive, or its volumes."""

from __future__ import annotations

from pathlib import Path

from scoutview.batches import Archive, Selection, VolumeDataset, VolumeList, VolumeReader
from scoutview.batches.loader import ViewDataset
from scoutview.batches.volume_references import volume_references
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining.recipe import Recipe


def training_selections(archive: Archive, recipe: Recipe) -> dict[str, Selection]:
    """modality -> its images that take part, or its volumes, each of which counts as one.

    Raises:
        UsageError: if there is none.
    """
    images = archive.select(recipe.splits, recipe.where)
    return VolumeList.of(archive, images).selections if recipe.spatial_dims == 3 else images


def training_dataset(
    archive: Archive, recipe: Recipe, preprocessing: Preprocessing, folder: Path
) -> ViewDataset | VolumeDataset:
    """Where the numbers of these selections become views.

    folder: of the run, which keeps the reference energies of volumes.

    Raises:
        UsageError: if a store has no reference energies of its images.
        RunError: if those of volumes cannot be measured.
    """
    images = archive.select(recipe.splits, recipe.where)
    views = recipe.view_settings()
    if recipe.spatial_dims == 3:
        reader = VolumeReader(VolumeList.of(archive, images), preprocessing, recipe.head)
        return VolumeDataset(archive, reader, views, volume_references(reader, folder), recipe.seed)
    references = {name: archive.reference_energies(name, preprocessing.identity()) for name in images}
    return ViewDataset(archive, preprocessing, views, references, recipe.seed)
