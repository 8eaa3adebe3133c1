"""The model card: what a model is, what it takes, how good it was measured to be, and what nobody has shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scoutview import __version__
from scoutview.export.model import BOUND, INPUT, ExportModel, preprocessing_of
from scoutview.export.parity import BATCHES
from scoutview.files import write_text
from scoutview.report.read import Run, listing, mapping, number, read_run

_TAGS = {
    "encoder": "feature-extraction",
    "classification": "image-classification",
    "chest_detection": "object-detection",
}


@dataclass(frozen=True)
class Loading:
    """How a file is loaded: its name, by what, in which words (Markdown); the largest difference that was measured."""

    file: str
    tool: str
    usage: str
    difference: float


def write_card(model: ExportModel, loading: Loading, path: Path) -> None:
    """Write README.md with YAML front matter. What the run folder does not say is said to be unknown."""
    run = read_run(model.run)
    sections = {
        "How to load it": [
            loading.usage,
            f"Loaded by {loading.tool} alone and compared with the network before the file took its name, on batches "
            f"of {', '.join(map(str, BATCHES))}: largest difference {loading.difference:.1e}, bound {BOUND:g} (of the "
            "largest output where that is above 1).",
        ],
        "Input": _input(model),
        "Outputs": _outputs(model),
        "Where the weights come from": _provenance(model, run),
        "Data": list(_data(run)),
        "Figures": list(_figures(run, model)),
        "Intended use, and limits": [
            "Research on images like those of the data above. It is no medical device, nobody has certified it, and no "
            "figure here was measured at another hospital, scanner or population unless it says so.",
            "Probabilities are those of the training data's prevalence. The network does not know when an image is of "
            "a kind that it never saw: it answers nevertheless.",
        ],
        "Licence": [
            "None was chosen when this file was made. The weights were learnt from the data above, whose owner decides "
            "whether and how they may be passed on. Replace this section, and `license` at the top, before you publish."
        ],
    }
    text = "\n\n".join("\n\n".join([f"## {title}", *paragraphs]) for title, paragraphs in sections.items())
    front = yaml.safe_dump(_front_matter(model), sort_keys=False, allow_unicode=True)
    volumes = "volumes" if len(model.shape) == 4 else "images"
    said = f"{model.encoder.architecture}, {_task(model)}, of {volumes}. Made by scoutview {__version__}."
    head = f"# {model.name}\n\n{said}"
    write_text(path, f"---\n{front}---\n\n{head}\n\n{text}\n")


def _front_matter(model: ExportModel) -> dict[str, Any]:
    return {
        "license": "other",
        "license_name": "not-chosen",
        "library_name": "scoutview",
        "pipeline_tag": _TAGS.get(model.task, "image-classification"),
        "tags": ["medical-imaging", "scoutview", model.encoder.architecture],
    }


def _task(model: ExportModel) -> str:
    return "an encoder" if model.task == "encoder" else f"fine-tuned for {model.task}"


def _input(model: ExportModel) -> list[str]:
    shape = ", ".join(map(str, ("batch", *model.shape)))
    told = "\n".join(
        f"| {name} | {json.dumps(value) if isinstance(value, dict) else value} |"
        for name, value in preprocessing_of(model).items()
    )
    return [
        f"`{INPUT}` [{', '.join(model.axes)}] = [{shape}], float32 in [0, 1]. The batch may have any size. The network "
        "does all that follows itself: give it no other mean or deviation.",
        f"| modality | from stored values |\n|---|---|\n{told}",
        "`scoutview predict` and `scoutview embed` make this input from DICOM and other files; the same numbers reach "
        "the network only if every step is done as there.",
    ]


def _outputs(model: ExportModel) -> list[str]:
    lines = [f"- `{name}` [{', '.join(output.axes)}]: {output.meaning}" for name, output in model.outputs.items()]
    return ["\n".join(lines), *([f"Classes, in this order: {', '.join(model.classes)}."] if model.classes else [])]


def _provenance(model: ExportModel, run: Run) -> list[str]:
    provenance = model.encoder.provenance
    lines = [f"- {name}: {_told(value)}" for name, value in provenance.items()]
    if not lines:
        lines = ["- encoder: not pretrained, it began with random weights"]
    made = {
        key: run.manifest[key] for key in ("command", "scoutview", "torch", "started", "status") if key in run.manifest
    }
    lines += [f"- {name} of the run: {_told(value)}" for name, value in made.items()]
    parameters = int(sum(np.prod(parameter.shape) for parameter in model.network.parameters()))
    return ["\n".join([*lines, f"- parameters: {parameters:,}"])]


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _data(run: Run) -> Iterator[str]:
    """Stores by name, not by path, with counts of their images; labels as the settings have them."""
    stores = [mapping(store) for store in listing(run.manifest.get("stores"))]
    if not stores:
        yield "The run folder does not say (it has no manifest.json, or a damaged one)."
        return
    lines = []
    for store in stores:
        counts = ", ".join(f"{count} {name}" for name, count in mapping(store.get("images")).items())
        name = Path(str(store.get("path", "unknown"))).name
        lines.append(f"- store {name}, snapshot {store.get('snapshot', 'unknown')}: {counts or 'cases not counted'}")
    yield "Cases that the network was trained on, by store:"
    yield "\n".join(lines)
    settings = {setting.name: setting.value for setting in run.settings}
    if settings.get("label"):
        yield f"Labels: {settings['label']}."


def _figures(run: Run, model: ExportModel) -> Iterator[str]:
    if model.task == "encoder":
        probes = mapping(run.probe.get("probes"))
        rows = [
            (f"{label}, {row.get('features')}, {name}", mapping(row.get(key)))
            for label, entry in probes.items()
            for row in map(mapping, listing(mapping(entry).get("rows")))
            for name, key in (("kNN AUC", "knn_auc"), ("linear AUC", "linear_auc"))
        ]
        told = "Probes on frozen features of the test split"
        nothing = "Nobody has probed this encoder (`scoutview probe`), so nothing is known of what its features tell."
    else:
        evaluation = run.evaluation
        rows = [(name, mapping(figure)) for name, figure in mapping(evaluation.get("metrics")).items()]
        unit = evaluation.get("unit", "image")
        told = (
            f"On the test split of the store that was evaluated: {evaluation.get('n_images')} {unit}s of "
            f"{evaluation.get('n_patients')} patients"
        )
        nothing = "Nobody has evaluated this model (`scoutview evaluate`), so nothing is known of how good it is."
    lines = [_row(name, figure) for name, figure in rows if number(figure.get("value")) is not None]
    if not lines:
        yield nothing
        return
    yield f"{told}; 95% intervals by a bootstrap over patients."
    yield "\n".join(["| figure | value | 95% interval |", "|---|---|---|", *lines])


def _row(name: str, figure: Mapping[str, Any]) -> str:
    low, high = number(figure.get("low")), number(figure.get("high"))
    interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "none"
    return f"| {name} | {figure['value']:.3f} | {interval} |"
