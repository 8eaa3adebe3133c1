"""The contact sheet, pixel by pixel where it matters, and pictures on their way into the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from scoutview.errors import UsageError
from scoutview.report import view_sheet
from scoutview.report.sheets import data_uri


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("L"))


def holds(sheet: np.ndarray, tile: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(sheet, tile.shape)
    corners = np.argwhere(windows[:, :, 0, 0] == tile[0, 0])
    return any((windows[row, column] == tile).all() for row, column in corners)


def test_pictures_are_enlarged_by_one_whole_factor(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    large, small = generator.random((50, 40)), generator.random((20, 24))
    path = view_sheet([("one", [("a", large), ("b", small)])], tmp_path / "views" / "xray.png")
    sheet = read(path)
    for picture in (large, small):
        expected = (picture * 255).round().astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
        assert holds(sheet, expected)


def test_values_outside_are_clipped_and_nan_is_black(tmp_path: Path) -> None:
    picture = np.asarray([[-1.0, 0.0], [2.0, np.nan]]).repeat(8, axis=0).repeat(8, axis=1)
    expected = np.asarray([[0, 0], [255, 0]], np.uint8).repeat(80, axis=0).repeat(80, axis=1)
    assert holds(read(view_sheet([("", [("", picture)])], tmp_path / "s.png")), expected)


def test_large_pictures_are_shrunk_and_titles_take_room(tmp_path: Path) -> None:
    rows = [("patient 12, a long title that needs more than one line", [("whole", np.zeros((900, 400)))])] * 2
    sheet = read(view_sheet(rows, tmp_path / "s.png"))
    assert sheet.shape[0] < 400
    assert sheet.shape[1] < 400
    assert (sheet[:, :150] < 100).any()  # the title is written
    assert np.count_nonzero((sheet == 0).sum(axis=1) >= 71) == 2 * 160


@pytest.mark.parametrize("rows", [[], [("a", [])]])
def test_no_pictures_are_refused(tmp_path: Path, rows: list) -> None:
    with pytest.raises(UsageError, match="at least one picture"):
        view_sheet(rows, tmp_path / "s.png")


def test_a_volume_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"picture 'crop' of 'ct 3' has shape \(2, 3, 4\)"):
        view_sheet([("ct 3", [("crop", np.zeros((2, 3, 4)))])], tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []


def test_embedded_pictures_are_at_most_1400_wide_and_carry_no_text(tmp_path: Path) -> None:
    note = PngInfo()
    note.add_text("Comment", "a name")
    Image.new("RGB", (2800, 300), (9, 9, 9)).save(tmp_path / "wide.png", pnginfo=note)
    uri = data_uri(tmp_path / "wide.png")
    assert uri is not None
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
        assert picture.size == (1400, 150)
        assert picture.info == {}
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert data_uri(tmp_path / "bad.png") is None
