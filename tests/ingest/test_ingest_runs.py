"""Whole ingests: run again, killed, on a full disk, by several processes; what a store then holds."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from source_files import picture, write_dicom, write_png

from scoutview.errors import RunError, UsageError
from scoutview.ingest import IngestSummary, Pseudonyms, run_ingest
from scoutview.ingest.files import SourceFile
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pool import Processes
from scoutview.store import Store, check_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve pictures in two folders, a DICOM file, a volume, and a text."""
    folder = tmp_path / "MRN-4711_source"
    for number in range(12):
        write_png(folder / f"case{number % 2}" / f"Doe_{number:02d}.png", picture(seed=number))
    write_dicom(folder / "film.dcm", picture(seed=50), "DX", PatientID="MRN-4711", StudyInstanceUID="1.2.3.4711")
    volume = np.stack([picture(20, 24, seed=seed) for seed in range(16)], axis=-1).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / "volume.nii.gz")
    (folder / "notes.txt").write_text("Jane Doe")
    return folder


def content(store: Path) -> list[tuple[str, str, str, str]]:
    return sorted((row.image, row.pixel_sha256, row.patient, row.split) for row in Store.open(store).rows())


def test_counts_and_a_second_run(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run_ingest([source], store, modality="xray", workers=1)
    assert first.counts() == {
        "files": 15, "taken": 14, "quarantined": 1, "images": 29, "volumes": 1, "reasons": {"not_an_image": 1}
    }  # fmt: skip
    before = content(store), sorted(str(path) for path in store.rglob("*.parquet"))
    read: list[int] = []
    second = run_ingest([source], store, modality="xray", workers=1, progress=lambda done, total: read.append(done))
    assert second.counts() == first.counts()
    assert read == []
    assert (content(store), sorted(str(path) for path in store.rglob("*.parquet"))) == before
    assert check_store(Store.open(store)) == (29, [])
    references = Store.open(store).reference_energies["xray"]
    assert np.shape(references["mean"]) == np.shape(references["deviation"]) == (16, 6)


def test_new_files_are_added_and_a_fix_is_followed(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run_ingest([source], store, workers=1)
    assert first.reasons == {"not_an_image": 1, "unknown_modality": 13}
    write_dicom(source / "late.dcm", picture(seed=60), "MR")
    second = run_ingest([source], store, modality="xray", workers=1)
    assert (second.taken, second.reasons) == (15, {"not_an_image": 1})
    assert [entry["reason"] for entry in Store.open(store).quarantined()] == ["not_an_image"]


def test_the_store_does_not_depend_on_the_number_of_workers_or_the_place(source: Path, tmp_path: Path) -> None:
    run_ingest([source], tmp_path / "one", modality="xray", workers=1)
    run_ingest([source], tmp_path / "two", modality="xray", workers=2)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source, elsewhere)
    run_ingest([elsewhere], tmp_path / "three", modality="xray", workers=1)
    assert Store.open(tmp_path / "one").snapshot() == Store.open(tmp_path / "two").snapshot()
    assert content(tmp_path / "one") == content(tmp_path / "three")
    first, second = ((tmp_path / name / "store.json").read_text() for name in ("one", "two"))
    assert first == second


def test_moved_touched_and_changed_files(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run_ingest([source], store, modality="xray", workers=1)
    moved = source.rename(tmp_path / "moved")
    assert run_ingest([moved], store, modality="xray", workers=1).counts() == first.counts()
    back = moved.rename(source)
    os.utime(back / "film.dcm", ns=(1, 1))
    assert run_ingest([source], store, modality="xray", workers=1).counts() == first.counts()
    write_png(source / "case0" / "Doe_00.png", picture(seed=99))
    changed = run_ingest([source], store, modality="xray", workers=1)
    assert changed.reasons == {"changed_after_ingest": 1, "not_an_image": 1}
    assert len(Store.open(store).rows()) == 29
    assert run_ingest([source], store, modality="xray", workers=1).counts() == changed.counts()


def test_the_same_instance_in_two_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "a.dcm", picture(), "DX", SOPInstanceUID="1.2.3")
    write_dicom(source / "b.dcm", picture(), "DX", SOPInstanceUID="1.2.3", syntax="1.2.840.10008.1.2")
    write_dicom(source / "c.dcm", picture(seed=1), "DX", SOPInstanceUID="1.2.3")
    summary = run_ingest([source], tmp_path / "store", workers=1)
    assert (summary.taken, summary.reasons) == (1, {"duplicate_instance": 1, "instance_conflict": 1})
    assert run_ingest([source], tmp_path / "store", workers=1).counts() == summary.counts()


def test_no_identifier_reaches_the_store(source: Path, tmp_path: Path) -> None:
    labels = source / "labels.csv"
    labels.write_text("file,patient_name,finding\nfilm.dcm,Doe^Jane,1\ncase0/Doe_00.png,Doe^Jane,0\n")
    store = tmp_path / "store"
    run_ingest([source], store, labels=labels, modality="xray", workers=1)
    (store / "quarantine.parquet").unlink()
    for file in sorted(store.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            for identifier in (b"4711", b"Doe", b"Jane", b"film", b"volume.nii", b"case0"):
                assert identifier not in data, (file, identifier)
    keys = {row.patient for row in Store.open(store).rows()}
    assert all(len(key) == 32 for key in keys)


SCRIPT = """
import sys
from pathlib import Path
import scoutview.ingest.engine as engine
engine.COMMIT_FILES = 3
if __name__ == "__main__":
    engine.run_ingest([Path(sys.argv[1])], Path(sys.argv[2]), modality="xray", workers=1,
                      progress=lambda done, total: print(done, flush=True))
"""


def test_a_killed_ingest_is_completed_by_the_next(source: Path, tmp_path: Path) -> None:
    run_ingest([source], tmp_path / "undisturbed", modality="xray", workers=1)
    expected = content(tmp_path / "undisturbed")
    store = tmp_path / "store"
    script = tmp_path / "ingest_once.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(source), str(store)]
    generator = np.random.default_rng(1)
    for lines in (1, 3, 5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(float(generator.uniform(0, 0.02)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (store / "store.json").exists():
            assert check_store(Store.open(store))[1] == []
    summary = run_ingest([source], store, modality="xray", workers=1)
    assert content(store) == expected
    assert (summary.taken, summary.images, summary.volumes) == (14, 29, 1)
    assert not list(store.rglob(".*.tmp")) + list(store.rglob(".writing*"))


def test_a_kill_while_the_store_is_made(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / ".lock").touch()
    (store / ".store.json.77.tmp").write_text('{"vers')
    assert run_ingest([source], store, modality="xray", workers=1).taken == 14
    assert not (store / ".store.json.77.tmp").exists()


def test_a_full_disk_is_one_line_and_the_store_stays_usable(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    big = tmp_path / "big"
    for number in range(6):
        write_png(big / f"{number}.png", np.random.default_rng(number).integers(0, 65535, (300, 300), dtype=np.uint16))
    run_ingest([source], store, modality="xray", workers=1)
    before = content(store)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(RunError, match="is full: free space and run the same command again") as caught:
            run_ingest([source, big], store, modality="xray", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert content(store) == before
    assert check_store(Store.open(store))[1] == []
    assert run_ingest([source, big], store, modality="xray", workers=1).taken == 20


def read_or_die(files: list[SourceFile]) -> list[Outcome]:
    """Stands for a decoder that takes its process down."""
    if any(file.path.name == "03" for file in files):
        os._exit(9)
    return [Outcome(file, "stamp") for file in files]


def killed(file: SourceFile) -> Outcome:
    return Outcome(file, "stamp", reason="killed_the_reader")


def test_a_file_that_kills_its_reader_is_found(tmp_path: Path) -> None:
    files = [SourceFile(tmp_path / f"{number:02d}", Path(f"{number:02d}")) for number in range(5)]
    with Processes(2) as processes:
        results: list[Outcome] = list(processes(files, read_or_die, killed, chunk=2))
    assert [result.file for result in results] == files
    assert [result.file.path.name for result in results if result.reason == "killed_the_reader"] == ["03"]


ORPHANS = """
import os, sys, time
from scoutview.ingest.pool import Processes

def work(items):
    print(os.getpid(), flush=True)
    time.sleep(600)
    return items

if __name__ == "__main__":
    with Processes(2) as processes:
        list(processes([1, 2], work, int, 1))
"""


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(ORPHANS)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    process.kill()
    process.wait()
    for _ in range(100):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.1)
    pytest.fail(f"{workers} still work for a driver that is gone")


UNGUARDED = """
import sys
from pathlib import Path
from scoutview.errors import RunError
from scoutview.ingest import run_ingest
try:
    run_ingest([Path(sys.argv[1])], Path(sys.argv[2]), modality="xray", workers=2)
except RunError as error:
    print(error)
"""


def test_a_script_without_guard_is_blamed_and_not_its_files(source: Path, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, str(script), str(source), str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert 'below `if __name__ == "__main__":`' in result.stdout
    assert Store.open(tmp_path / "store").quarantined() == []


def test_wrong_use(source: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    store = tmp_path / "store"
    cases: list[tuple[str, list[Path], Path]] = [
        ("holds no file", [empty], store),
        ("does not exist", [tmp_path / "nowhere"], store),
        ("holds other files", [source / "film.dcm"], source / "case0"),
        ("is a file", [source / "case0"], source / "film.dcm"),
    ]
    for message, sources, out in cases:
        with pytest.raises(UsageError, match=message) as caught:
            run_ingest(sources, out, workers=1)
        assert "\n" not in str(caught.value)
    run_ingest([source / "film.dcm"], store, workers=1)
    with pytest.raises(UsageError, match="another pseudonym secret"):
        run_ingest([source], store, workers=1, pseudonyms=Pseudonyms(b"another secret"))
    with pytest.raises(UsageError, match="the store itself"):
        run_ingest([store / "shards"], store, workers=1)
    (store / "store.json").write_text('{"version": 99}')
    with pytest.raises(UsageError, match="version 99"):
        run_ingest([source], store, workers=1)


def test_two_ingests_at_once_are_refused(source: Path, tmp_path: Path) -> None:
    from scoutview.store import StoreWriter

    with (
        StoreWriter(tmp_path / "store", Pseudonyms.from_environment().salt_id()),
        pytest.raises(UsageError, match="being written by another process"),
    ):
        run_ingest([source], tmp_path / "store", workers=1)


def test_a_store_within_its_source_is_left_out(source: Path) -> None:
    first: IngestSummary = run_ingest([source], source / "store", modality="xray", workers=1)
    assert run_ingest([source], source / "store", modality="xray", workers=1).counts() == first.counts()


def test_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOUTVIEW_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    first = Pseudonyms.from_environment()
    file = tmp_path / "configuration" / "scoutview" / "key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Pseudonyms.from_environment() == first
    assert first.key("patient", "a") != first.key("study", "a") != first.key("study", "b")
    assert first.key("patient", "") == ""
    assert "secret" not in repr(first)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        Pseudonyms.from_environment()
