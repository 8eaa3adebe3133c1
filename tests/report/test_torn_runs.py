"""Runs that are going, died, or left damaged files: a page with plain sentences, never an exception."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import finetuning_run, manifest, pretraining_lines, pretraining_run, write_lines

from scoutview.report import write_report
from scoutview.report.read import read_run


def text_of(*runs: Path) -> str:
    page = write_report(runs, runs[0].parent / "report.html", "Torn").read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_half_written_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_lines(run / "metrics.jsonl", pretraining_lines(50))
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 60, "loss": 3.')
    read = read_run(run)
    assert [line["step"] for line in read.log] == [10, 20, 30, 40, 50]
    assert "1 line of metrics.jsonl could not be read and is left out" in text_of(run)


def test_a_continued_run_keeps_the_later_line_of_a_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_lines(
        run / "metrics.jsonl",
        [{"step": s, "loss": loss} for s, loss in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0))],
    )
    assert [(line["step"], line["loss"]) for line in read_run(run).log] == [(10, 1.0), (20, 5.0), (30, 3.0)]


def test_a_running_and_a_failed_run_are_called_so(tmp_path: Path) -> None:
    going = pretraining_run(tmp_path / "going")
    (going / "manifest.json").write_text(json.dumps(manifest("pretrain", status="running", seconds=None)))
    (going / "probe.json").unlink()
    write_lines(going / "metrics.jsonl", pretraining_lines(120)[:13])
    text = text_of(going)
    assert "was still going when this page was written: its figures are those up to step 120" in text
    assert "120 of 400" in text
    assert "There is no probe.json in this run" in text
    failed = finetuning_run(tmp_path / "failed", "none", 1.0)
    (failed / "manifest.json").write_text(json.dumps(manifest("finetune", status="failed: disk full")))
    assert "The run failed: disk full" in text_of(failed)


def test_an_empty_folder_says_that_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    text = text_of(tmp_path / "empty")
    assert "What this run did is not known" in text
    for name in ("manifest.json", "metrics.jsonl", "probe.json", "config.yaml"):
        assert f"There is no {name} in this run" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00\xfe", b"null"])
@pytest.mark.parametrize("name", ["manifest.json", "probe.json", "evaluation.json", "config.yaml"])
def test_a_damaged_file_becomes_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = "finetune" if name == "evaluation.json" else "pretrain"
    (run / "manifest.json").write_text(json.dumps({"command": command}))
    (run / name).write_bytes(content)
    assert f"{name} is damaged or only half written" in text_of(run)


def test_a_cut_picture_becomes_a_sentence(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    picture = run / "views" / "xray.png"
    picture.write_bytes(picture.read_bytes()[:900])
    text = text_of(run)
    assert "xray.png is not a readable picture" in text
    assert "There is no metrics.jsonl in this run" in text


def test_figures_without_a_value_are_dashes(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run", "none", 1.0)
    found = json.loads((run / "evaluation.json").read_text())
    found["metrics"]["auc"] = {"value": None, "low": None, "high": None, "ignored_resamples": 300}
    (run / "evaluation.json").write_text(json.dumps(found))
    text = text_of(run)
    assert "The AUC is not defined, because the images hold only one class." in text
    assert "Up to 300 resamples held only one class and are left out." in text


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["this encoder", "failed: x", "\ud800", "漢 $x^", "\x00\n", "9" * 50, "none"]),
)
WORDS = """
    step loss probe probes rows features linear_auc knn_auc value low high auc modality modalities xray ct event
    message ln_k metrics per_class curves false_positive_rate true_positive_rate recall precision a images
    stores path host cores device status seconds command encoder classes steps reasons seed
    validation_auc validation_a_auc
    against run convergence own_best this other difference p saved reached robustness cases warnings
"""
KEYS = st.sampled_from([*WORDS.split(), "auc of a"])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
FILE = st.dictionaries(KEYS, ANYTHING, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILE, FILE, FILE, FILE, st.lists(FILE, max_size=4), st.sampled_from(["pretrain", "finetune"]))
def test_no_content_breaks_the_page(
    tmp_path: Path, head: dict, probe: dict, found: dict, config: dict, log: list[dict], command: str
) -> None:
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "manifest.json").write_text(json.dumps({**head, "command": command}))
    (run / "probe.json").write_text(json.dumps({"probes": {"a": probe, "b": found}}))
    (run / "evaluation.json").write_text(json.dumps({"against": probe, **found}))
    (run / "config.yaml").write_text(json.dumps(config))
    write_lines(run / "metrics.jsonl", [{"step": index, **line} for index, line in enumerate(log)])
    assert text_of(run, run)
