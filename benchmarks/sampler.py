"""A catalog of 105 million images: start-up, memory, resume, plans, counts; the same batches on any number of ranks.

The catalog is synthetic (72% CT, 25% MR, 1.2% X-ray, the rest ultrasound, a file per shard of 256 MB), without shards.
Keys of files and hashes of pixels, which nothing here reads, are constant. About 25 GB and an hour on one core;
--images makes it smaller. With --folder the catalog stays there, and another run measures it again. --plans measures
nothing but the plans, in half a minute: of as many images, whose splits and series are made in memory.

Run: python benchmarks/sampler.py [--images 105000000] [--folder FOLDER] [--plans]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scoutview.batches import Archive, BatchPlan, Selection
from scoutview.batches.selection import Joined
from scoutview.files import write_json
from scoutview.store import ImageRow, Store, open_index
from scoutview.store.catalog import SCHEMA

SHARE = {"ct": 0.72, "mr": 0.25, "xray": 0.012, "us": 0.018}
PER_SHARD = {"ct": 1560, "mr": 3000, "xray": 77, "us": 2300}
PER_SERIES = {"ct": 250, "mr": 120, "xray": 2, "us": 8}
NBYTES = {"ct": 164_000, "mr": 84_000, "xray": 3_300_000, "us": 110_000}
SHAPE = {"ct": (512, 512), "mr": (384, 384), "xray": (2500, 2000), "us": (600, 800)}
TRAINED = ("train", "validation")
BATCH = 960
RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
NODE_RANKS = 8
HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)

COUNTS = """
SELECT modality, split, count(*) AS images, min(least("rows", "columns")) AS shortest_side,
       max(greatest("rows", "columns")) AS longest_side, min(row_spacing), max(row_spacing),
       count(*) - count(row_spacing) AS without_spacing, sum(nbytes) AS bytes
FROM catalog GROUP BY ALL ORDER BY ALL
"""
DISTINCT = "SELECT modality, count(DISTINCT patient), count(DISTINCT series) FROM catalog GROUP BY ALL"


def keys(generator: np.random.Generator, count: int) -> pa.Array:
    """Random keys of 32 hex digits."""
    drawn = generator.integers(0, 256, (count, 16), dtype=np.uint8)
    digits = np.stack([HEX[drawn >> 4], HEX[drawn & 15]], axis=2)
    offsets = pa.py_buffer(np.arange(0, 32 * count + 1, 32, dtype=np.int32))
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(digits.tobytes()))


def shard_table(generator: np.random.Generator, modality: str, name: str, count: int) -> pa.Table:
    """Catalog rows of one shard."""
    lengths = generator.integers(1, 2 * PER_SERIES[modality], count)
    last = int(np.searchsorted(np.cumsum(lengths), count)) + 1
    of_series = pa.array(np.repeat(np.arange(last), lengths[:last])[:count])
    nbytes = generator.integers(NBYTES[modality] // 2, NBYTES[modality] * 3 // 2, count)
    starts = np.cumsum(nbytes + 1536) - nbytes
    # A patient has all of these series; splits follow the patient.
    split = ["train", "validation", "test"][int(np.searchsorted([0.7, 0.8], generator.random()))]
    columns: dict[str, Any] = {
        "image": keys(generator, count),
        "series": keys(generator, last).take(of_series),
        "patient": keys(generator, 1).take(pa.array(np.zeros(count, dtype=np.int64))),
        "offset_in_shard": starts,
        "spectrum_offset": starts - 1024,
        "nbytes": nbytes,
        "prefix_nbytes_2": nbytes // 3,
        "prefix_nbytes_4": nbytes // 10,
        "prefix_nbytes_8": nbytes // 30,
        "slice_index": np.arange(count),
    }
    for column in ("crc32", "prefix_crc32_2", "prefix_crc32_4", "prefix_crc32_8", "spectrum_crc32"):
        columns[column] = generator.integers(0, 2**32, count)
    constant = {
        "modality": modality,
        "shard": f"{name}.tar",
        "rows": SHAPE[modality][0],
        "columns": SHAPE[modality][1],
        "split": split,
        "units": "HU" if modality == "ct" else "",
        "spectrum_nbytes": 200,
        "spectrum_preprocessing": "00000000",
        "row_spacing": 0.5,
        "column_spacing": 0.5,
        "low": 0.0,
        "high": 1000.0,
        "pixel_sha256": "0" * 64,
    }
    blank = {pa.string(): "", pa.int64(): 0, pa.float64(): 1.0, pa.bool_(): False}
    arrays = []
    for field in fields(ImageRow):
        kind = SCHEMA.field(field.name).type
        if field.name in columns:
            arrays.append(pa.array(columns[field.name]).cast(kind))
        else:
            default = field.default if field.default is not MISSING else blank[kind]
            arrays.append(pa.repeat(pa.scalar(constant.get(field.name, default), kind), count))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def make_catalog(store: Path, images: int) -> None:
    """Write store.json and a catalog file per shard."""
    if (store / "store.json").exists():
        return
    generator = np.random.default_rng(0)
    for modality, share in SHARE.items():
        (store / "catalog" / modality).mkdir(parents=True, exist_ok=True)
        left = round(images * share)
        while left > 0:
            count = min(left, PER_SHARD[modality])
            name = generator.bytes(16).hex()
            table = shard_table(generator, modality, name, count)
            pq.write_table(table, store / "catalog" / modality / f"{name}.parquet", compression="zstd")
            left -= count
    write_json(store / "store.json", {"version": 1, "salt_id": "synthetic", "reference_energies": {}})


def merge_and_empty(store: Path) -> None:
    """Merge the catalog, then empty the files that were merged: nothing reads them again, and it halves the disk."""
    Store.open(store).merged_catalog()
    for file in Store.open(store).catalog_files():
        os.truncate(file, 0)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def private_bytes() -> int:
    """Memory of this process that is not page cache."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def plan_of(store: Path, rank_count: int = 1) -> BatchPlan:
    """What a rank does before its first step."""
    return BatchPlan.make(Archive.open([store]).select(TRAINED), BATCH, 0, rank_count)


