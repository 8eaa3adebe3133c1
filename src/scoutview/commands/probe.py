"""`scoutview probe`: how good are frozen features, with intervals, beside an untrained network and raw pixels?"""

from __future__ import annotations

import json as encoding
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scoutview.batches import Archive
from scoutview.commands.sources import find_encoder
from scoutview.commands.terminal import cells
from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.report import write_report
from scoutview.tasks import probe_label
from scoutview.training import device


def probe(
    encoder: str, store: Path, *, label: list[str], out: Path | None = None, json: bool = False
) -> dict[str, Any]:
    """Probe an encoder with kNN and a linear classifier on labels of a store: macro AUC on the test split.

    Args:
        encoder: Run folder, encoder file, published ResNet weights, or none for an untrained network.
        store: Store with the labels.
        label: Names of labels; each is probed by itself.
        out: Folder for probe.json; the run folder when the encoder is one.
        json: End with one line of JSON for programs.

    Returns:
        The content of probe.json.

    Raises:
        UsageError: No such encoder, store or label, or too few labelled images.
    """
    run = Path(encoder)
    folder = out or (run if encoder != "none" and run.is_dir() else None)
    if folder is None:
        raise UsageError(f"{encoder} is no run folder, which probe.json would go into: add --out FOLDER")
    archive = Archive.open([store])
    network = find_encoder(encoder)
    path = folder / "probe.json"
    content: dict[str, Any] = encoding.loads(path.read_text(encoding="utf-8")) if path.exists() else {"probes": {}}
    for name in label:
        content["probes"][name] = probe_label(archive, network, name, device())
        write_json(path, content)
    _print({name: content["probes"][name] for name in label})
    if (folder / "config.yaml").exists():
        write_report([folder], folder / "report.html", "Pretraining report")
    if json:
        print(encoding.dumps({name: content["probes"][name] for name in label}), flush=True)
    return content


def _print(probes: dict[str, Any]) -> None:
    table = Table("label", "features", "kNN AUC", "linear AUC", title="macro AUC on the test split, 95% intervals")
    for name, entry in probes.items():
        for row in entry["rows"]:
            table.add_row(*cells(name, row["features"], *(_interval(row[key]) for key in ("knn_auc", "linear_auc"))))
    Console().print(table)


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
