"""Volumes in batches: which they are, the same whatever the workers, as stored, and their reference energies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import fft

from scoutview.batches import (
    Archive,
    BatchPlan,
    Draw,
    VolumeDataset,
    VolumeList,
    VolumeReader,
    read_head,
    read_slab,
    view_loader,
)
from scoutview.batches import volume_loader as module
from scoutview.batches.volume_references import volume_references
from scoutview.errors import RunError, UsageError
from scoutview.images import BAND_SIGMAS
from scoutview.ingest import run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.store import DamagedRecordError
from scoutview.views import ReferenceEnergies, ViewSettings, render_views
from scoutview.views.canvas import BORDER, UNIT

SETTINGS = ViewSettings(
    crops=(1, 2), sizes=((12, 64, 48), (8, 32, 40)), fraction=None, short_sides=(40.0, 80.0), energy=0.5
)
SLICES = 14
HEAD = (12, 64, 48)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of CT and MR as ingest takes them, and a radiograph."""
    folder = tmp_path_factory.mktemp("volumes")
    write_phantoms(folder / "source", patients={"ct": 4, "mr": 3, "xray": 1}, seed=3, size=96, slices=SLICES)
    run_ingest([folder / "source" / "images"], folder / "store", workers=1)
    return folder / "store"


def listed(store: Path, where: str | None = None) -> tuple[Archive, VolumeList]:
    archive = Archive.open([store])
    return archive, VolumeList.of(archive, archive.select(where=where))


def dataset_of(store: Path, head: bool = False, where: str | None = None) -> VolumeDataset:
    archive, volumes = listed(store, where)
    flat = ReferenceEnergies(np.array([32.0, 1200.0]), np.full((2, 6), 0.05), np.full((2, 6), 0.02))
    reader = VolumeReader(volumes, Preprocessing(), HEAD if head else None)
    return VolumeDataset(archive, reader, SETTINGS, dict.fromkeys(volumes.parts, flat), seed=5)


def test_volumes_are_numbered_through_and_radiographs_are_none(store: Path) -> None:
    archive, volumes = listed(store)
    assert {name: len(part) for name, part in volumes.selections.items()} == {"ct": 4, "mr": 3}
    stacks = []
    for name, selection in volumes.selections.items():
        for index in selection.indices(0, len(selection)).tolist():
            _, volume = volumes.place(index)
            assert {row.modality for row in volume.rows} == {volumes.modality_of(index)} == {name}
            assert volumes.slices_of(index) == len(volume.rows) == SLICES
            stacks.append(volume.stack)
    assert len(set(stacks)) == len(stacks) == 7
    with pytest.raises(UsageError, match=r"no whole volume among the selected images \(no series of slices\)"):
        VolumeList.of(archive, archive.select(where="modality = 'xray'"))


def test_volumes_of_which_a_slice_is_not_selected_are_said(store: Path) -> None:
    _, whole = listed(store)
    assert whole.left_out() == []
    missing = whole.place(5)[1].rows[3].image
    _, rest = listed(store, f"image != '{missing}'")
    assert {name: len(part) for name, part in rest.parts.items()} == {"ct": 4, "mr": 2}
    assert rest.left_out() == ["mr: left out are 1 volumes with slices that are not selected and 0 with gaps"]


def test_batches_are_the_same_with_and_without_workers_and_on_two_ranks(store: Path) -> None:
    dataset = dataset_of(store)
    plan = BatchPlan.make(dataset.reader.volumes.selections, 4, 0)
    alone = list(view_loader(dataset, plan, 0, 3, rank=0, ranks=1, workers=0))
    helped = list(view_loader(replace(dataset), plan, 1, 3, rank=0, ranks=1, workers=1))
    for one, other in zip(alone[1:], helped, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.views.pixels, other.views.pixels)
        for name, value in vars(one.views.depth).items():
            assert torch.equal(value, getattr(other.views.depth, name)), name
        assert torch.equal(one.views.bands, other.views.bands)
    halves = [next(view_loader(dataset, plan, 0, 1, rank=rank, ranks=2, workers=0)) for rank in range(2)]
    whole = alone[0]
    assert sorted(torch.cat([half.index for half in halves]).tolist()) == sorted(whole.index.tolist())
    groups = render_views(whole.views, SETTINGS.view_sizes())
    assert [tuple(group.shape) for group in groups] == [(1, 4, 1, 12, 64, 48), (2, 4, 1, 8, 32, 40)]
    for half in halves:
        for group, part in zip(groups, render_views(half.views, SETTINGS.view_sizes()), strict=True):
            places = [whole.position.tolist().index(place) for place in half.position.tolist()]
            np.testing.assert_allclose(group[:, places], part, atol=2e-5)


