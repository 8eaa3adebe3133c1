"""What `scoutview inspect` counts in SQL is what a loop over all rows counts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_store import random_store
from recount import recount
from samples import make_store

from scoutview.commands.inspect import inspect
from scoutview.commands.store_counts import counts_of
from scoutview.commands.store_histograms import common_values, edges_between, files_taken, histograms_of
from scoutview.commands.store_tables import tables_of
from scoutview.errors import RunError
from scoutview.store import Store, StoreWriter


@pytest.fixture(scope="module", params=range(2))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return random_store(tmp_path_factory.mktemp("counted") / "store", images=72, seed=request.param)


def test_counts_are_those_of_a_loop(store: Store) -> None:
    with tables_of(store) as connection:
        content = counts_of(connection)
    expected = recount(store)
    for name, row in content["modalities"].items():
        for units, part in row["intensity"].items():
            assert part.pop("mean") == pytest.approx(expected["modalities"][name]["intensity"][units].pop("mean"))
    for key, value in expected.items():
        assert content[key] == value, key


def test_the_largest_groups_of_copies(store: Store) -> None:
    groups = Counter((row.pixel_sha256, row.modality) for row in store.rows())
    expected = sorted((-number, digest) for (digest, _), number in groups.items() if number > 1)[:20]
    with tables_of(store) as connection:
        found = counts_of(connection)["duplicates"]
    assert [(-row["images"], row["pixel_sha256"]) for row in found] == expected
    for row in found:
        mine = [r for r in store.rows() if (r.pixel_sha256, r.modality) == (row["pixel_sha256"], row["modality"])]
        assert (row["example"], row["patients"]) == (min(r.image for r in mine), len({r.patient for r in mine}))


def test_the_quarantine_by_reason(store: Store) -> None:
    with tables_of(store) as connection:
        found = counts_of(connection)["quarantine"]
    entries = sorted(store.quarantined(), key=lambda entry: (entry["reason"], entry["path"]))
    assert {reason: row["files"] for reason, row in found.items()} == Counter(entry["reason"] for entry in entries)
    for reason, row in found.items():
        first = next(entry for entry in entries if entry["reason"] == reason)
        assert (row["example"], row["detail"]) == (first["path"], first["detail"])
    assert found["no_decoder:1.2.3"]["fix"].startswith("decompress it")


def values_of(store: Store, modality: str, name: str, units: str) -> dict[str, list[Any]]:
    """label of a line -> every value, None where it is not known."""
    rows = [row for row in store.rows() if row.modality == modality]
    stacks: dict[str, list[Any]] = {}
    for row in rows:
        if row.stack:
            stacks.setdefault(row.stack, []).append(row)
    firsts = [min(mine, key=lambda row: row.slice_index) for mine in stacks.values()]
    mine = [row for row in rows if row.units == units]
    return {
        "Longest side": {"": [max(row.rows, row.columns) for row in rows]},
        "Pixel spacing": {"": [row.row_spacing for row in rows]},
        "Slices per volume": {"": [len(slices) for slices in stacks.values()]},
        "Slice spacing": {"": [row.slice_spacing for row in firsts]},
        "Intensity": {
            "0.5% percentile": [row.low * row.slope + row.offset for row in mine],
            "mean": [row.mean * row.slope + row.offset for row in mine],
            "99.5% percentile": [row.high * row.slope + row.offset for row in mine],
        },
    }[name]


def test_histograms_are_those_of_a_loop(store: Store) -> None:
    with tables_of(store) as connection:
        counts_of(connection)
        found = histograms_of(connection)
    seen = Counter(histogram["name"] for histograms in found.values() for histogram in histograms)
    assert seen["Intensity"] >= 5
    assert set(seen) == {"Longest side", "Pixel spacing", "Slices per volume", "Slice spacing", "Intensity"}
    for modality, histograms in found.items():
        for histogram in histograms:
            edges = histogram["edges"]
            units = histogram["unit"] if histogram["name"] == "Intensity" else ""
            values = values_of(store, modality, histogram["name"], units)
            assert [line["label"] for line in histogram["lines"]] == list(values)
            for line, every in zip(histogram["lines"], values.values(), strict=True):
                known = sorted(value for value in every if value is not None)
                assert (line["known"], histogram["unknown"]) == (len(known), len(every) - len(known))
                assert line["median"] == known[(len(known) + 1) // 2 - 1]
                bins = Counter(bisect_left(edges, value) for value in known)
                if edges:
                    assert line["counts"] == [bins[place] for place in range(1, len(edges))]
                    assert (line["below"], line["above"]) == (bins[0], bins[len(edges)])
                else:
                    assert known[0] == known[-1]


def test_common_values_and_files(store: Store) -> None:
    with tables_of(store) as connection:
        found, files = common_values(connection), files_taken(connection)
    rows = store.rows()
    assert files == len({row.file_key for row in rows})
    for modality, titles in found.items():
        mine = [row for row in rows if row.modality == modality]
        assert titles["Vendor"]["values"] == Counter(row.manufacturer for row in mine)
        assert titles["Rows × columns"]["values"] == Counter(f"{row.rows} × {row.columns}" for row in mine)
        assert list(titles["Body part"]["values"].values()) == sorted(
            Counter(row.body_part for row in mine).values(), reverse=True
        )


def test_what_is_rare_is_summed_up(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=20)
    with tables_of(store) as connection:
        connection.execute("CREATE OR REPLACE TEMP TABLE catalog_2 AS SELECT * FROM catalog")
        connection.unregister("catalog")
        connection.execute("CREATE TEMP VIEW catalog AS SELECT * REPLACE (right(image, 2) AS body_part) FROM catalog_2")
        entry = common_values(connection)["ct"]["Body part"]
    assert entry["values"] == {f"{number:02d}": 1 for number in range(8)}
    assert (entry["other_values"], entry["other_images"]) == (12, 12)


@pytest.mark.parametrize(
    ("low", "middle", "high", "whole"),
    [
        (0.3, 0.5, 0.9, False), (16, 256, 512, False), (4, 14, 14, True), (-1024, -600, 1632, False),
        (0, 83, 255, False), (28, 512, 4000, False), (0, 450, 4e5, False), (0, 0, 1e5, False),
        (1e-7, 2e-7, 3e-7, False), (-5e4, 0, 7, False), (1, 2, 3, True), (1, 3, 1e12, True), (0.0, 1e-9, 1.0, False),
    ],
)  # fmt: skip
def test_edges_hold_the_values_and_are_round(low: float, middle: float, high: float, whole: bool) -> None:
    edges = edges_between(low, middle, high, whole)
    assert edges[0] < low
    assert edges[-1] >= high
    assert 2 <= len(edges) <= 34
    assert (np.diff(edges) > 0).all()
    assert all(float(f"{edge:.3g}") == pytest.approx(edge, rel=1e-12) or len(f"{edge:g}") <= 6 for edge in edges)
    if whole:
        assert all(edge == int(edge) for edge in edges) or high / low >= 30


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StoreWriter(tmp_path / "store", "test-salt"):
        pass
    content = inspect(tmp_path / "store", html=tmp_path / "page.html")
    assert content["totals"] == {"images": 0, "patients": 0, "bytes_on_disk": 0, "files": 0}
    assert "holds no image yet" in capsys.readouterr().out
    assert "The store holds no image yet." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_damaged_derived_table_is_made_again_and_never_gives_another_number(tmp_path: Path) -> None:
    store = random_store(tmp_path / "store", images=40)
    merged = store.merged_catalog()
    assert merged is not None
    whole = merged.read_bytes()
    with tables_of(store) as connection:
        right = counts_of(connection)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(whole), 16).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        merged.write_bytes(damaged)
        with tables_of(store) as connection:
            found = counts_of(connection)
        for row in (*found["modalities"].values(), *right["modalities"].values()):
            for part in row["intensity"].values():
                part["mean"] = pytest.approx(part["mean"])
        assert found == right
        assert merged.read_bytes() == whole


@pytest.mark.parametrize("name", ["annotations", "quarantine"])
def test_damage_of_what_is_not_derived_names_its_file(tmp_path: Path, name: str) -> None:
    store = random_store(tmp_path / "store", images=20)
    file = sorted([*store.path.glob(f"{name}/*.parquet"), *store.path.glob(f"{name}.parquet")])[0]
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunError, match=f"{file.name} is damaged"):
        inspect(store.path)
