"""The same tasks on the workers of dask.distributed: of a running cluster, or one that is started on this machine."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoutview.errors import RunError, UsageError
from scoutview.ingest.pool import Item, Result, Spread, available_cores, chunks_of
from scoutview.store.catalog import INGEST_VERSION

LOCAL = "local"
CONNECT_SECONDS = 20
LOOK_SECONDS = 5
"""Between looks at whether the workers are still there, while a result is waited for."""
WITHOUT_WORKERS_SECONDS = 900
"""How long an ingest waits for a cluster to get workers again, as Kubernetes gives them after a node was lost."""


@contextmanager
def on_cluster(address: str, workers: int, folders: Sequence[Path]) -> Iterator[Spread]:
    """Spread tasks over the workers of the scheduler at `address`, or of a cluster of `workers` processes here.

    folders: what every worker must see under the same path.

    Raises:
        UsageError: dask.distributed is not installed, there is no scheduler or worker, or the workers differ.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UsageError("--cluster needs dask.distributed: pip install 'scoutview[cluster]'") from error
    if address == LOCAL:
        number = workers or available_cores()
        with (
            _quiet(),
            dask.config.set({"distributed.scheduler.allowed-failures": 1}),
            LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
            Client(cluster, direct_to_workers=True) as client,
        ):
            # A worker that is killed while it starts is given up; scaling to the same number starts another.
            yield _Workers(client, lambda: cluster.scale(number))
        return
    try:
        client = Client(address, direct_to_workers=True, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"no scheduler answers at {address} ({type(error).__name__}): give tcp://host:8786 as the scheduler "
            "prints it, or --cluster local"
        ) from error
    with client:
        _check(client, folders)
        yield _Workers(client, lambda: None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without dask's own lines about workers that were killed: what follows from that is said by ingest."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check(client: Any, folders: Sequence[Path]) -> None:
    found = client.run(_version_and_missing, [str(folder) for folder in folders], on_error="return")
    if not found:
        raise UsageError("the cluster has no worker yet: start some, then run the command again")
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise UsageError(f"worker {worker} cannot import scoutview ({answer}): install the same version there")
        version, missing = answer
        if version != INGEST_VERSION:
            raise UsageError(f"worker {worker} has another version of scoutview: install the same one there")
        if missing:
            raise UsageError(f"worker {worker} does not see {missing[0]}: mount it there under the same path")


def _version_and_missing(folders: list[str]) -> tuple[int, list[str]]:
    from scoutview.store.catalog import INGEST_VERSION

    return INGEST_VERSION, [folder for folder in folders if not Path(folder).exists()]


class _Workers:
    """See `Spread`. Dask itself gives the tasks of a dead worker to another one, three times."""

    def __init__(self, client: Any, refill: Callable[[], None]) -> None:
        self.client = client
        self.refill = refill

    def __call__(
        self,
        items: Sequence[Item],
        work: Callable[[list[Item]], list[Result]],
        died: Callable[[Item], Result],
        chunk: int,
    ) -> Iterator[Result]:
        """See `Spread`.

        Raises:
            RunError: the cluster goes away.
        """
        from distributed import KilledWorker

        waiting = chunks_of(items, chunk)
        under_way: deque[tuple[list[Item], Any]] = deque()
        try:
            while waiting or under_way:
                while waiting and len(under_way) < 2 * max(1, len(self.client.nthreads())):
                    task = waiting.popleft()
                    under_way.append((task, self._submit(work, task)))
                task, future = under_way.popleft()
                try:
                    results = self._result(future)
                except KilledWorker:
                    for item in task:
                        yield from self._alone(item, work, died)
                    continue
                yield from results
        finally:
            for _, future in under_way:
                future.cancel()

    def _submit(self, work: Callable[[list[Item]], list[Result]], task: list[Item]) -> Any:
        return self.client.submit(work, task, pure=False)

    def _alone(
        self, item: Item, work: Callable[[list[Item]], list[Result]], died: Callable[[Item], Result]
    ) -> list[Result]:
        from distributed import KilledWorker

        try:
            return self._result(self._submit(work, [item]))
        except KilledWorker:
            return [died(item)]

    def _result(self, future: Any) -> list[Any]:
        alone = 0.0
        try:
            while True:
                try:
                    results: list[Any] = future.result(timeout=LOOK_SECONDS)
                    return results
                except TimeoutError:
                    self.refill()
                    alone = 0.0 if self.client.nthreads() else alone + LOOK_SECONDS
                    if alone > WITHOUT_WORKERS_SECONDS:
                        raise CancelledError("no worker is left") from None
        except (CancelledError, OSError) as error:
            raise RunError(
                f"the cluster is gone ({type(error).__name__} {error}): start it and run the same command again; what "
                "was committed is kept"
            ) from error
        finally:
            future.release()
