"""What a recipe trains on: the images of an archive, or its volumes."""

from __future__ import annotations

from pathlib import Path

from scoutview.batches import Archive, Selection, VolumeDataset, VolumeList, VolumeReader
from scoutview.batches.loader import ViewDataset
from scoutview.batches.volume_references import volume_references
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining.recipe import Recipe


def training_volumes(archive: Archive, recipe: Recipe) -> VolumeList | None:
    """The volumes that take part; None if the recipe trains on images.

    Raises:
        UsageError: if there is none.
    """
    if recipe.spatial_dims == 2:
        return None
    return VolumeList.of(archive, archive.select(recipe.splits, recipe.where))


def training_selections(archive: Archive, recipe: Recipe) -> dict[str, Selection]:
    """modality -> its images that take part, or its volumes, each of which counts as one.

    Raises:
        UsageError: if there is none.
    """
    volumes = training_volumes(archive, recipe)
    return archive.select(recipe.splits, recipe.where) if volumes is None else volumes.selections


def training_dataset(
    archive: Archive, recipe: Recipe, preprocessing: Preprocessing, folder: Path
) -> ViewDataset | VolumeDataset:
    """Where the numbers of these selections become views.

    folder: of the run, which keeps the reference energies of volumes.

    Raises:
        UsageError: if a store has no reference energies of its images.
        RunError: if those of volumes cannot be measured.
    """
    views = recipe.view_settings()
    volumes = training_volumes(archive, recipe)
    if volumes is not None:
        reader = VolumeReader(volumes, preprocessing, recipe.head)
        return VolumeDataset(archive, reader, views, volume_references(reader, folder), recipe.seed)
    names = archive.select(recipe.splits, recipe.where)
    references = {name: archive.reference_energies(name, preprocessing.identity()) for name in names}
    return ViewDataset(archive, preprocessing, views, references, recipe.seed)
