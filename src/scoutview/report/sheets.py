"""Pictures: the contact sheet that a run writes, and PNG files as data URIs for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scoutview.errors import UsageError
from scoutview.files import replacing

Row = tuple[str, Sequence[tuple[str, NDArray[Any]]]]

WIDEST = 1400  # px on the page
_SIDE = 160  # px of the largest picture on a sheet
_GAP, _CAPTION, _TITLE = 14, 18, 150  # px
_BACKGROUND, _INK, _QUIET = (246, 246, 244), (38, 38, 38), (112, 112, 112)


def view_sheet(rows: Sequence[Row], path: Path) -> Path:
    """Write a PNG contact sheet: a row per image, its title at the left, its pictures with captions.

    Each picture is float [row, column] in [0, 1]; values outside are clipped, NaN is black. All pictures
    are enlarged by the same whole factor, so that a small crop looks small; one larger than the sheet's
    160 px is shrunk to it. Columns are aligned over the rows. Replaces `path` atomically and returns it.
    Raises `UsageError` for no rows or a picture that is not two-dimensional.
    """
    if not rows or not any(pictures for _, pictures in rows):
        raise UsageError("a view sheet needs at least one picture; none were given")
    enlarge = _enlargement(rows)
    tiles = [[(caption, _tile(picture, enlarge)) for caption, picture in pictures] for _, pictures in rows]
    columns = max(len(row) for row in tiles)
    widths = [max(_width(row[column]) for row in tiles if column < len(row)) for column in range(columns)]
    heights = [max((tile.height for _, tile in row), default=0) + _CAPTION for row in tiles]
    sheet = Image.new(
        "RGB",
        (
            _TITLE + sum(widths) + _GAP * (columns + 2),
            sum(heights) + _GAP * (len(rows) + 1),
        ),
        _BACKGROUND,
    )
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for (title, _), row, height in zip(rows, tiles, heights, strict=True):
        _write_title(pen, title, top)
        left = _TITLE + 2 * _GAP
        for (caption, tile), width in zip(row, widths, strict=False):
            sheet.paste(tile, (left, top))
            pen.text((left, top + tile.height + 3), caption, fill=_QUIET, font=_font(11))
            left += width + _GAP
        top += height + _GAP
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return path


def data_uri(path: Path, widest: int = WIDEST) -> str | None:
    """A PNG file as a data URI, shrunk to at most `widest` px; None where it is not a readable picture."""
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            opened.load()
            picture = opened if opened.mode in ("L", "RGB") else opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if picture.width > widest:
        height = max(1, round(picture.height * widest / picture.width))
        picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Written anew even when it fits: text chunks of an unknown writer stay out of the page.
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _enlargement(rows: Sequence[Row]) -> int:
    largest = 1
    for title, pictures in rows:
        for caption, picture in pictures:
            if np.ndim(picture) != 2 or not np.size(picture):
                raise UsageError(f"picture {caption!r} of {title!r} has shape {np.shape(picture)}; give [row, column]")
            rows_high, columns_wide = np.shape(picture)
            largest = max(largest, int(rows_high), int(columns_wide))
    return max(1, _SIDE // largest)


def _tile(picture: NDArray[Any], enlarge: int) -> Image.Image:
    grey = np.nan_to_num(np.asarray(picture, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    tile = Image.fromarray((np.clip(grey, 0, 1) * 255).round().astype(np.uint8))
    scale = min(float(enlarge), _SIDE / max(tile.size))
    size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
    # Enlarged pixels stay visible as pixels: what the network sees, not a flattering version of it.
    return tile.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)


def _width(captioned: tuple[str, Image.Image]) -> int:
    caption, tile = captioned
    words = int(_font(11).getlength(caption)) + 1
    return words if words > tile.width else int(tile.width)


def _write_title(pen: ImageDraw.ImageDraw, title: str, top: int) -> None:
    """The title in lines that fit its column; a word that is too long for one is cut into several."""
    font, lines = _font(13), [""]
    for word in title.split():
        rest = word
        while rest:
            joined = f"{lines[-1]} {rest}".strip()
            if font.getlength(joined) <= _TITLE:
                lines[-1], rest = joined, ""
            elif lines[-1]:
                lines.append("")
            else:
                fits = next(n for n in range(len(rest), 0, -1) if n == 1 or font.getlength(rest[:n]) <= _TITLE)
                lines[-1], rest = rest[:fits], rest[fits:]
                lines.append("")
    for index, line in enumerate(line for line in lines[:8] if line):
        pen.text((_GAP, top + 18 * index), line, fill=_INK, font=font)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same on every machine, with Greek and accents."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
