"""One DICOM file gives one tensor, whichever command looks at it: pretrain, embed, probe, finetune, predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scoutview.batches import Archive, read_unit_image
from scoutview.batches.loader import ViewDataset
from scoutview.batches.sampler import Draw
from scoutview.commands.sources import source_images
from scoutview.encoders import Encoder, embed_images, untrained_encoder
from scoutview.ingest import Pseudonyms, run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.tasks.inputs import NetworkInputs
from scoutview.views import ViewSettings, canvas_of, network_input, rescale


class Recorder(torch.nn.Module):
    """A network that keeps what it is shown."""

    spatial_dims = 2
    features = 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += list(x.clone())
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def archive_and_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, Path]:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, patients={"xray": 2, "ct": 1, "mr": 1, "us": 2}, seed=1, size=128, slices=2)
    run_ingest([folder / "images"], folder / "store", workers=1, pseudonyms=Pseudonyms(b"test"))
    return Archive.open([folder / "store"]), folder / "images"


def test_store_file_and_every_consumer_agree(archive_and_files: tuple[Archive, Path]) -> None:
    archive, files = archive_and_files
    assert len(archive.rows) == 8
    preprocessing = Preprocessing()
    from_files = {image.pixels.tobytes(): image for image in source_images(files, preprocessing, None)}
    recorder = Recorder()
    encoder = Encoder("resnet18", recorder, preprocessing, 64, {})  # type: ignore[arg-type]
    embed_images(encoder, (image.pixels for image in source_images(files.parent / "store", preprocessing, None)))
    inputs = NetworkInputs(archive, preprocessing, 64)
    for index in range(len(archive.rows)):
        image, _ = read_unit_image(archive, index, preprocessing)
        assert image.tobytes() in from_files, "the file itself, read for embed or predict, gives other values"
        expected = network_input(image, 64)
        assert torch.equal(inputs.batch([index])[0, 0], torch.from_numpy(expected))  # finetune, evaluate
        assert torch.equal(recorder.seen[index][0], torch.from_numpy(expected))  # embed, probe


def test_pretraining_sees_the_same_image_before_it_draws_views(archive_and_files: tuple[Archive, Path]) -> None:
    archive, _ = archive_and_files
    settings = ViewSettings(crops=(1, 1), sizes=(96, 32), visible=((0.75, 0.75), (0.3, 0.3)))
    references = {name: archive.reference_energies(name, Preprocessing().identity()) for name in archive.modalities()}
    dataset = ViewDataset(archive, Preprocessing(), settings, references, 0)
    for index in range(len(archive.rows)):
        image, _ = read_unit_image(archive, index, Preprocessing())
        sample = dataset[Draw(0, index, index)]
        np.testing.assert_array_equal(sample.canvas.pixels, canvas_of(image).pixels)


def test_embeddings_of_files_and_of_the_store_are_equal(archive_and_files: tuple[Archive, Path]) -> None:
    _, files = archive_and_files
    encoder = untrained_encoder("resnet18w0.25", 64, Preprocessing())

    def rows(source: Path) -> np.ndarray:
        images = (image.pixels for image in source_images(source, encoder.preprocessing, None))
        vectors = embed_images(encoder, images)
        return vectors[np.lexsort(vectors.T)]

    np.testing.assert_allclose(rows(files), rows(files.parent / "store"), atol=1e-6)


def test_network_input_is_the_rescaled_image(archive_and_files: tuple[Archive, Path]) -> None:
    archive, _ = archive_and_files
    image, _ = read_unit_image(archive, 0, Preprocessing())
    np.testing.assert_array_equal(network_input(image, 64), rescale(image, 64, 64).clip(0, 1))
