"""OpenI, the Indiana University chest films (Demner-Fushman et al. 2016): one XML report, MeSH codes, its images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry
from scoutview.ingest.layouts.tables import most_frequent, read_xml

NOT_CODED = ("no indexing", "technical quality of image unsatisfactory")


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    return "it holds ecgen-radiology/" if any((folder / "ecgen-radiology").glob("*.xml")) else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels of a report for each of its images: the 40 most frequent manual MeSH codes ("Cardiomegaly/mild" is
    "Cardiomegaly") and "normal", "1" when coded, else "0"; none where the report was not coded.

    The automatic codes are left out. A report is one patient: the set does not say more.
    """
    files = sorted((folder / "ecgen-radiology").glob("*.xml"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise UsageError(f"{folder} has no ecgen-radiology/*.xml: give the folder that holds the reports")
    reports = [(path, *_report(read_xml(path))) for path in files]
    names = most_frequent(
        code for _, _, codes, _ in reports for code in codes if code.lower() not in ("normal", *NOT_CODED)
    )
    for path, report, codes, images in reports:
        coded = codes and not any(code.lower() in NOT_CODED for code in codes)
        labels = {name: str(int(name in codes)) for name in (*names, "normal")} if coded else {}
        for image in images:
            # The DICOM files of the set are named without the number of the report.
            yield Entry(path.name, (image, re.sub(r"^CXR\d+_", "", image)), patient=report, labels=labels)


def _report(root: Element) -> tuple[str, set[str], list[str]]:
    """(report, codes, images)."""
    identity = root.find("uId")
    codes = {(code.text or "").split("/")[0].strip() for code in root.findall("MeSH/major")} - {""}
    images = [image.get("id", "") for image in root.findall("parentImage")]
    return identity.get("id", "") if identity is not None else "", codes, [image for image in images if image]
