"""`scoutview inspect`: what a store holds, and what it does not."""

from __future__ import annotations

import os
from json import dumps
from pathlib import Path
from typing import Any

import duckdb

from scoutview.commands.inspect_tables import print_tables
from scoutview.commands.refused_pictures import refused_examples, refused_sheets
from scoutview.commands.store_counts import counts_of
from scoutview.commands.store_findings import near_in, privacy_of
from scoutview.commands.store_histograms import common_values, files_taken, histograms_of
from scoutview.commands.store_samples import sample_sheet
from scoutview.commands.store_tables import tables_of
from scoutview.errors import RunError, UsageError
from scoutview.files import finite
from scoutview.report import write_archive_page
from scoutview.store import Store


def inspect(
    store: Path,
    *,
    html: Path | None = None,
    near: bool = False,
    privacy: list[str] | None = None,
    json: bool = False,
) -> dict[str, Any]:
    """Show what a store holds: images, volumes, sizes, splits, labels, duplicates, leaks, quarantine.

    Args:
        store: Folder of the store.
        html: File for a page of it: the same with histograms, and sample pictures by modality and of refused files.
        near: Look for images that look alike, too, and say which of them lie in different splits.
        privacy: Source files and folders: look for every text of their DICOM headers in every file of the store.
        json: End with one line of JSON for programs.

    Returns:
        The numbers of the tables, and of the page.

    Raises:
        UsageError: The folder is no store, or one of another version, or the page would replace a folder.
        RunError: A table of the store is damaged, the store holds a header value, or the page cannot be written.
    """
    opened = Store.open(store)
    if html and html.is_dir():
        raise UsageError(f"{html} is a folder: give a file for the page, such as {html / 'inspect.html'}")
    with tables_of(opened) as connection:
        content: dict[str, Any] = {"snapshot": opened.snapshot(), **counts_of(connection)}
        if near:
            content["leaks"].update(near_in(opened))
        if html:
            content["totals"]["files"] = files_taken(connection)
            content["histograms"] = histograms_of(connection)
            content["common"] = common_values(connection)
            _write_page(opened, connection, content, html)
    if privacy is not None:
        content["privacy"] = privacy_of(store, [Path(source) for source in privacy])
    print_tables(content, store)
    if html:
        print(f"page: {html}")
    if json:
        print(dumps(finite(content), allow_nan=False), flush=True)
    if content.get("privacy", {}).get("findings"):
        found = content["privacy"]["findings"]
        raise RunError(
            f"{store} holds {len(found)} values of source headers (first: {found[0]['element']} in {found[0]['file']}):"
            " do not share it; quarantine.parquet lists source paths, and may be removed when its files are settled"
        )
    return content


def _write_page(store: Store, connection: duckdb.DuckDBPyConnection, content: dict[str, Any], html: Path) -> None:
    sheets = {name: sample_sheet(store, connection, name) for name in content["modalities"]}
    examples = refused_examples(connection)
    refused = refused_sheets(examples)
    try:
        write_archive_page(html, store.path.resolve().name, content, sheets, examples, refused)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunError(f"cannot write {html} ({reason}): give another file, or free space") from error