def rank_of_a_node(store: Path, rank: int, results: Any) -> None:
    """Start as one of 8 ranks; put start-up time and memory before and after."""
    before = private_bytes()
    took, plan = seconds(lambda: plan_of(store, NODE_RANKS))
    for step in range(64):
        plan.batch(step, rank, NODE_RANKS)
    results.put((took, before, private_bytes()))


def measure_node(store: Path) -> tuple[float, float, float]:
    """(slowest start-up in s, GB of all ranks together, GB of them that archive and plan take)."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=rank_of_a_node, args=(store, rank, results)) for rank in range(NODE_RANKS)]
    for process in ranks:
        process.start()
    found = np.array([results.get() for _ in ranks])
    for process in ranks:
        process.join()
    return found[:, 0].max(), found[:, 2].sum() / 1e9, (found[:, 2] - found[:, 1]).sum() / 1e9


def joined(plans: list[BatchPlan], step: int) -> list[int]:
    """The global batch, put together from the parts of all ranks, in the order of its positions."""
    ranks = len(plans)
    draws = [draw for rank, plan in enumerate(plans) for draw in plan.batch(step, rank, ranks)]
    return [draw.index for draw in sorted(draws, key=lambda draw: draw.position)]


def exact_on_ranks(plan: BatchPlan, steps: list[int]) -> Iterator[bool]:
    """Whether runs that change their number of ranks at random steps see the batches of one rank."""
    generator = np.random.default_rng(1)
    for ranks in RANKS:
        for step in steps:
            other = int(generator.choice(RANKS))
            yield joined(fresh(plan, ranks), step) == [draw.index for draw in plan.batch(step)]
            yield joined(fresh(plan, other), step + 1) == [draw.index for draw in plan.batch(step + 1)]


def fresh(plan: BatchPlan, ranks: int) -> list[BatchPlan]:
    """The plan as each rank makes it after a restart: nothing is remembered."""
    selections = {name: lanes.selection for name, lanes in zip(plan.modalities, plan.lanes, strict=True)}
    return [BatchPlan.make(selections, BATCH, 0, ranks) for _ in range(ranks)]


def resume(plan: BatchPlan, step: int) -> None:
    """The first batch of a rank after a restart."""
    fresh(plan, 8)[0].batch(step, 0, 8)


def once_per_epoch(plan: BatchPlan, modality: str) -> bool:
    """Whether the first epoch of a modality shows each of its images once."""
    lanes = plan.lanes[plan.modalities.index(modality)]
    count = len(lanes.selection)
    shown: npt.NDArray[np.int64] = np.concatenate(
        [lanes.at([step], 0, lanes.share)[0] for step in range(-(-count // lanes.share))]
    )
    return bool(np.array_equal(np.sort(shown[:count]), lanes.selection.indices(0, count)))


def plan_times(plan: BatchPlan, ranks: int, first: int = 1000) -> list[float]:
    """Seconds of each of 512 plans of a rank, one after the other; what the first one costs is the resume."""
    plan.batch(first - 1, 0, ranks)
    return [seconds(partial(plan.batch, step, 0, ranks))[0] for step in range(first, first + 512)]


def plan_figures(plan: BatchPlan) -> dict[str, Any]:
    """How long plans take; in some of the later steps all lanes of CT and of MR begin their second window."""
    times = {ranks: np.array(plan_times(plan, ranks)) * 1e3 for ranks in (1, 8)}
    later = {ranks: np.array(plan_times(plan, ranks, 7900)) * 1e3 for ranks in (1, 8)}
    objects = np.array([seconds(partial(list, plan.batch(step)))[0] for step in range(100)]) * 1e3
    return {
        "plan of a rank's batch of 120, mean, ms": (times[8].mean(), "<= 1"),
        "plan of a rank's batch of 120, slowest, ms": (times[8].max(), "no bar"),
        "plan of the global batch of 960, mean, ms": (times[1].mean(), "<= 1"),
        "plan of the global batch of 960, slowest, ms": (times[1].max(), "no bar"),
        "the four at steps 7,900 to 8,411, ms": (
            [float(f"{value:.3g}") for ranks in (8, 1) for value in (later[ranks].mean(), later[ranks].max())],
            "no bar",
        ),
        "960 draws as objects, which loader processes make of their parts, ms": (objects.mean(), "no bar"),
    }


def plan_in_memory(images: int) -> BatchPlan:
    """The plan of a catalog that was never written, with the splits and series of `make_catalog`."""
    generator = np.random.default_rng(0)
    selections, first = {}, 0
    for modality, share in SHARE.items():
        count = round(images * share)
        lengths = generator.integers(1, 2 * PER_SERIES[modality], 2 * count // PER_SERIES[modality] + 1)
        series = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)[:count]
        chosen = generator.random(count // PER_SHARD[modality] + 1) < 0.8
        flags = chosen.repeat(PER_SHARD[modality])[:count]
        selections[modality] = Selection.of(flags, Joined.of([series], [0]), first)
        first += count
    return BatchPlan.make(selections, BATCH, 0)


def report(figures: dict[str, Any]) -> None:
    """A line per figure."""
    for name, (value, bar) in figures.items():
        shown = value if isinstance(value, list) else f"{value:.3g}"
        print(f"{name}: {shown} (bar: {bar})")


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=105_000_000)
    parser.add_argument("--folder", type=Path, help="keep the catalog here")
    parser.add_argument("--plans", action="store_true", help="measure plans of images in memory alone")
    arguments = parser.parse_args()
    if arguments.plans:
        report(plan_figures(plan_in_memory(arguments.images)))
        return
    store = (arguments.folder or Path(tempfile.mkdtemp())) / "store"
    figures: dict[str, Any] = {}
    try:
        made, _ = seconds(lambda: make_catalog(store, arguments.images))
        merging, _ = seconds(lambda: merge_and_empty(store))
        built, index = seconds(lambda: open_index(Store.open(store)))
        print(f"{len(index)} images in {len(index.shards)} shards; catalog written in {made:.0f} s", flush=True)
        merged = Store.open(store).merged_catalog()
        assert merged is not None
        print(f"merged catalog and index, once: {merging + built:.0f} s, {merged.stat().st_size / 1e9:.1f} GB and "
              f"{sum(file.stat().st_size for file in index.folder.iterdir()) / 1e9:.1f} GB", flush=True)  # fmt: skip
        slowest, total, added = measure_node(store)
        alone, plan = seconds(lambda: plan_of(store))
        generator = np.random.default_rng(0)
        steps = generator.integers(0, 500_000, 4).tolist()
        resumes = [seconds(partial(resume, plan, step))[0] for step in steps]
        plans = plan_figures(plan)
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW catalog AS SELECT * FROM read_parquet('{merged}')")
            counts = seconds(lambda: connection.execute(COUNTS).fetchall())[0]
            distinct = seconds(lambda: connection.execute(DISTINCT).fetchall())[0]
        exact = list(exact_on_ranks(plan, steps))
        figures = {
            "start-up of one rank, s": (alone, "<= 20"),
            f"start-up of {NODE_RANKS} ranks on {len(os.sched_getaffinity(0))} core(s), slowest, s": (slowest, "<= 20"),
            f"private memory of {NODE_RANKS} ranks, imports of torch included, GB": (total, "<= 3"),
            "of it archive and plan, GB": (added, "<= 3"),
            "resume at a random step, slowest, s": (max(resumes), "<= 1"),
            **plans,
            "counts by modality and split, s": (counts, "<= 10"),
            "distinct patients and series, s": (distinct, "no bar"),
            f"global batches that are the same on {', '.join(map(str, RANKS))} ranks": (float(np.mean(exact)), ">= 1"),
            "radiographs shown once in an epoch": (float(once_per_epoch(plan, "xray")), ">= 1"),
        }
    finally:
        if not arguments.folder:
            shutil.rmtree(store.parent, ignore_errors=True)
    print(json.dumps({"batches compared": len(exact)}))
    report(figures)


if __name__ == "__main__":
    main()
