"""`scoutview study`: encoders x label fractions x seeds on the user's own tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.report import write_study_report
from scoutview.study import Study, load_plan, run_grid, summarise
from scoutview.training import RunFolder
from scoutview.training.run_folder import timestamp


def study(file: Path, *, out: Path, at_once: int = 1) -> dict[str, Any]:
    """Compare encoders with random weights at several label fractions, on your own labels, over several seeds.

    FILE is YAML: `stores` (a list of folders), `tasks` (a list of labels, or a name with its labels), `encoders`
    (a name with its run folder, encoder file or published ResNet weights), and if wanted `fractions`, `seeds`,
    `finetune` (settings of scoutview finetune), `search` (settings with a list of values each, of which validation
    chooses) and `compare` (pairs of encoders). Paths are relative to the file. Each cell fine-tunes, and probes the
    frozen features. Running the same command again continues.

    Args:
        file: The study file.
        out: Folder of the study.
        at_once: Cells that run side by side, a thread each; 1 gives one cell all threads.

    Returns:
        The content of study.json.

    Raises:
        UsageError: Wrong file, stores, labels or encoders, or a folder with another study.
    """
    if at_once < 1:
        raise UsageError(f"at_once is {at_once}: one or more cells run at a time")
    plan = load_plan(file)
    grid = Study(plan, out)
    run = RunFolder(out)
    encoders = {name: encoder.provenance for name, encoder in grid.encoders.items()}
    # What is compared may change once the grid is there; what the cells depend on may not.
    config = {key: value for key, value in plan.as_dict().items() if value and key != "compare"}
    run.prepare({**config, "provenance": encoders}, {})
    manifest = {
        "command": "study",
        "stores": [{"path": str(store.path), "snapshot": store.snapshot()} for store in grid.archive.stores],
        "started": timestamp(),
    }
    run.manifest({**manifest, "status": "running"})
    console = Console(stderr=True)
    try:
        run_grid(
            plan,
            out,
            at_once,
            lambda cell, done, cells: console.print(f"{done}/{cells} {cell}", highlight=False),
        )
    except BaseException as error:
        run.manifest({**manifest, "status": f"failed: {str(error) or type(error).__name__}"})
        raise
    content = summarise(grid)
    write_json(out / "study.json", content)
    run.manifest({**manifest, "status": "finished"})
    write_study_report(out, out / "report.html")
    _show(content)
    print(f"study: {out / 'study.json'}")
    print(f"report: {out / 'report.html'}")
    return content


def _show(content: dict[str, Any]) -> None:
    """The fine-tuned figures; probes, areas and convergence are on the page."""
    table = Table("task", "labels", "encoder", "against", "AUC", "95% interval", title="Fine-tuned, test images")
    for entry in content["differences"]:
        figure = entry["difference"]
        if entry["measure"] == "fine-tuned":
            table.add_row(
                entry["task"],
                f"{entry['fraction']:.0%}",
                entry["encoder"],
                entry["reference"],
                f"{figure['value']:+.3f}",
                f"{figure['low']:+.3f} to {figure['high']:+.3f}",
            )
    Console().print(table)
