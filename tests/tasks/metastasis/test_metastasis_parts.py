"""Slices, masks, losses and networks of the metastasis task, against loops in float64 and scikit-learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sliced_store import COLUMNS, NAME, ROWS, SLICES, image_id, make_sliced_store, write_volumes

from scoutview.batches import Archive
from scoutview.encoders import untrained_encoder
from scoutview.errors import UsageError
from scoutview.metrics import dice, dice_interval, overlaps
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, add_annotations
from scoutview.store.annotations import mask_annotation
from scoutview.tasks import FinetuneSettings
from scoutview.tasks.metastasis.cases import Masks, SliceCases
from scoutview.tasks.metastasis.classifier import grey_encoder, new_slice_classifier
from scoutview.tasks.metastasis.inputs import SliceInputs, augment_both
from scoutview.tasks.metastasis.segmentation import folds_of, new_unet, segmentation_loss
from scoutview.views import network_input


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, dict[str, np.ndarray]]:
    store, bitmaps = make_sliced_store(tmp_path_factory.mktemp("sliced") / "store", 8)
    return Archive.open([store.path]), bitmaps


def test_windows_repeat_the_ends_and_share_the_range_of_the_volume(
    sliced: tuple[Archive, dict[str, np.ndarray]],
) -> None:
    archive, bitmaps = sliced
    cases = SliceCases.of(archive, Masks.read(archive, NAME), "train")
    inputs = SliceInputs(cases, Preprocessing(), 24)
    order = np.random.default_rng(0).permutation(len(cases)).tolist()
    found = inputs.slices(order).numpy()
    for number, case in enumerate(order):
        store, volume = cases.volumes[cases.volume[case]]
        values = [store.read(row).astype(np.float64) * row.slope + row.offset for row in volume.rows]
        ends = [np.sort(one.ravel()) for one in values]
        cut = math.ceil(ends[0].size * 0.005) - 1
        low, high = min(one[cut] for one in ends), max(one[-1 - cut] for one in ends)
        for channel, step in enumerate((-2, -1, 0, 1, 2)):
            place = min(max(int(cases.place[case]) + step, 0), SLICES - 1)
            unit = np.clip((values[place] - low) / (high - low), 0, 1).astype(np.float32)
            np.testing.assert_allclose(found[number, channel], network_input(unit, 24), atol=0.01)
        assert cases.targets[case] == bitmaps[cases.row(case).image].any()
    again = SliceInputs(cases, Preprocessing(), 24).slices(list(range(len(cases)))).numpy()
    np.testing.assert_array_equal(found, again[order])


def test_masks_lie_where_the_image_shows_them_after_scaling(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    volumes, annotations, bitmaps = {}, [], {}
    for patient in (0, 4, 8):
        masks = np.zeros((SLICES, ROWS, COLUMNS), dtype=bool)
        for place in range(1, SLICES):
            row, column = generator.integers(5, ROWS - 13), generator.integers(5, COLUMNS - 15)
            masks[place, row : row + generator.integers(4, 9), column : column + generator.integers(4, 11)] = True
        volumes[patient] = np.where(masks, 1000, 100)
        for place, mask in enumerate(masks):
            annotations.append(mask_annotation(image_id(patient, place), NAME, mask))
            bitmaps[image_id(patient, place)] = mask
    store = write_volumes(tmp_path / "store", volumes)
    add_annotations(store, annotations)
    archive = Archive.open([store.path])
    cases = SliceCases.of(archive, Masks.read(archive, NAME), "train")
    for size in (26, 24, 52, 70):
        inputs = SliceInputs(cases, Preprocessing(), size)
        every = list(range(len(cases)))
        shown, masks = inputs.slices(every)[:, 2].numpy(), inputs.masks(every)[:, 0].numpy()
        for case in every:
            shares = area_shares(bitmaps[cases.row(case).image], size)
            np.testing.assert_allclose(masks[case], shares, atol=1e-6)
            if not shares.any():
                continue
            # The image is bright where the mask is: no shift of the mask fits it as well.
            errors = {
                (down, across): np.abs(np.roll(masks[case], (down, across), (0, 1)) - shown[case]).sum()
                for down in (-1, 0, 1)
                for across in (-1, 0, 1)
            }
            assert errors[0, 0] < 0.75 * min(error for shift, error in errors.items() if shift != (0, 0))


def area_shares(bitmap: np.ndarray, size: int) -> np.ndarray:
    """[size, size]: which share of each new pixel the marked old ones cover, overlap by overlap; the long side fits."""
    rows, columns = (round(side * size / max(bitmap.shape)) for side in bitmap.shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    shares = np.zeros((size, size))
    for (old_row, old_column), marked in np.ndenumerate(bitmap):
        for new_row in range(rows) if marked else ():
            down = rows / bitmap.shape[0]
            tall = min(new_row + 1, (old_row + 1) * down) - max(new_row, old_row * down)
            for new_column in range(columns) if tall > 0 else ():
                across = columns / bitmap.shape[1]
                wide = min(new_column + 1, (old_column + 1) * across) - max(new_column, old_column * across)
                shares[top + new_row, left + new_column] += tall * max(wide, 0)
    return shares


def test_what_is_known_of_a_slice(tmp_path: Path) -> None:
    volumes = {patient: np.random.default_rng(patient).normal(400, 40, (SLICES, ROWS, COLUMNS)) for patient in (0, 4)}
    store = write_volumes(tmp_path / "store", volumes)
    left, right, nothing = (np.zeros((ROWS, COLUMNS), dtype=bool) for _ in range(3))
    left[4:9, 4:9], right[7:12, 7:12] = True, True
    with pytest.raises(UsageError, match="no image has a mask of 'spot' \\(masks of: none\\)"):
        Masks.read(Archive.open([store.path]), NAME)
    add_annotations(store, [mask_annotation(image_id(0, 0), NAME, left)])
    archive = Archive.open([store.path])
    with pytest.raises(UsageError, match="split train is known to be without spot: say so by an empty mask"):
        SliceCases.of(archive, Masks.read(archive, NAME), "train")
    with pytest.raises(UsageError, match="no image is left"):
        SliceCases.of(archive, Masks.read(archive, NAME), "test")
    add_annotations(
        store,
        [
            mask_annotation(image_id(0, 1), NAME, nothing),
            Annotation(image_id(0, 2), "label", NAME, "0"),
            Annotation(image_id(0, 3), "label", NAME, "1"),  # somewhere, but nobody says where
            *[mask_annotation(image_id(0, 4), NAME, one, reader) for one, reader in ((left, "a"), (right, "b"))],
            *[mask_annotation(image_id(0, 5), NAME, one, "a") for one in (left, right)],
            Annotation("series-4", "label", NAME, "0"),
            *[mask_annotation(image_id(4, 2), NAME, left, reader) for reader in "ab"],
            mask_annotation(image_id(4, 2), NAME, right, "c"),
            mask_annotation(image_id(4, 3), NAME, left, "a"),
            mask_annotation(image_id(4, 3), NAME, nothing, "b"),
        ],
    )
    archive = Archive.open([store.path])
    masks = Masks.read(archive, NAME)
    cases = SliceCases.of(archive, masks, "train")
    known = {cases.row(case).image: masks.bitmap(cases.row(case)) for case in range(len(cases))}
    expected = {
        image_id(0, 0): left,
        image_id(0, 1): nothing,
        image_id(0, 2): nothing,
        image_id(0, 4): left & right,  # more than half of two readers
        image_id(0, 5): left | right,  # two lesions of one reader
        image_id(4, 2): left,
        image_id(4, 3): nothing,
        **{image_id(4, place): nothing for place in (0, 1, 4, 5)},
    }
    assert cases.unknown == 1
    assert known.keys() == expected.keys()
    for name, bitmap in expected.items():
        np.testing.assert_array_equal(known[name], bitmap, err_msg=name)
    assert {cases.row(k).image: v for k, v in enumerate(cases.targets.tolist())} == {
        name: float(bitmap.any()) for name, bitmap in expected.items()
    }
    add_annotations(store, [mask_annotation(image_id(4, 5), NAME, np.ones((ROWS + 1, 3), dtype=bool))])
    archive = Archive.open([store.path])
    with pytest.raises(UsageError, match="mask of spot of image image-04-5 is damaged"):
        SliceCases.of(archive, Masks.read(archive, NAME), "train")


def test_the_loss_of_masks_equals_a_loop_in_float64() -> None:
    generator = np.random.default_rng(0)
    logits, masks = generator.normal(0, 2, (4, 1, 5, 6)), generator.random((4, 1, 5, 6)).clip(0.4, 0.9) - 0.4
    masks[1] = masks[3] = 0

    def expected(logits: np.ndarray, masks: np.ndarray) -> float:
        terms, ratios = [], []
        for image, mask in zip(logits.reshape(len(logits), -1), masks.reshape(len(masks), -1), strict=True):
            p = [1 / (1 + math.exp(-x)) for x in image]
            terms += [-m * math.log(q) - (1 - m) * math.log(1 - q) for q, m in zip(p, mask, strict=True)]
            if any(m > 0 for m in mask):
                both = sum(q * m for q, m in zip(p, mask, strict=True))
                ratios.append(1 - (2 * both + 1) / (sum(p) + sum(mask) + 1))
        return sum(terms) / len(terms) + (sum(ratios) / len(ratios) if ratios else 0)

    for chosen in ([0, 1, 2, 3], [1, 3]):  # the second has no positive image
        ours = torch.tensor(logits[chosen], requires_grad=True)
        loss = segmentation_loss(ours, torch.tensor(masks[chosen]))
        assert float(loss.detach()) == pytest.approx(expected(logits[chosen], masks[chosen]), rel=1e-12)
        loss.backward()
        assert ours.grad is not None
        assert bool(torch.isfinite(ours.grad).all())


def test_before_training_the_classifier_is_the_encoder_on_the_centre_slice() -> None:
    encoder = untrained_encoder("resnet18w0.25", 48, Preprocessing())
    network = encoder.network.double()
    slices, masks = torch.rand(3, 5, 48, 48).double(), torch.rand(3, 1, 48, 48).double()
    for inputs in (slices, torch.cat([slices, masks], dim=1)):
        model = new_slice_classifier(encoder, NAME, inputs.shape[1] == 6, 0)
        for module in (network, model.encoder.network, model.entry, model.head):
            module.double().train(False)
        torch.testing.assert_close(model.logits(inputs), model.head(network(slices[:, 2:3])), rtol=1e-5, atol=1e-6)
        channels = model.entry(inputs)
        assert all(float((channels[:, k] - channels[:, k - 1]).abs().mean().detach()) > 0.01 for k in range(3))
        assert encoder.network.get_parameter("conv1.weight").shape[1] == 1
    # One image in all three channels is what the encoder file sees.
    with torch.no_grad():
        model.encoder.network.get_parameter("conv1.weight").mul_(torch.rand(16, 3, 7, 7))
    grey = slices[:, :1]
    expected = model.encoder.network(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey_encoder(model).network(grey), expected, rtol=1e-6, atol=1e-8)
    with pytest.raises(UsageError, match="needs a ResNet for images, not vit_tiny"):
        new_slice_classifier(untrained_encoder("vit_tiny", 48, Preprocessing()), NAME, True, 0)


def test_the_three_channels_learn_apart() -> None:
    model = new_slice_classifier(untrained_encoder("resnet18w0.25", 48, Preprocessing()), NAME, True, 0)
    model.logits(torch.rand(4, 6, 48, 48)).square().mean().backward()
    gradient = model.encoder.network.get_parameter("conv1.weight").grad
    assert gradient is not None
    for k in range(3):
        assert float((gradient[:, k] - gradient[:, k - 1]).norm()) > 0.01 * float(gradient[:, k].norm())


def test_slices_and_masks_move_alike_and_masks_keep_their_values() -> None:
    settings = FinetuneSettings(gain=(0.5, 0.5), bias=(0.3, 0.3), shift=0.2)
    images = torch.rand(4, 1, 20, 20)
    slices, masks = augment_both(images.expand(-1, 5, -1, -1), images, settings, np.random.default_rng(1))
    torch.testing.assert_close(slices, (masks * 0.5 + 0.3).expand(-1, 5, -1, -1))
    assert not torch.allclose(masks, images)


def test_a_mask_depends_on_its_slices_alone() -> None:
    network = new_unet(0).train(False)
    slices = torch.rand(3, 5, 21, 26)
    together = network(slices)
    for number in range(3):
        torch.testing.assert_close(network(slices[number : number + 1])[0], together[number], atol=1e-5, rtol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), new_unet(0).parameters(), strict=True))


def test_folds_split_patients_and_spread_the_ill() -> None:
    generator = np.random.default_rng(0)
    patients = np.array([f"p{n}" for n in generator.integers(0, 21, 300)])
    ill = {f"p{n}" for n in range(0, 21, 3)}
    targets = np.array([float(key in ill and generator.random() < 0.5) for key in patients], dtype=np.float32)
    for folds in (1, 2, 3):
        parts = folds_of(patients, targets, folds)
        members = [set(patients[parts == fold]) for fold in range(folds)]
        assert set.union(*members) == set(patients)
        assert sum(map(len, members)) == len(set(patients))
        counts = [len(one & ill) for one in members]
        assert max(counts) - min(counts) <= 1
        shuffled = generator.permutation(300)
        np.testing.assert_array_equal(folds_of(patients[shuffled], targets[shuffled], folds), parts[shuffled])


def test_dice_is_scikit_learns_f1_and_its_interval_is_over_patients() -> None:
    generator = np.random.default_rng(0)
    found, truth = generator.random((9, 6, 7)), (generator.random((9, 6, 7)) > 0.7).astype(np.float64)
    counts = overlaps(found, truth)
    assert float(dice(counts.sum(0))) == pytest.approx(f1_score(truth.ravel() > 0, found.ravel() >= 0.5))
    for one, image, mask in zip(dice(counts), found, truth, strict=True):
        assert one == pytest.approx(f1_score(mask.ravel() > 0, image.ravel() >= 0.5))
    assert np.isnan(dice([0, 0, 0]))
    patients = np.array(list("aabbccdde"))
    draws = []
    drawn = np.random.default_rng(0).integers(5, size=(50, 5))
    for keys in drawn:
        rows = [row for key in keys for row in np.flatnonzero(patients == "abcde"[key])]
        draws.append(f1_score(truth[rows].ravel() > 0, found[rows].ravel() >= 0.5))
    interval = dice_interval(counts, patients, rounds=50)
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(draws, (0.025, 0.975)))
