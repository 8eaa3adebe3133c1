"""Text from strangers on a terminal, in a CSV file and on pages: it stays text."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ingest.source_files import picture, write_dicom
from pages import Elements
from report.run_folders import estimate
from rich.console import Console

from scoutview import __main__ as command_line
from scoutview.commands import inspect_tables
from scoutview.commands.inspect import inspect
from scoutview.commands.terminal import cells, printable
from scoutview.export.prediction_log import PredictionLog
from scoutview.export.predictions import write_predictions
from scoutview.files import inert
from scoutview.ingest import run_ingest
from scoutview.report import Case, CaseBox, CaseScore, write_case_page, write_study_report
from scoutview.store import Annotation, Store, add_annotations

SCRIPT = "<script>alert(1)</script>"
BREAKOUT = '"><img src=x onerror=alert(1)>'
ENDING = "</style></svg></script><svg onload=alert(1)>"
QUOTES = "' onmouseover='alert(1)' x=\""
TEMPLATE = "{{ 7 * 7 }}{% include 'style.css' %}"
MARKUP = "[red]x[/red][link=file:///etc/passwd]y[/link][/nothing]"
ESCAPES = "\x1b[31mred\x1b[2J\x1b]8;;http://evil\x07link\x1b]8;;\x07\x9b31m\x08\x08\r\n\u202eevil\u2066"
ALL = (SCRIPT, BREAKOUT, ENDING, QUOTES, TEMPLATE, MARKUP, ESCAPES)
TEXT = " ".join(ALL)

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def check_page(path: Path) -> Elements:
    """Nothing on a page is active, and every element is closed where it was opened."""
    html = path.read_text(encoding="utf-8")
    elements = Elements(html)
    assert elements.open == []
    for tag, attributes in elements.found:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form"), tag
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#")), (tag, attributes)
    assert SCRIPT not in html
    assert "49" not in re.findall(r"\{\{[^}]*\}\}|$", html)
    return elements


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of DICOM files, of which every text that a reader may keep is hostile, with hostile labels and boxes."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, text in enumerate((*ALL, TEXT)):
        elements = {
            key: text.encode("latin-1", "ignore").decode("latin-1")[:64]
            for key in (
                "Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "PatientName", "PatientID",
                "PatientSex", "BodyPartExamined", "ViewPosition", "StudyDescription", "SeriesDescription",
                "ProtocolName", "StudyID", "AccessionNumber", "ImageComments", "SoftwareVersions",
            )
        }  # fmt: skip
        write_dicom(folder / "source" / f"{number}.dcm", picture(64, 60, seed=number), "CR", **elements)
    for number, text in enumerate(ALL):
        name = text.replace("/", "∕").replace("\0", "")[:80]
        (folder / "source" / f"{number}{name}.dcm").write_text("no DICOM")
        (folder / "source" / f"={number}{name}.dcm").write_text("no DICOM")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOUTVIEW_KEY", "a secret that only the tests know")
        run_ingest([folder / "source"], folder / "store", workers=1)
    opened = Store.open(folder / "store")
    images = [row.image for row in opened.rows()]
    assert len(images) == len(ALL) + 1
    said = [Annotation(image, "label", text, other) for image in images for text in ALL for other in ALL[:3]]
    boxes = [Annotation(images[0], "box", text, "1", 1.0, 2.0, 5.0, 6.0, reader=text) for text in ALL]
    add_annotations(opened, said + boxes)
    return folder / "store"


def test_the_page_of_a_store_shows_text_only(store: Path, tmp_path: Path) -> None:
    inspect(store, html=tmp_path / "page.html")
    shown = check_page(tmp_path / "page.html").text
    for text in (SCRIPT, BREAKOUT, ENDING, QUOTES, TEMPLATE):
        assert text in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_tables_on_a_terminal_hold_no_escape_and_no_markup(
    terminal: bool, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    plain = Console(file=stream, force_terminal=terminal, no_color=True, color_system=None, width=4000)
    monkeypatch.setattr(inspect_tables, "Console", lambda: plain)
    inspect(store)
    said = stream.getvalue() + capsys.readouterr().out
    assert "[red]x[/red][link=file:///etc/passwd]y[/link][/nothing]" in said
    assert TEMPLATE in said
    # Rich itself writes escape sequences for bold headings.
    ours = re.sub(r"\x1b\[[0-9;]*m", "", said) if terminal else said
    assert not CONTROL.search(ours.replace("\n", "")), CONTROL.findall(ours)[:5]
    assert "evil" in ours
    assert "\x1b]8" not in said


def test_an_error_holds_no_escape(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["inspect", f"no{ESCAPES}store"]) == 2
    said = capsys.readouterr().err
    assert not CONTROL.search(said.rstrip("\n"))
    assert said.count("\n") == 1
    assert command_line.main(["\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_is_printable() -> None:
    assert printable("Thorax a.–p. 5 µm ≥ 肺 [x]") == "Thorax a.–p. 5 µm ≥ 肺 [x]"
    assert printable("a\tb\u00a0c\nd") == "a b c d"
    assert printable("\x1b[0m\x9b\u202e\x00") == "\ufffd[0m\ufffd\ufffd\ufffd"
    assert [str(cell) for cell in cells(1, "[red]x")] == ["1", "[red]x"]


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://evil")')


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    entries = []
    for number, text in enumerate(FORMULAS):
        keys = dict.fromkeys(("image", "modality", "patient", "study", "series"), text)
        image = {**keys, "probabilities": [0.5] * len(FORMULAS), "boxes": []}
        about = {"name": f"a{number}", "stamp": "1", "source": text, "image": text, "detail": text}
        entries.append({**about, "reason": "", "images": [image]})
        entries.append({**about, "name": f"b{number}", "reason": "truncated", "images": []})
    log = PredictionLog.open(tmp_path / "log", {"model": "m"})
    log.append(entries)
    write_predictions(log, [entry["name"] for entry in entries], {"model": "m"}, FORMULAS, tmp_path)
    for name in ("predictions.csv", "refused.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) > len(FORMULAS)
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    exact = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["source"] for image in exact["images"]] == list(FORMULAS)
    assert (inert(-1.5), inert("a=b"), inert(None)) == (-1.5, "a=b", None)


def test_the_pages_of_a_study_and_of_cases_show_text_only(tmp_path: Path) -> None:
    picture_uri = "data:image/png;base64,AAAA"
    boxes = [CaseBox((1.0, 2.0, 3.0, 4.0), text, score) for text in ALL for score in (None, 0.5)]
    scores = [CaseScore(text, 0.5, True) for text in ALL]
    for found in ({"boxes": boxes}, {"scores": scores}):
        cases = [Case(text, picture_uri, 10, 12, 0.5, note=text, **found) for text in ALL]
        shown = check_page(write_case_page(tmp_path / "cases.html", TEXT, cases, 100)).text
        assert SCRIPT in shown
    (tmp_path / "study.json").write_text(json.dumps(study_of(TEXT)))
    shown = check_page(write_study_report(tmp_path, tmp_path / "study.html")).text
    assert shown.count(SCRIPT) > 3


def study_of(text: str) -> dict[str, Any]:
    """A study.json with that text wherever there is one."""
    row = {"task": text, "encoder": text, "fraction": 0.1, "measure": "fine-tuned"}
    counts = {f"{split}_{what}": 9 for split in ("train", "validation", "test") for what in ("images", "patients")}
    figure = estimate(0.2)
    return {
        "plan": {"encoders": {text: text}, "seeds": 1, "fractions": [0.1], text: text, "stores": [text]},
        "architecture": text, "input_size": 64, "cells": 3, "done": 1,
        "tasks": {text: {"task": text, "classes": [text], **counts}}, "labelled": [{**row, "images": [3, 4]}],
        "failures": [{**row, "seed": 0, "choice": text, "error": text}],
        "areas": [{**row, "auc": estimate(0.7), "by_seed": [0.7]}],
        "frocs": [{**row, "froc": estimate(0.7), "by_seed": [0.7]}],
        "differences": [{**row, "reference": text, "difference": figure}],
        "froc_differences": [{**row, "reference": text, "difference": figure}],
        "task_differences": [
            {"task": text, "encoder": text, "against": text, "reference": text, "fraction": 0.1, "difference": figure}
        ],
        "choices": [], "convergence": [], "robustness": [],
        "curves": [{**row, "steps": [1, 2, 3], "mean": [0.5, 0.6, 0.7]}],
    }  # fmt: skip
