"""The page of `scoutview inspect`: true figures and pictures, inert text, nothing fetched, nobody named."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest.source_files import SECONDARY_CAPTURE, picture, write_dicom, write_png
from pages import SWITCHES, Elements
from PIL import Image

from scoutview.batches import Archive, read_unit_image
from scoutview.commands.inspect import inspect
from scoutview.commands.refused_pictures import refused_sheets
from scoutview.errors import RunError, UsageError
from scoutview.ingest import run_ingest
from scoutview.phantoms.traps import TRAPS
from scoutview.preprocessing import Preprocessing
from scoutview.store import Store

HOSTILE = "<script>alert(1)</script>"
ATTRIBUTE = '" onmouseover="alert(1)'


@dataclass(frozen=True)
class Made:
    source: Path
    store: Store
    content: dict[str, Any]
    page: Path

    @property
    def html(self) -> str:
        return self.page.read_text(encoding="utf-8")


@pytest.fixture(autouse=True, scope="module")
def _secret() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOUTVIEW_KEY", "a secret that only the tests know")
        yield


def write_source(source: Path) -> None:
    """A volume, radiographs, and files of every kind that is refused."""
    plain = next(trap for trap in TRAPS if trap.name == "plain")
    plain.write(source / "ct")
    for number in range(3):
        write_dicom(source / f"dx{number}.dcm", picture(160 + 160 * number, 120, seed=number), Manufacturer=HOSTILE)
    write_dicom(source / "us.dcm", picture(64, 80, 255).astype(np.uint8), "US")
    write_dicom(source / "burned.dcm", picture(seed=7), BurnedInAnnotation="YES")
    write_dicom(source / "screen.dcm", picture(seed=8), "OT", SOPClassUID=SECONDARY_CAPTURE)
    write_dicom(source / "localizer.dcm", picture(seed=9), "CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_png(source / "unknown.png", picture(60, 50, 255, seed=10).astype(np.uint8))
    write_png(source / "gone.png", picture(60, 50, 255, seed=11).astype(np.uint8))
    (source / HOSTILE).parent.mkdir(parents=True)
    (source / f"{HOSTILE}.dcm").write_text("text")
    (source / f"{ATTRIBUTE}.txt").write_text("text")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _secret: None) -> Made:
    folder = tmp_path_factory.mktemp("page")
    write_source(folder / "source")
    run_ingest([folder / "source"], folder / "store", workers=1)
    (folder / "source" / "gone.png").unlink()
    page = folder / "page.html"
    content = inspect(folder / "store", html=page, json=True)
    return Made(folder / "source", Store.open(folder / "store"), content, page)


@pytest.fixture(scope="module")
def elements(made: Made) -> Elements:
    return Elements(made.html)


def part(made: Made, begin: str, end: str) -> Elements:
    """The elements between two places of the page."""
    return Elements(begin + made.html.split(begin, 1)[1].split(end, 1)[0])


def pixels_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_counts_are_on_the_page(made: Made, elements: Elements) -> None:
    rows = made.store.rows()
    refused = made.store.quarantined()
    assert len(rows) == 11
    assert "11 images of" in elements.text
    assert "3 X-ray, 7 CT and 1 ultrasound, 1 volume among them" in elements.text
    share = f"{len(refused)} of {len(refused) + 11} files ({len(refused) / (len(refused) + 11):.1%}) were refused"
    assert share in elements.text
    for entry in refused:
        assert entry["path"] in elements.text or entry["path"].endswith("gone.png")
        assert entry["detail"] in elements.text
    assert made.content["totals"]["files"] == 11


def test_histograms_tell_their_bins(made: Made, elements: Elements) -> None:
    told = [str(a["aria-label"]) for tag, a in elements.found if tag == "svg"]
    drawn = [
        histogram
        for histograms in made.content["histograms"].values()
        for histogram in histograms
        if histogram["edges"]
    ]
    assert len(told) == len(drawn) == 4
    counted = sorted(sum(map(int, re.findall(r": (\d+)", label))) for label in told)
    assert counted == sorted(sum(sum(line["counts"]) for line in histogram["lines"]) for histogram in drawn)


def test_samples_are_what_an_encoder_is_shown(made: Made) -> None:
    sheet = part(made, 'id="ct"', "</article>")
    shown = [pixels_of(str(a["src"])) for tag, a in sheet.found if tag == "img"]
    archive = Archive.open([made.store.path])
    slices = sorted(
        (row.slice_index, index) for index, row in enumerate(archive.rows) if row.modality == "ct" and row.stack
    )
    assert len(slices) == 7
    expected = [read_unit_image(archive, slices[place][1], Preprocessing())[0] for place in (1, 3, 5)]
    assert len(shown) == 3
    for tile, unit in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(tile, (unit * 255).round().astype(np.uint8))
    assert "7 slices, 5 mm apart" in sheet.text


def test_large_images_are_shrunk(made: Made) -> None:
    sheet = part(made, 'id="xray"', "</article>")
    shown = {pixels_of(str(a["src"])).shape for tag, a in sheet.found if tag == "img"}
    assert shown == {(160, 120), (256, 96), (256, 64)}


def test_ultrasound_with_unknown_text_is_not_shown(made: Made) -> None:
    sheet = part(made, 'id="us"', "</article>")
    assert "img" not in {tag for tag, _ in sheet.found}
    assert "Not shown: 1 image flagged text_unknown" in sheet.text


@pytest.mark.parametrize(
    ("reason", "pictures", "said"),
    [
        ("burned_in", 0, "No picture: text in the pixels of these files may name a patient."),
        ("not_an_image_class", 0, "Not shown: 1 of 1 file: 1 might name a patient in the pixels."),
        ("localizer", 1, "LOCALIZER in ImageType"),
        ("unknown_modality", 1, "Not shown: 1 of 2 files: 1 had gone."),
        ("not_an_image", 0, "unknown content"),
    ],
)
def test_refused_files_are_shown_where_they_name_nobody(made: Made, reason: str, pictures: int, said: str) -> None:
    section = part(made, f"<h3>{reason} ", "</section>")
    assert [tag for tag, _ in section.found].count("img") == pictures
    assert said in section.text


def test_what_cannot_be_opened_is_counted(tmp_path: Path) -> None:
    write_dicom(tmp_path / "burned.dcm", picture(), BurnedInAnnotation="YES")
    write_dicom(tmp_path / "sound.dcm", picture(64, 80, 255).astype(np.uint8), "US")
    write_dicom(tmp_path / "film.dcm", picture(), PhotometricInterpretation="MONOCHROME1", ImageType=["LOCALIZER"])
    (tmp_path / "half.png").write_bytes(write_png(tmp_path / "whole.png", picture()).read_bytes()[:-300])
    (tmp_path / "folder").mkdir()
    names = ("burned.dcm", "sound.dcm", "film.dcm", "half.png", "folder", "none")
    sheets = refused_sheets(
        {
            "gap": [(str(tmp_path / name), "") for name in names],
            "text_unknown": [(str(tmp_path / "film.dcm"), "")],
            "not_an_image": [(str(tmp_path / "film.dcm"), "")],
        }
    )
    assert sheets["gap"].notes == (
        "Not shown: 5 of 6 files: 2 might name a patient in the pixels; 1 could not be decoded; "
        "1 had become something else; 1 had gone.",
    )
    (tile,) = sheets["gap"].tiles
    shown = pixels_of(tile.pictures[0].uri).astype(float)
    assert np.corrcoef(shown.ravel(), picture().ravel())[0, 1] < -0.99  # white is zero
    assert sheets["text_unknown"].tiles == ()
    assert "not_an_image" not in sheets


def test_hostile_text_is_inert(made: Made, elements: Elements) -> None:
    assert f"{HOSTILE}.dcm" in elements.text
    assert f"{ATTRIBUTE}.txt" in elements.text
    assert "<script" not in made.html
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_nothing_is_fetched_and_everything_is_closed(made: Made, elements: Elements) -> None:
    assert elements.open == []
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements.found:
        assert tag not in ("script", "iframe", "object", "embed", "link")
        assert re.match(r"data:image/(png|jpeg);base64,", str(attributes.get("src", "data:image/png;base64,")))
        assert str(attributes.get("href", "#")).startswith("#")
        if tag == "img":
            assert attributes["alt"]
        if tag == "a":
            assert str(attributes["href"])[1:] in ids
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert "http:" not in made.html
    assert "https:" not in made.html


def test_the_same_store_gives_the_same_page(made: Made, tmp_path: Path) -> None:
    inspect(made.store.path, html=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == made.page.read_bytes()


def test_a_damaged_image_is_said_and_the_rest_is_shown(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.store.path, tmp_path / "store")
    row = next(row for row in made.store.rows() if row.modality == "xray")
    shard = tmp_path / "store" / "shards" / "xray" / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + 40] ^= 1
    shard.write_bytes(data)
    inspect(tmp_path / "store", html=tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 of the images that this page shows is damaged: scoutview fsck looks at all of them." in html
    assert f"image {row.image} is damaged" in html
    whole = made.html.split('id="xray"', 1)[1].split("</article>")[0].count("<img")
    assert html.split('id="xray"', 1)[1].split("</article>")[0].count("<img") == whole - 1


def test_where_the_page_cannot_be_written(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: give a file"):
        inspect(made.store.path, html=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file/page.html"):
        inspect(made.store.path, html=tmp_path / "file" / "page.html")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
@pytest.mark.parametrize(("scheme", "paper"), [("1", (255, 255, 255)), ("0", (22, 24, 26))], ids=["light", "dark"])
def test_chromium_shows_it_without_complaint(
    made: Made, tmp_path: Path, scheme: str, paper: tuple[int, int, int]
) -> None:
    def chromium(*more: str) -> subprocess.CompletedProcess[str]:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        settings = ["--enable-logging=stderr", f"--blink-settings=preferredColorScheme={scheme}", *more]
        words = ["chromium", *SWITCHES.split(), profile, *settings, made.page.as_uri()]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)

    shown = chromium(f"--screenshot={tmp_path / 'page.png'}", "--window-size=900,1200")
    assert "CONSOLE" not in shown.stderr
    elements = Elements(shown.stdout)
    assert f"{HOSTILE}.dcm" in elements.text
    assert "script" not in {tag for tag, _ in elements.found}
    screenshot = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert tuple(screenshot[2, 2]) == paper
    assert len(np.unique(screenshot.reshape(-1, 3), axis=0)) > 50
