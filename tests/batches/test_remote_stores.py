"""A store in a bucket gives what its folder gives, whatever the server does; a real S3 server on localhost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from buckets import BUCKET, Faults, bucket_server, client_of

from scoutview.batches import Archive, BatchPlan, view_loader
from scoutview.batches.loader import ViewDataset
from scoutview.errors import UsageError
from scoutview.objects import bucket_of
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, DamagedRecordError, Store, add_annotations, read_annotations
from scoutview.store.blocks import BLOCK
from scoutview.views import ViewSettings

URL = f"s3://{BUCKET}/hospital/store"


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def endpoint(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    bucket_of.cache_clear()
    monkeypatch.setenv("SCOUTVIEW_CACHE", str(tmp_path / "cache"))
    with bucket_server(faults) as found:
        yield found
    bucket_of.cache_clear()


def upload(endpoint: str, folder: Path) -> None:
    client = client_of(endpoint)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "merged" not in path.parts and not path.name.startswith("."):
            client.upload_file(str(path), BUCKET, f"hospital/store/{path.relative_to(folder).as_posix()}")


def batches_of(path: str | Path, steps: int = 3, workers: int = 0) -> list[torch.Tensor]:
    archive = Archive.open([path])
    preprocessing = Preprocessing()
    references = {name: archive.reference_energies(name, preprocessing.identity()) for name in archive.modalities()}
    settings = ViewSettings(crops=(2, 1), sizes=(48, 32), visible=((0.5, 1.0), (0.3, 0.6)))
    dataset = ViewDataset(archive, preprocessing, settings, references, 5)
    plan = BatchPlan.make(archive.select(), 16, 5)
    loader = view_loader(dataset, plan, 0, steps, rank=0, ranks=1, workers=workers)
    return [tensor for batch in loader for tensor in (batch.index, batch.views.pixels, batch.views.top)]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_batches_from_a_bucket_are_those_from_disk(
    endpoint: str, faults: Faults, small_store: Path, tmp_path: Path
) -> None:
    expected = batches_of(small_store)
    upload(endpoint, small_store)
    for name, value in (("latency", 0.01), ("refuse_every", 4), ("cut_every", 3), ("lie_every", 5)):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        setattr(faults, name, value)
        assert same(batches_of(URL), expected), name
        setattr(faults, name, 0)
    asked = len(faults.requests)
    assert same(batches_of(Path(URL), workers=2), expected)  # other processes, and nothing but blocks that are here
    assert [key for key, _ in faults.requests[asked:] if "shards" in key] == []
    assert read_annotations(Store.open(URL)) == read_annotations(Store.open(small_store))
    assert Store.open(URL).snapshot() == Store.open(small_store).snapshot()


def test_volumes_and_spectra_from_a_bucket(endpoint: str, small_store: Path) -> None:
    upload(endpoint, small_store)
    here, there = Store.open(small_store), Store.open(URL)
    rows = [row for row in here.rows() if row.modality == "ct"][:5]
    for one, other in zip(here.read_run(rows), there.read_run(rows), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(here.read_spectrum(rows[1]).power, there.read_spectrum(rows[1]).power)


def test_tables_that_changed_are_copied_again(endpoint: str, faults: Faults, small_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(small_store, copy)
    upload(endpoint, copy)
    Store.open(URL).rows()
    faults.requests.clear()
    Store.open(URL)
    assert faults.requests == []  # listed, not fetched
    image = Store.open(copy).rows()[0].image
    add_annotations(Store.open(copy), [Annotation(image, "label", "late", "1")])
    upload(endpoint, copy)
    assert [item.value for item in read_annotations(Store.open(URL)) if item.name == "late"] == ["1"]


def test_an_object_that_is_gone_or_damaged(endpoint: str, small_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(small_store, copy)
    row = Store.open(copy).rows()[0]
    shard = copy / "shards" / row.modality / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + 50] ^= 1
    shard.write_bytes(data)
    upload(endpoint, copy)
    with pytest.raises(DamagedRecordError, match=f"{URL}/shards.*its checksum differs"):
        Store.open(URL).read(row)
    key = f"hospital/store/shards/{row.modality}/{row.shard}"
    client_of(endpoint).delete_object(Bucket=BUCKET, Key=key)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DamagedRecordError, match="is missing"):
        Store.open(URL).read(row)


def test_a_cache_of_a_few_blocks_is_enough(
    endpoint: str, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOUTVIEW_CACHE_GB", str(2 * BLOCK / 1e9))
    upload(endpoint, small_store)
    assert same(batches_of(URL), batches_of(small_store))
    held = sum(path.stat().st_size for path in (tmp_path / "cache" / "blocks").rglob("*"))
    assert held <= 2.5 * BLOCK
    for text in ("none", "-1", "nan"):
        monkeypatch.setenv("SCOUTVIEW_CACHE_GB", text)
        with pytest.raises(UsageError, match="give a number of gigabytes above 0"):
            Store.open(URL)


def test_no_store_there(endpoint: str) -> None:
    with pytest.raises(UsageError, match=r"is not a store \(it has no store.json\)"):
        Store.open(f"s3://{BUCKET}/nothing")
