"""The page of an archive from hostile counts; histograms, thumbnails and sizes against figures made by hand."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from pages import Elements
from PIL import Image
from run_folders import ATTRIBUTE, HOSTILE

from scoutview.report import Sheet, Thumbnail, Tile, write_archive_page
from scoutview.report.histograms import histogram_panel, mark
from scoutview.report.thumbnails import thumbnail
from scoutview.report.wording import storage


def line(label: str, counts: list[int], below: int = 0, above: int = 0) -> dict[str, Any]:
    known = sum(counts) + below + above
    return {"label": label, "known": known, "median": 1.5, "below": below, "above": above, "counts": counts}


def histogram(edges: list[float], *lines: dict[str, Any], unknown: int = 0) -> dict[str, Any]:
    return {"name": "Pixel spacing", "unit": "mm", "what": "images", "unknown": unknown, "edges": edges, "lines": lines}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page on which every text of a store and its sources is hostile."""
    modality = {
        "images": 1234, "patients": 5, "series": 6, "shortest_side": 16, "longest_side": 512, "smallest_spacing": None,
        "largest_spacing": None, "without_spacing": 1234, "bytes_on_disk": 1_510_000, "bytes_decoded": 3_020_000,
        "exact_duplicates": 2, "intensity": {HOSTILE: {"images": 1234, "low": -1024.0, "high": 1500.5, "mean": 0.0}},
    }  # fmt: skip
    content = {
        "snapshot": HOSTILE,
        "totals": {"images": 1234, "patients": 5, "bytes_on_disk": 1_510_000, "files": 98},
        "modalities": {"xray": modality},
        "volumes": {},
        "flags": {HOSTILE: {"images": 3, "meaning": ATTRIBUTE}},
        "splits": {"xray": {"train": {"images": 1200, "patients": 4}, "test": {"images": 34, "patients": 1}}},
        "labels": {"values": {HOSTILE: {"xray": {ATTRIBUTE: 7}}}, "boxes": {HOSTILE: {"xray": 3}}},
        "duplicates": [{"example": HOSTILE, "modality": "xray", "images": 2, "patients": 2}],
        "leaks": {"patients": 1, "same_pixels": 1},
        "quarantine": {HOSTILE: {"files": 2, "example": ATTRIBUTE, "detail": HOSTILE, "fix": ATTRIBUTE}},
        "histograms": {"xray": [histogram([0.0, 1.0, 2.0], line(HOSTILE, [3, 4]))]},
        "common": {"xray": {"Vendor": {"values": {HOSTILE: 2, "": 1}, "other_values": 4, "other_images": 9}}},
    }
    tile = Tile((Thumbnail(thumbnail(np.eye(20)), ATTRIBUTE), Thumbnail("", ATTRIBUTE, HOSTILE)), (HOSTILE,))
    sheets = {"xray": Sheet([tile], (HOSTILE,))}
    path = tmp_path_factory.mktemp("page") / "page.html"
    examples = {HOSTILE: [(ATTRIBUTE, HOSTILE), ("\ud800", "")]}
    return write_archive_page(path, HOSTILE, content, sheets, examples, {HOSTILE: sheets["xray"]}).read_text("utf-8")


def test_hostile_text_is_inert(html: str) -> None:
    elements = Elements(html)
    assert elements.open == []
    assert HOSTILE not in html
    assert elements.text.count(HOSTILE) > 15
    assert "script" not in {tag for tag, _ in elements.found}
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_figures_are_written_out(html: str) -> None:
    text = Elements(html).text
    for words in (
        "1,234 images of 5 patients: 1,234 X-ray; 1.51\u00a0MB on disk, 3.02\u00a0MB once decoded.",
        "2 of 100 files (2.0%) were refused",
        "1 patient with images in more than one split",
        "1 of the images that this page shows is damaged",
        "1,200 of 4",
        "−1,024 to 1,500 " + HOSTILE,
        "9 images with 4 other values",
        "2.00%",
    ):
        assert words in text, words


def test_a_histogram_tells_what_it_draws() -> None:
    panel = histogram_panel(histogram([0.0, 0.5, 1.0, 1.5], line("", [3, 0, 1200], 2, 1), unknown=7), "ct", "a-")
    assert panel.title == "Pixel spacing, mm"
    assert panel.note == "Median 1.5 mm; 7 unknown; 3 values beyond this axis."
    assert "number of images. above 0 up to 0.5: 3; above 1 up to 1.5: 1,200" in panel.svg
    assert "var(--ct)" in panel.svg
    only = histogram_panel(histogram([], line("", [], 0, 0) | {"known": 9}), "ct", "b-")
    assert (only.note, only.svg) == ("All 9 images: 1.5 mm.", "")


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (1000.0, "1,000"), (-200.0, "−200"), (1e-7, "1e−07"), (250000.0, "250,000")]
)
def test_marks_of_an_axis(value: float, text: str) -> None:
    assert mark(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (3.9e12, "3.9 TB"),
        (None, "–"),
    ],
)
def test_bytes(value: Any, text: str) -> None:
    assert storage(value).replace("\u00a0", " ") == text


def test_thumbnails_keep_small_pictures_and_shrink_large_ones() -> None:
    def decoded(uri: str) -> tuple[str, np.ndarray]:
        kind, data = uri.removeprefix("data:image/").split(";base64,")
        return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))

    small = np.linspace(-0.1, 1.1, 40 * 96).reshape(40, 96)
    small[0, 0] = np.nan
    kind, pixels = decoded(thumbnail(small))
    assert kind == "png"
    np.testing.assert_array_equal(pixels, np.rint(np.clip(np.nan_to_num(small, nan=0.0), 0, 1).astype("f4") * 255))
    y, x = np.mgrid[0:512, 0:1024] / 1024
    kind, pixels = decoded(thumbnail((x + y) / 2))
    assert (kind, pixels.shape) == ("jpeg", (128, 256))
    assert np.abs(pixels / 255 - ((x + y) / 2)[2::4, 2::4]).max() < 0.03
