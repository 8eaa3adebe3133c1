"""The page of whole runs: its figures are those of the files, it is inert, offline and well formed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Made
from pages import SWITCHES, Elements
from run_folders import ATTRIBUTE, HOSTILE, estimate, finetuning_run, write_lines

from scoutview.errors import UsageError
from scoutview.report import write_report


@pytest.fixture(scope="module")
def elements(made: Made) -> Elements:
    return Elements(made.html)


def estimates(value: Any) -> list[str]:
    """Every {"value", "low", "high"} in a JSON value as the page should write it, written independently."""
    if isinstance(value, list):
        return [text for item in value for text in estimates(item)]
    if not isinstance(value, dict):
        return []
    own = []
    if {"value", "low", "high"} <= set(value):
        own = ["%.3f [%.2f,\u00a0%.2f]" % (value["value"], value["low"], value["high"])]  # noqa: UP031
    return own + [text for item in value.values() for text in estimates(item)]


def figures_of(runs: list[Path]) -> set[str]:
    files = [run / name for run in runs for name in ("probe.json", "evaluation.json")]
    return {text for file in files if file.exists() for text in estimates(json.loads(file.read_text()))}


def test_every_estimate_is_on_the_page_and_none_other(made: Made, elements: Elements) -> None:
    shown = set(re.findall(r"\d\.\d{3} \[-?\d\.\d\d,\xa0-?\d\.\d\d\]", elements.text))
    assert shown == figures_of(made.runs)


def test_last_log_line_settings_and_reasons_are_shown(elements: Elements) -> None:
    for text in ("744 X-ray", "1,512 CT", "13\u00a0min\u00a032\u00a0s", "400 of 400", "2 CPU cores"):
        assert text in elements.text
    assert "largest power of two <= N / 32" in elements.text
    assert "{xray: 16, ct: 32}" in elements.text
    assert "/data/private" not in elements.text


def test_repeated_event_is_told_once(elements: Elements) -> None:
    assert "collapse (steps 200 to 300, 2 times): us stays at ln K" in elements.text
    assert "ultrasound: the last loss, 3.47, is within 1% of ln K = 3.47" in elements.text


def test_the_comparison_comes_before_the_runs(elements: Elements) -> None:
    comparison = elements.text.index("Fine-tuned models on their test images")
    assert comparison < elements.text.index("An encoder was pretrained", comparison)
    plots = [a["aria-label"] for tag, a in elements.found if tag == "svg" and "lesion · none" in a["aria-label"]]
    assert len(plots) == 1
    assert plots[0].startswith("AUC with 95% intervals. lesion · pretrain_swav: 0.")


def test_overlapping_intervals_are_not_called_better(elements: Elements) -> None:
    assert "0.812 [0.74,\u00a00.88] with this encoder (linear)" in elements.text
    assert "The encoder is better than “same network, untrained” and is not shown to be better" in elements.text


def test_hostile_text_is_inert(made: Made, elements: Elements) -> None:
    assert HOSTILE in elements.text
    assert HOSTILE not in made.html
    assert not [tag for tag, _ in elements.found if tag in ("script", "iframe", "object", "embed", "link")]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert any(ATTRIBUTE in str(a.get("aria-label")) for tag, a in elements.found if tag == "svg")


def test_nothing_is_fetched(made: Made, elements: Elements) -> None:
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:image/png;base64,"))
    assert "http:" not in made.html
    assert "https:" not in made.html
    assert "@import" not in made.html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", made.html))


def test_elements_close_and_ids_are_unique_and_found(elements: Elements) -> None:
    assert elements.open == []
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for _, a in elements.found if "href" in a}
    assert targets <= set(ids)


def test_pictures_have_words_and_tables_headers(elements: Elements) -> None:
    for tag, attributes in elements.found:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")


def test_the_same_files_give_the_same_page(made: Made, tmp_path: Path) -> None:
    again = write_report(made.runs[:1], tmp_path / "a.html", "t").read_bytes()
    assert write_report(made.runs[:1], tmp_path / "b.html", "t").read_bytes() == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_one_fine_tuning_run_needs_no_comparison(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "only", "none", 1.0)
    text = Elements(write_report([run], tmp_path / "report.html", "One").read_text(encoding="utf-8")).text
    assert "Comparison" not in text
    assert "from random weights (no encoder)" in text


def test_heads_have_their_curves_and_figures(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "one", "none", 1.0)
    ends = {"validation_volume_auc": 0.71, "validation_types_auc": 0.62, "validation_slices_auc": 0.83}
    write_lines(run / "metrics.jsonl", [{"step": 5, **dict.fromkeys(ends, 0.4)}, {"step": 10, **ends}])
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["metrics"] |= {"auc of slices": estimate(0.8123, 0.0623), "auc of types": {"value": 0.5}}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    page = Elements(write_report([run], tmp_path / "report.html", "One").read_text())
    curves = [attributes["aria-label"] or "" for tag, attributes in page.found if tag == "svg"]
    assert "Validation AUC over training steps; at step 10: volume 0.710, types 0.620, slices 0.830" in curves
    assert "by head; the first head's chooses the checkpoint." in page.text
    assert "AUC of slices0.812 [0.75,\u00a00.87]\nAUC of types0.500\n" in page.text


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one run folder"):
        write_report([], tmp_path / "report.html", "None")
    with pytest.raises(UsageError, match="not a run folder"):
        write_report([tmp_path / "absent"], tmp_path / "report.html", "None")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
def test_chromium_shows_the_figures_and_runs_no_label(made: Made, tmp_path: Path) -> None:
    shown = subprocess.run(
        ["chromium", *SWITCHES.split(), f"--user-data-dir={tmp_path / 'profile'}", made.page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    elements = Elements(shown)
    assert figures_of(made.runs) <= set(re.findall(r"\d\.\d{3} \[\d\.\d\d,\xa0\d\.\d\d\]", elements.text))
    assert HOSTILE in elements.text
    assert "script" not in {tag for tag, _ in elements.found}