def slices_in(sample: object) -> np.ndarray:
    """The slices of a canvas [slice, row, column], without mipmap and border."""
    slices, rows, columns = sample.canvas.shape
    bordered = sample.canvas.pixels.reshape(slices, -1)[:, : (rows + 2 * BORDER) * (columns + 2 * BORDER)]
    bordered = bordered.reshape(slices, rows + 2 * BORDER, columns + 2 * BORDER)
    return bordered[:, BORDER:-BORDER, BORDER:-BORDER] / UNIT


def test_a_sample_holds_what_is_stored_with_the_spacing_of_its_slices(store: Path) -> None:
    dataset = dataset_of(store)
    for index in (0, 5):
        where, volume = dataset.reader.volumes.place(index)
        sample = dataset[Draw(0, 1, index)]
        np.testing.assert_allclose(slices_in(sample), read_slab(where, volume, Preprocessing()), atol=4e-5)
        thickness = volume.spacing[0] / volume.spacing[1]
        assert volume.spacing[1] == volume.spacing[2]
        np.testing.assert_allclose(sample.parameters.depth.thickness, sample.parameters.scale * thickness, rtol=1e-5)


def test_of_many_slices_a_slab_is_read_that_the_key_decides(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SLICES", 5)
    dataset = dataset_of(store)
    where, volume = dataset.reader.volumes.place(1)
    whole = read_slab(where, volume, Preprocessing())
    firsts = []
    for step in range(12):
        held = slices_in(dataset[Draw(step, 0, 1)])
        errors = [np.abs(whole[first : first + 5] - held).max() for first in range(SLICES - 4)]
        assert min(errors) < 4e-5
        firsts.append(int(np.argmin(errors)))
        np.testing.assert_array_equal(held, slices_in(dataset[Draw(step, 0, 1)]))
    assert len(set(firsts)) > 3
    assert not dataset.kept.values


def test_heads_are_cropped_and_what_is_no_head_is_replaced_or_named(store: Path) -> None:
    dataset = dataset_of(store, head=True)
    where, volume = dataset.reader.volumes.place(2)
    head = read_head(where, volume, HEAD)
    sample = dataset[Draw(0, 0, 5, (2,))]
    np.testing.assert_allclose(slices_in(sample), head.pixels, atol=4e-5)
    spacing = np.linalg.norm(head.affine[:3, :3], axis=0)
    assert sample.parameters.depth.thickness[0] / sample.parameters.scale[0] == pytest.approx(
        spacing[2] / np.sqrt(spacing[0] * spacing[1]), rel=1e-5
    )
    assert len(sample.damaged) == 1
    assert "is no evenly spaced CT in HU" in sample.damaged[0]
    with pytest.raises(DamagedRecordError, match="is no evenly spaced CT in HU"):
        dataset[Draw(0, 0, 5)]


def test_reference_energies_are_those_of_the_volumes_and_measured_once(store: Path, tmp_path: Path) -> None:
    reader = dataset_of(store).reader
    known = volume_references(reader, tmp_path)
    side = next(side for side in known["ct"].short_sides if side > 96)  # made larger, nothing is cut off
    for name, selection in reader.volumes.selections.items():
        direct = []
        for index in selection.indices(0, len(selection)).tolist():
            volume, thickness = reader.read(index)
            direct.append(energies(volume.astype(np.float64), thickness, side / 96))
        mean, deviation = known[name].at(side)
        np.testing.assert_allclose(mean, np.mean(direct, axis=0), rtol=0.01)
        np.testing.assert_allclose(deviation, np.std(direct, axis=0), rtol=0.05)
    before = (tmp_path / "volume_energies.json").stat().st_mtime_ns
    again = volume_references(reader, tmp_path)
    for name in known:
        np.testing.assert_array_equal(again[name].mean, known[name].mean)
    assert (tmp_path / "volume_energies.json").stat().st_mtime_ns == before


def energies(volume: np.ndarray, thickness: float, scale: float) -> np.ndarray:
    """e_k by filtering, band by band; sigmas are in px of slices made larger by `scale`."""
    found, level = [], volume
    for sigma in BAND_SIGMAS:
        coefficients = fft.dctn(level, norm="ortho")
        for axis, width in enumerate((sigma / scale / thickness, sigma / scale, sigma / scale)):
            frequency = np.pi * np.arange(volume.shape[axis]) / volume.shape[axis]
            response = np.exp(-((width * frequency) ** 2) / 2)
            coefficients *= response.reshape([-1 if place == axis else 1 for place in range(3)])
        lower = fft.idctn(coefficients, norm="ortho")
        found.append((level - lower).std())
        level = lower
    return np.array([*found, level.std()])


def test_energies_of_what_cannot_be_read_are_refused(store: Path, tmp_path: Path) -> None:
    reader = replace(dataset_of(store, where="modality = 'mr'").reader, head=True)
    with pytest.raises(RunError, match="none of the volumes that reference energies are measured on can be read"):
        volume_references(reader, tmp_path)
    (tmp_path / "volume_energies.json").write_text("{}")
    with pytest.raises(RunError, match="is damaged"):
        volume_references(reader, tmp_path)
