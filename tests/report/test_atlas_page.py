"""The page of an atlas: hostile text is inert, nothing is fetched, packed numbers are those of atlas.json."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import SWITCHES, Elements
from PIL import Image

from scoutview.report import write_atlas_page
from scoutview.report.sprites import ACROSS, CELL, PER_SHEET, cell, place, sheets

SCRIPT = Path(__file__).resolve().parents[2] / "src" / "scoutview" / "report" / "atlas.js"
EVIL = "</script><img src=x onerror=alert(1)>"
ATTRIBUTE = '" onfocus="alert(1)\' & \u2028 \ud800'
IMAGES, WIDTH = 40, 3


def make_content() -> dict[str, Any]:
    """As `scoutview atlas` writes it, with hostile text wherever an archive has text."""
    generator = np.random.default_rng(0)
    half = IMAGES // 2
    neighbours = generator.integers(0, IMAGES, (IMAGES, WIDTH)).tolist()
    groups = [{"number": 4, "images": 12, "nearest": [0, 5, 9], "cosines": [0.91, 0.8, 0.7777]}]
    return {
        "encoder": {"name": EVIL, "run": ATTRIBUTE},
        "store": {"name": EVIL, "snapshot": "0123456789abcdef"},
        "images_in_store": 1000,
        "damaged": ["x"],
        "columns": {
            "modality": ["xray"] * half + ["ct"] * half,
            "split": ["train"] * (IMAGES - 1) + ["test"],
            "manufacturer": [EVIL, None, *[ATTRIBUTE] * (IMAGES - 2)],
            f"label: {EVIL}": [EVIL if number % 2 else ATTRIBUTE for number in range(IMAGES)],
        },
        "images": {
            "image": [f"{number:032x}" if number else EVIL for number in range(IMAGES)],
            "pixel_sha256": [hashlib.sha256(bytes([number])).hexdigest() for number in range(IMAGES)],
            "hidden": [7],
            "x": generator.random(IMAGES).round(5).tolist(),
            "y": generator.random(IMAGES).round(5).tolist(),
            "neighbours": neighbours,
            "cosines": (generator.random((IMAGES, WIDTH)) * 2 - 1).round(4).tolist(),
            "density": [0.5] * IMAGES,
        },
        "map": {"method": "t-SNE", "words": EVIL},
        "galleries": [
            {"name": "xray", "kind": "prototypes", "why": "", "count": 8, "images": half, "groups": groups},
            {"name": "ct", "kind": "k-means", "why": EVIL, "count": 3, "images": half, "groups": groups},
        ],
        "outliers": [{"image": 3, "measures": ["density", "prototype"], "density": 0.1234, "closeness": 0.2345}],
        "near_duplicates": {
            "pairs": [
                {"first": 1, "second": IMAGES - 1, "bits": 2, "correlation": 0.9912, "same_patient": False},
                {"first": 2, "second": 1, "bits": 0, "correlation": 0.9876, "same_patient": True},
            ],
            "left_out": [{"image": 1, "like": IMAGES - 1}],
            "equal_pixels": 1,
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = np.random.default_rng(0).integers(0, 255, (IMAGES, CELL, CELL)).astype(np.uint8)
    return write_atlas_page(tmp_path_factory.mktemp("page") / "atlas.html", make_content(), pictures)


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def data_in(html: str) -> dict[str, Any]:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[0])


def test_hostile_text_is_inert(html: str) -> None:
    elements = Elements(html)
    assert elements.open == []
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert EVIL in elements.text
    assert EVIL not in html
    assert html.count("</script>") == 2
    data = data_in(html)
    assert data["columns"][2]["values"] == [ATTRIBUTE, EVIL]
    assert data["columns"][3]["name"] == f"label: {EVIL}"


def test_nothing_is_fetched_and_only_the_own_script_runs(html: str) -> None:
    elements = Elements(html)
    policy = next(a["content"] for tag, a in elements.found if tag == "meta" and "http-equiv" in a)
    script = re.findall(r"<script>(.*?)</script>", html, re.S)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    for _, attributes in elements.found:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert str(attributes.get(name) or "#").startswith("#")
    outside = html.replace(script, "")
    assert not re.findall(r"https?:|@import", outside)
    assert all(target.startswith("data:image/webp;base64,") for target in re.findall(r"url\(([^)]*)\)", outside))
    assert not re.findall(r"\b(eval|Function|fetch|XMLHttpRequest|WebSocket|innerHTML|import)\b|https?:", script)


def test_packed_numbers_are_those_of_the_content(html: str) -> None:
    content, data = make_content(), data_in(html)
    images = content["images"]
    unpack = {name: base64.b64decode(data[name]) for name in ("x", "y", "neighbours", "cosines", "pixels")}
    np.testing.assert_allclose(np.frombuffer(unpack["x"], "<u2") / 65535, images["x"], atol=1 / 65535)
    np.testing.assert_allclose(np.frombuffer(unpack["y"], "<u2") / 65535, images["y"], atol=1 / 65535)
    assert np.frombuffer(unpack["neighbours"], "<u4").reshape(IMAGES, WIDTH).tolist() == images["neighbours"]
    cosines = np.frombuffer(unpack["cosines"], "<i2").reshape(IMAGES, WIDTH) / 10_000
    np.testing.assert_allclose(cosines, images["cosines"], atol=1e-9)
    assert unpack["pixels"].hex() == "".join(images["pixel_sha256"])
    for column in data["columns"][1:]:
        values = [*column["values"], *[None] * (256 - len(column["values"]))]
        read = [values[code] for code in base64.b64decode(column["codes"])]
        assert read == content["columns"][column["name"]]
        assert column["counts"] == [read.count(value) for value in column["values"]]


def test_what_is_shown_is_said(html: str) -> None:
    elements = Elements(html)
    for words in (
        "40 images: 20 X-ray and 20 CT.",
        "They were taken evenly from the 1,000 of the store.",
        "1 image could not be read and is left out.",
        "Not shown: 1 image flagged text_unknown",
        "1 of 8 prototypes have images",
        "These are 1 cluster of k-means",
        "correlation 0.991, 2 of 64 bits differ",
        "in different splits: train and test",
        "few images near it and far from every prototype or cluster",
    ):
        assert words in elements.text
    boxes = [a for tag, a in elements.found if tag == "input" and "data-image" in a]
    assert [(box["data-image"], "checked" in box) for box in boxes] == [("3", False), ("1", True), ("1", True)]
    cells = [a for tag, a in elements.found if tag == "button" and "cell" in str(a.get("class"))]
    assert all(a["aria-label"] for a in cells)
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for _, a in elements.found if "href" in a} <= set(ids)
    assert set(re.findall(r'find\("([^"]+)"\)', SCRIPT.read_text())) <= set(ids)


def test_cells_lie_where_their_place_says() -> None:
    generator = np.random.default_rng(0)
    count = PER_SHEET + 40
    shades = generator.integers(0, 255, count)
    cells = np.repeat(shades, CELL * CELL).reshape(count, CELL, CELL).astype(np.uint8)
    found = []
    for uri in sheets(cells):
        kind, data = uri.split(",", 1)
        assert kind == "data:image/webp;base64"
        found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")).astype(int))
    assert [sheet.shape for sheet in found] == [(ACROSS * CELL, ACROSS * CELL), (2 * CELL, ACROSS * CELL)]
    for image in range(0, count, 7):
        sheet, column, row = place(image)
        middle = found[sheet][row * CELL + CELL // 2, column * CELL + CELL // 2]
        assert abs(middle - shades[image]) <= 8


def test_a_cell_keeps_the_aspect_and_clips() -> None:
    picture = np.full((30, 120), 2.0)
    picture[:, :60] = np.nan
    small = cell(picture)
    assert small.shape == (CELL, CELL)
    assert set(np.flatnonzero(small.any(axis=1))) == set(range(24, 40))
    assert small[32, 60] == 255
    assert small[32, 5] == 0


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")
def test_the_pure_parts_of_the_script_equal_loops() -> None:
    generator = np.random.default_rng(3)
    xs, ys = generator.integers(0, 65536, (2, 60))
    shown = generator.random(60) < 0.7
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    asked = {
        "xs": base64.b64encode(xs.astype("<u2").tobytes()).decode(),
        "ys": base64.b64encode(ys.astype("<u2").tobytes()).decode(),
        "shown": shown.tolist(),
        "pixels": base64.b64encode(b"".join(digests)).decode(),
    }
    program = f"""
        require("vm").runInThisContext(require("fs").readFileSync({json.dumps(str(SCRIPT))}, "utf8"));
        const asked = {json.dumps(asked)};
        const xs = unpack(asked.xs, Uint16Array), ys = unpack(asked.ys, Uint16Array);
        const isShown = (i) => asked.shown[i];
        const steps = [[-1, 0], [1, 0], [0, -1], [0, 1]];
        console.log(JSON.stringify({{
            at: [[1000, 2000, 9000], [40000, 30000, 100], [65535, 0, 70000]].map((q) => pointAt(xs, ys, ...q, isShown)),
            towards: [...xs.keys()].map((i) => steps.map((step) => pointTowards(xs, ys, i, ...step, isShown))),
            list: listOf([2, 0], unpack(asked.pixels, Uint8Array), ["a", "b", "c"]),
            facts: factsOf([{{name: "n", codes: [1, 254, 255], values: ["u", "v"]}}], 0, 254, 255),
        }}));
    """
    answer = json.loads(
        subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=120, check=True).stdout
    )
    points = [(int(x), int(y)) for x, y in zip(xs, ys, strict=True)]
    for place_, (x, y, reach) in zip(
        answer["at"], [(1000, 2000, 9000), (40000, 30000, 100), (65535, 0, 70000)], strict=True
    ):
        near = [((a - x) ** 2 + (b - y) ** 2, i) for i, (a, b) in enumerate(points) if shown[i]]
        near = [pair for pair in near if pair[0] <= reach**2]
        assert place_ == (min(near)[1] if near else -1)
    for i, found in enumerate(answer["towards"]):
        for (right, down), place_ in zip([(-1, 0), (1, 0), (0, -1), (0, 1)], found, strict=True):
            ahead = []
            for j, (a, b) in enumerate(points):
                x, y = a - points[i][0], b - points[i][1]
                along, across = x * right + y * down, abs(y if right else x)
                if shown[j] and along > 0 and across <= along:
                    ahead.append((along**2 + across**2, j))
            assert place_ == (min(ahead)[1] if ahead else i)
    assert answer["list"] == f"pixel_sha256,image\n{digests[2].hex()},c\n{digests[0].hex()},a\n"
    assert answer["facts"] == ["n: v"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
def test_chromium_draws_the_legend_and_runs_no_label(page: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        ["chromium", *SWITCHES.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    elements = Elements(shown)
    assert "X-ray (20)" in elements.text
    assert "2 selected" not in elements.text
    assert "1 selected on this page" in elements.text
    assert "img" not in {tag for tag, _ in elements.found}
