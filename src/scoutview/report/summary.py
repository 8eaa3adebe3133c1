"""What a run did, in a few sentences and facts a reader can check against its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from scoutview.report.curves import loss_over_chance, modalities
from scoutview.report.read import Run, listing, mapping, number
from scoutview.report.wording import MISSING, count, duration, estimate, modality, quantity, score, series

MEASURES = {
    "auc": "AUC",
    "ap": "average precision",
    "dice": "Dice of the predicted masks",
    "froc_iou_0.1": "mean fROC sensitivity, IoU 0.1",
    "froc_iou_0.5": "mean fROC sensitivity, IoU 0.5",
    "froc_center_in_box": "mean fROC sensitivity, centre in the box",
}
"""How measures are written."""

# Spec section 2: within this share of ln K the loss has shown nothing.
_AT_CHANCE = 0.01


def facts(run: Run) -> list[tuple[str, str]]:
    """(name, value) pairs for the head of a run."""
    host = mapping(run.manifest.get("host"))
    planned = _setting(run, "steps")
    steps = count(run.last_step) if run.last_step else MISSING
    pairs = [
        ("status", run.status),
        ("steps", f"{steps} of {count(float(planned))}" if planned.isdecimal() else steps),
        ("duration", duration(_seconds(run))),
        ("device", _device(host)),
        ("started", str(run.manifest.get("started") or MISSING)),
        ("scoutview", str(run.manifest.get("scoutview") or MISSING)),
        ("seed", _setting(run, "seed") or MISSING),
    ]
    return [(name, value) for name, value in pairs if value != MISSING]


def sentences(run: Run) -> list[str]:
    """The run in short: what was trained on what, how far it got, and what it reached."""
    if not (run.manifest or run.log or run.probe or run.evaluation):
        return ["What this run did is not known: none of the files that would tell could be read."]
    if run.kind == "finetune":
        told = [_finetuned(run), *_evaluated(run.evaluation)]
    else:
        told = [_pretrained(run)]
        for name, probe in mapping(run.probe.get("probes")).items():
            told.extend(_probed(name, mapping(probe)))
        if len(told) == 1:
            told.append("There is no final probe, so nothing is known yet of what its features are worth.")
    if run.status == "running":
        told.append(
            f"The run was still going when this page was written: its figures are those up to step "
            f"{count(run.last_step)}."
        )
    elif run.status != "finished" and run.manifest:
        told.append("The run did not finish: its figures are those up to its end.")
    return told


def warnings(run: Run) -> list[str]:
    """What a reader must know before the figures: a failed run, reported events, skipped steps, no learning."""
    told = [f"The run {run.status}"] if run.status.startswith("failed") else []
    for event in run.events:
        at = f"step {count(event.first)}"
        if event.times > 1:
            at = f"steps {count(event.first)} to {count(event.last)}, {event.times} times"
        told.append(f"{event.kind} ({at}){': ' if event.message else ''}{event.message}")
    skipped = max((number(line.get("skipped")) or 0.0 for line in run.log), default=0.0)
    if skipped:
        told.append(f"{count(skipped)} steps were skipped because the loss or the gradient was not finite.")
    for name in modalities(run):
        last = _last(run, name)
        distance, chance = loss_over_chance(last), number(last.get("ln_k"))
        if distance is not None and chance and abs(distance) < _AT_CHANCE * chance:
            told.append(
                f"{modality(name)}: the last loss, {quantity(last['loss'])}, is within 1% of "
                f"ln K = {quantity(chance)}: no structure has been learnt there."
            )
    return told


def last_figures(run: Run) -> list[list[str]]:
    """Rows of the last logged figures, one per modality: the curves' ends as text."""
    keys = ("loss", "ln_k", "code_entropy", "prototypes_used", "feature_std", "passes")
    return [[modality(name), *(quantity(_last(run, name).get(key)) for key in keys)] for name in modalities(run)]


