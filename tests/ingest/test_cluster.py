"""The engine on dask.distributed: a real cluster on localhost, killed workers, wrong addresses; what waits on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from source_files import picture, write_dicom, write_png

from scoutview.errors import RunError, UsageError
from scoutview.ingest import cluster, run_ingest, spool
from scoutview.ingest.files import SourceFile
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import ReadJobs
from scoutview.ingest.rules import STRICT
from scoutview.ingest.series import Job
from scoutview.store import Store, check_store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number in range(30):
        write_png(folder / f"{number:02d}.png", picture(seed=number))
    write_dicom(folder / "film.dcm", picture(seed=50), "DX")
    (folder / "notes.txt").write_text("text")
    return folder


def test_a_cluster_gives_the_same_store(source: Path, tmp_path: Path) -> None:
    here = run_ingest([source], tmp_path / "here", modality="xray", workers=1)
    there = run_ingest([source], tmp_path / "there", modality="xray", workers=2, cluster="local")
    assert here.counts() == there.counts()
    assert Store.open(tmp_path / "here").snapshot() == Store.open(tmp_path / "there").snapshot()


def work_or_die(files: list[SourceFile]) -> list[Outcome]:
    """A decoder that takes its process down for one file, and an operator who kills a worker once for another."""
    for file in files:
        if file.relative.name == "03":
            os._exit(9)
        if file.relative.name == "06" and not file.path.exists():
            file.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return [Outcome(file, "stamp") for file in files]


def killed(file: SourceFile) -> Outcome:
    return Outcome(file, "stamp", reason="killed_the_reader")


def test_files_that_kill_workers_of_a_cluster(tmp_path: Path) -> None:
    files = [SourceFile(tmp_path / f"{number:02d}", Path(f"{number:02d}")) for number in range(10)]
    with cluster.on_cluster("local", 2, []) as spread:
        results = list(spread(files, work_or_die, killed, 2))
        assert list(spread([], work_or_die, killed, 2)) == []
    assert [result.file for result in results] == files
    assert [result.file.relative.name for result in results if result.reason] == ["03"]


def test_a_running_scheduler_and_its_workers(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2)
    with pytest.raises(UsageError, match="no scheduler answers"):
        run_ingest([source], tmp_path / "none", modality="xray", cluster="tcp://127.0.0.1:9")
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard",
               "--host", "127.0.0.1", "--scheduler-file", str(tmp_path / "scheduler.json")]  # fmt: skip
    scheduler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    worker = None
    try:
        address = address_in(tmp_path / "scheduler.json")
        with pytest.raises(UsageError, match="has no worker yet"):
            run_ingest([source], tmp_path / "none", modality="xray", cluster=address)
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
             "--host", "127.0.0.1", "--local-directory", str(tmp_path / "worker")], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_worker(address)
        with (
            pytest.raises(UsageError, match="does not see /nowhere: mount it"),
            cluster.on_cluster(address, 0, [Path("/nowhere")]),
        ):
            pass
        summary = run_ingest([source], tmp_path / "store", modality="xray", cluster=address)
        assert (summary.taken, summary.quarantined) == (31, 1)
        assert check_store(Store.open(tmp_path / "store"))[1] == []
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait()


def address_in(file: Path) -> str:
    for _ in range(200):
        if file.exists() and file.read_text().strip():
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)
    raise TimeoutError("the scheduler did not start")


def wait_for_worker(address: str) -> None:
    with Client(address) as client:
        client.wait_for_workers(1, timeout=60)


def test_large_files_wait_on_the_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a budget of nearly nothing every codestream but the first of a task goes through a file."""
    frames = np.stack([picture(seed=number) for number in range(9)])
    write_dicom(
        tmp_path / "film.dcm", frames[0], "US", NumberOfFrames=9, PixelData=frames.tobytes(), SOPInstanceUID="1.2.3"
    )
    expected = run_ingest([source, tmp_path / "film.dcm"], tmp_path / "expected", modality="xray", workers=1)
    monkeypatch.setattr(spool, "IN_MEMORY", 2000)
    summary = run_ingest([source, tmp_path / "film.dcm"], tmp_path / "store", modality="xray", workers=1)
    assert summary.counts() == expected.counts()
    assert Store.open(tmp_path / "store").snapshot() == Store.open(tmp_path / "expected").snapshot()
    assert not (tmp_path / "store" / ".scratch").exists()


def test_a_folder_where_nothing_can_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 0)
    (tmp_path / "file").touch()
    path = write_png(tmp_path / "a.png", picture())
    read = ReadJobs("xray", Pseudonyms(b"secret"), STRICT, tmp_path / "file" / "scratch")
    with pytest.raises(RunError, match="cannot write to"):
        read([Job(SourceFile(path, Path("a.png")))])
