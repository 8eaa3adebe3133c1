"""PadChest (Bustos et al. 2020, Hospital San Juan): lists of findings per image, by physicians and by a network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry
from scoutview.ingest.layouts.tables import TableRow, first_of, most_frequent, read_table, required

FILES = "PADCHEST_chest_x_ray_images_labels*.csv*"
NOT_READ = ("exclude", "suboptimal study")
"""Images with these were not read for findings: what is not listed is unknown."""
NOT_FINDINGS = ("normal", "unchanged", *NOT_READ)


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = first_of(folder, FILES)
    return f"it holds {path.name}" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels: the 40 most frequent findings and "normal", "1" when listed, else "0"; view; label_method.

    label_method is Physician or RNN_model: 27% were read by physicians, the others mined from the report.
    An image whose list is missing has no labels; one that is "exclude" or "suboptimal study" no zeros.
    """
    path = required(folder, FILES)
    needed = ("ImageID", "PatientID", "Labels")
    names = most_frequent(
        name for row in read_table(path, needed) for name in _listed(row) or () if name not in NOT_FINDINGS
    )
    for row in read_table(path, needed):
        listed = _listed(row)
        labels = {"view": row.get("Projection"), "label_method": row.get("MethodLabel")}
        if listed is not None:
            read_for_findings = not any(name in NOT_READ for name in listed)
            for name in ("normal", *names):
                labels[name] = "1" if name in listed else "0" if read_for_findings else ""
        yield Entry(
            row.where,
            (row["ImageID"],),
            patient=row["PatientID"],
            labels={name: value for name, value in labels.items() if value},
        )


def _listed(row: TableRow) -> list[str] | None:
    """The findings of a cell that is a list in Python's notation, with blanks inside; None where it says nothing."""
    text = row["Labels"]
    if text in ("", "nan"):
        return None
    try:
        names = ast.literal_eval(text)
        return [str(name).strip().lower() for name in names if str(name).strip()]
    except (ValueError, SyntaxError, TypeError) as error:
        raise UsageError(f"{row.where}: Labels {text[:40]!r} is no list: restore the original file") from error
