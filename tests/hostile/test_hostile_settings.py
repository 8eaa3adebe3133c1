"""Recipes, study files and run folders from strangers: YAML makes no objects, unfolds to little and names no folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scoutview.errors import UsageError
from scoutview.files import read_yaml
from scoutview.pretraining import load_recipe
from scoutview.report import write_report
from scoutview.study import load_plan
from scoutview.training import RunFolder
from scoutview.training.run_folder import read_config, read_metrics

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
BAD = {
    "call": "steps: !!python/object/apply:subprocess.check_call [[touch, TRACE]]",
    "new": "steps: !!python/object/new:os.system [touch TRACE]",
    "name": "steps: !!python/name:os.system",
    "module": "steps: !!python/module:antigravity",
    "unknown tag": "steps: !evil {a: 1}",
    "laughs": LAUGHS,
    "endless": "steps: &a [*a]",
    "endless mapping": "steps: &a {b: *a}",
    "deep": "steps: " + "[" * 20_000,
    "control": "steps: \x07",
    "date": "steps: 2026-99-99",
    "number": "steps: " + "9" * 5000,
    "list key": "? [a, b]\n: 1",
}


def trace_of(text: str, folder: Path) -> tuple[str, Path]:
    return text.replace("TRACE", str(folder / "trace")), folder / "trace"


@pytest.mark.parametrize("name", BAD)
def test_hostile_yaml_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, trace = trace_of(BAD[name], tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    for read in (
        lambda: load_recipe(tmp_path / "config.yaml", {}),
        lambda: load_plan(tmp_path / "config.yaml", tmp_path / "out"),
        lambda: RunFolder(tmp_path).prepare({"steps": 1}, {}),
    ):
        with pytest.raises(UsageError) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 8000
    page = write_report([tmp_path], tmp_path / "report.html", "Report")
    assert page.stat().st_size < 200_000
    assert not trace.exists()


def test_the_payload_works_where_it_is_let() -> None:
    loader = yaml.UnsafeLoader
    assert yaml.load("!!python/object/apply:subprocess.check_output [['echo', 'x']]", loader) == b"x\n"


def test_plain_yaml_is_read_as_before() -> None:
    text = "a: &x [1, 2.5, null]\nb: *x\nc: {d: true, e: text}\n"
    assert read_yaml(text) == {"a": [1, 2.5, None], "b": [1, 2.5, None], "c": {"d": True, "e": "text"}}
    assert read_yaml("") is None
    assert len(read_yaml(yaml.safe_dump(list(range(100_000))))) == 100_000


STUDY = {"stores": ["s"], "tasks": {"t": ["label"]}, "encoders": {"ours": "run"}}


@pytest.mark.parametrize(
    "change",
    [
        {"encoders": {"../../x": {"recipe": "small_cpu"}}}, {"encoders": {"..": "run"}}, {"tasks": {"..": ["a"]}},
        {"tasks": {"/etc": ["a"]}}, {"tasks": {"t": 5}}, {"tasks": [[1]]}, {"encoders": {"a": 5}},
        {"encoders": {5: "run"}}, {"stores": [5]}, {"fractions": "x"}, {"fractions": 5}, {"seeds": "many"},
        {"search": {"learning_rate": ["../../x"]}}, {"search": {"../../x": [1]}}, {"finetune": 5}, {"finetune": ["a"]},
        {"seeds": []}, {"compare": [["a", "b", "c"]]}, {"robustness": {"cases": -1, "transforms": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_study_file_that_lies_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert load_plan(tmp_path / "study.yaml", tmp_path).encoders
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, **change}))
    with pytest.raises(UsageError) as caught:
        load_plan(tmp_path / "study.yaml", tmp_path)
    assert "\n" not in str(caught.value)


def test_files_of_a_run_of_another_form(tmp_path: Path) -> None:
    for text in ("5", "[1]", "text", "\xff"):
        (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
        with pytest.raises(UsageError, match="is damaged"):
            read_config(tmp_path)
    good = json.dumps({"step": 1, "loss": 0.5})
    for text in ("[" * 100_000, "5", "[]", "{"):
        (tmp_path / "metrics.jsonl").write_text(f"{good}\n{text}\n")
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]