def score_rows(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the evaluation's table: measure, all classes; one per measure that is there, further heads' last."""
    metrics = mapping(evaluation.get("metrics"))
    names = {
        "auc": MEASURES["auc"],
        "ap": MEASURES["ap"],
        "accuracy": f"accuracy at threshold {_threshold(metrics)}",
        "sensitivity": f"sensitivity at specificity {score(mapping(metrics.get('sensitivity')).get('specificity'))}",
        "brier": "Brier score",
        "calibration_error": "expected calibration error",
        **MEASURES,
    }
    further = [key.partition(" of ") for key in metrics if " of " in key]  # as "auc of types"
    rows = [(text, key) for key, text in names.items() if key in metrics]
    rows += [(f"{MEASURES.get(measure, measure)} of {head}", f"{measure} of {head}") for measure, _, head in further]
    return [[text, estimate(metrics[key])] for text, key in rows]


def encoder_name(run: Run) -> str:
    """The encoder that fine-tuning began from, without the folders above it."""
    return short_encoder(run.evaluation.get("encoder") or run.manifest.get("encoder"))


def short_encoder(encoder: Any) -> str:
    """An encoder without the folders above it, which are nobody's business in a page that is passed on."""
    given = str(encoder or "")
    if given in ("", "none"):
        return "none" if given else MISSING
    path = PurePosixPath(given.replace("\\", "/"))
    return path.parent.name if path.name == "encoder.safetensors" and path.parent.name else path.name


def label_name(run: Run) -> str:
    """The label that a fine-tuning run learnt."""
    return str(run.evaluation.get("label") or run.manifest.get("label") or _setting(run, "label") or MISSING)


def _pretrained(run: Run) -> str:
    stores = [mapping(store) for store in listing(run.manifest.get("stores"))]
    images: dict[str, float] = {}
    for store in stores:
        for name, number_of in mapping(store.get("images")).items():
            images[name] = images.get(name, 0.0) + (number(number_of) or 0.0)
    method = _setting(run, "method")
    text = "An encoder was pretrained" + (f" with {method}" if method else "")
    if images:
        parts = [f"{count(number_of)} {modality(name)}" for name, number_of in images.items()]
        text += f" on {series(parts)} images from {_stores(stores)}"
    return f"{text}{_extent(run)}."


def _finetuned(run: Run) -> str:
    task = str(run.evaluation.get("task") or "classification")
    encoder = encoder_name(run)
    begun = {
        "none": " from random weights (no encoder)",
        MISSING: "",
    }.get(encoder, f" from the encoder {encoder}")
    return f"A model for {label_name(run)} ({task}) was fine-tuned{begun}{_extent(run)}."


def _evaluated(evaluation: Mapping[str, Any]) -> list[str]:
    metrics = mapping(evaluation.get("metrics"))
    if not metrics:
        return ["There are no test figures."]
    auc, froc = mapping(metrics.get("auc")), metrics.get("froc_iou_0.1")
    last = (
        f"accuracy {estimate(metrics.get('accuracy'))} at threshold {_threshold(metrics)}"
        if froc is None
        else f"a mean fROC sensitivity of {estimate(froc)} at IoU 0.1"
    )
    told = [
        f"On {count(evaluation.get('n_images'))} {evaluation.get('split', 'test')} {evaluation.get('unit', 'image')}s "
        f"of {count(evaluation.get('n_patients'))} patients it reaches AUC {estimate(auc)}, "
        f"AP {estimate(metrics.get('ap'))} and {last}."
    ]
    low = number(auc.get("low"))
    if number(auc.get("value")) is None:
        told.append("The AUC is not defined, because the images hold only one class.")
    elif low is None:
        told.append("There is no interval: it takes at least two patients.")
    elif low <= 0.5:
        told.append("The AUC's interval reaches down to 0.5: these images do not show that it beats chance.")
    return told


@dataclass(frozen=True)
class _Best:
    """The better of one row's two probes."""

    features: str
    probe: str
    figures: Mapping[str, Any]


def _threshold(metrics: Mapping[str, Any]) -> str:
    threshold = number(mapping(metrics.get("accuracy")).get("threshold"))
    return MISSING if threshold is None else f"{threshold:g}"


def _probed(name: str, probe: Mapping[str, Any]) -> list[str]:
    """The better probe of each kind of features: choosing for ours alone would flatter us."""
    found = [_best(mapping(row)) for row in listing(probe.get("rows"))]
    ours = next((best for best in found if best and best.features == "this encoder"), None)
    if ours is None:
        return []
    others = [best for best in found if best and best is not ours]
    told = [f"{estimate(ours.figures)} with this encoder ({ours.probe})"]
    told += [f"{estimate(best.figures)} with “{best.features}” ({best.probe})" for best in others]
    text = (
        f"Probe of {name} ({modality(str(probe.get('modality', '')))}, {count(probe.get('test_images'))} test "
        f"images of {count(probe.get('test_patients'))} patients), AUC of the better of two probes: "
        f"{series(told)}."
    )
    verdicts = [f"{_verdict(ours.figures, best.figures)} “{best.features}”" for best in others]
    return [text + (f" The encoder {series(verdicts)}." if verdicts else "")]


def _best(row: Mapping[str, Any]) -> _Best | None:
    found = {"linear": mapping(row.get("linear_auc")), "kNN": mapping(row.get("knn_auc"))}
    values = {probe: number(figures.get("value")) for probe, figures in found.items()}
    known = {probe: value for probe, value in values.items() if value is not None}
    if not known:
        return None
    probe = max(known, key=lambda probe: known[probe])
    return _Best(str(row.get("features", "")), probe, found[probe])


def _verdict(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Interval against interval: cautious, as a paired test could part what overlaps here."""
    value, than = number(ours.get("value")), number(other.get("value"))
    low, high = number(ours.get("low")), number(other.get("high"))
    if value is None or than is None or value <= than:
        return "is not better than"
    if low is not None and high is not None and low > high:
        return "is better than"
    return "is not shown to be better (overlapping intervals) than"


def _extent(run: Run) -> str:
    """ " for 400 steps in 13 min 32 s", as far as known."""
    seconds = _seconds(run)
    steps = f" for {count(run.last_step)} steps" if run.last_step else ""
    return steps + (f" in {duration(seconds)}" if number(seconds) is not None else "")


def _seconds(run: Run) -> Any:
    logged = run.log[-1].get("seconds") if run.log else None
    return logged if number(run.manifest.get("seconds")) is None else run.manifest["seconds"]


def _stores(stores: list[dict[str, Any]]) -> str:
    """Names only: the folders above a store are nobody's business in a page that is passed on."""
    names = [PurePosixPath(str(store.get("path", "?")).replace("\\", "/")).name for store in stores]
    named = series([f"“{name}”" for name in names])
    return f"{'the store' if len(names) == 1 else 'the stores'} {named}"


def _device(host: Mapping[str, Any]) -> str:
    cores = count(host.get("cores"))
    device = str(host.get("device") or MISSING)
    if device == "cpu" and cores != MISSING:
        return f"{cores} CPU cores"
    return device


def _last(run: Run, name: str) -> dict[str, Any]:
    lines = (mapping(mapping(line.get("modalities")).get(name)) for line in reversed(run.log))
    return next((line for line in lines if line), {})


def _setting(run: Run, name: str) -> str:
    return next((setting.value for setting in run.settings if setting.name == name), "")
