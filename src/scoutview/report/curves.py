"""Small multiples over training steps, from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scoutview.report.read import Run, mapping, number
from scoutview.report.svg import INKS, SERIES, figure, inline, short
from scoutview.report.wording import MODALITY_NAMES, modality, quantity

_HEIGHT, _WIDTH = 160.0, 265.0  # points
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_HEAD_INKS = ("accent", "ct", "mr", "us")
_LONGEST_LABEL = 18  # characters beside a curve; tables hold the whole name


@dataclass(frozen=True)
class Panel:
    """One small figure: its title, one sentence on how to read it, and the picture."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True)
class Line:
    """A labelled curve: the name of its ink, its dashes, and (step, value) points."""

    label: str
    ink: str
    dashes: Any
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Reference:
    """A horizontal line with a meaning; `always` keeps it in view."""

    value: float
    label: str
    always: bool = True


@dataclass(frozen=True)
class Plot:
    """Curves over steps with a title and a note."""

    title: str
    note: str
    lines: Sequence[Line]
    reference: Reference | None = None
    limits: tuple[float, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def modalities(run: Run) -> list[str]:
    """The modalities that the log mentions, the known ones first and in their fixed order."""
    seen = {name for line in run.log for name in mapping(line.get("modalities"))}
    return sorted(seen, key=lambda name: ([*MODALITY_NAMES, name].index(name), name))


def training_panels(run: Run, prefix: str) -> list[Panel]:
    """The panels that metrics.jsonl has figures for, in reading order."""
    colours = modality_inks(modalities(run))

    def of_modality(figure_of: Callable[[Mapping[str, Any]], float | None]) -> list[Line]:
        return [
            Line(modality(name), ink, "-", _points(_parts(run.log, "modalities", name), figure_of))
            for name, ink in colours.items()
        ]

    def of_run(key: str, lines: Sequence[Mapping[str, Any]] = run.log) -> list[Line]:
        return [Line("", "accent", "-", _column(lines, key))]

    plots = [
        Plot(
            "Loss minus ln K",
            "Zero is the loss of guessing among the K prototypes; the encoder learns as it falls below.",
            of_modality(loss_over_chance),
            Reference(0.0, "ln K: no structure learnt yet"),
        ),
        Plot(
            "Prototypes used",
            "Share of the prototypes that are nearest to some recent image.",
            of_modality(lambda line: number(line.get("prototypes_used"))),
            limits=(0.0, 1.05),
        ),
        Plot(
            "Code entropy",
            "Of an image's code, in nats: 0 is one prototype, ln K is all of them alike.",
            of_modality(lambda line: number(line.get("code_entropy"))),
        ),
        Plot(
            "Feature spread",
            "Standard deviation of the features over images; near 0 all images look alike to the encoder.",
            of_modality(lambda line: number(line.get("feature_std"))),
            Reference(0.0, ""),
        ),
        Plot(
            "Probe AUC",
            "Nearest neighbours on a labelled subset, during training; a small sample, without interval.",
            _probe_lines(run, colours),
            Reference(0.5, "chance"),
        ),
        _validation_auc(run),
        Plot(
            "Validation fROC",
            "Mean sensitivity at nine points, IoU 0.1, on the validation images.",
            of_run("validation_froc", run.validations),
            Reference(0.0, ""),
        ),
        Plot(
            "Validation Dice",
            "Of the masks of the validation slices, which choose the checkpoint.",
            of_run("validation_dice", run.validations),
            Reference(0.0, ""),
        ),
        *([] if colours else [Plot("Training loss", "On the training batches.", of_run("loss"))]),
        Plot("Learning rate", "As scheduled.", of_run("learning_rate"), Reference(0.0, "")),
        Plot("Images per second", "Over all processes.", of_run("images_per_second"), Reference(0.0, "")),
    ]
    drawn = [plot for plot in plots if any(line.points for line in plot.lines)]
    return [over_steps(plot, f"{prefix}-{index}-") for index, plot in enumerate(drawn)]


def loss_over_chance(line: Mapping[str, Any]) -> float | None:
    """loss - ln K of one modality's part of a log line, None where either is missing."""
    loss, chance = number(line.get("loss")), number(line.get("ln_k"))
    return None if loss is None or chance is None else loss - chance


def modality_inks(names: Sequence[str]) -> dict[str, str]:
    """A colour per modality: the four known ones always have their own."""
    others = iter([ink for ink in SERIES if ink not in MODALITY_NAMES] * len(names))
    return {name: name if name in MODALITY_NAMES else next(others) for name in names}


def _parts(lines: Sequence[Mapping[str, Any]], key: str, name: str) -> list[dict[str, Any]]:
    """What each line says under `key` about `name`, with the line's step."""
    return [{**mapping(mapping(line.get(key)).get(name)), "step": line["step"]} for line in lines]


def _points(
    lines: Sequence[Mapping[str, Any]], figure_of: Callable[[Mapping[str, Any]], float | None]
) -> list[tuple[float, float]]:
    values = [(float(line["step"]), figure_of(line)) for line in lines]
    return [(step, value) for step, value in values if value is not None]


def _column(lines: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return _points(lines, lambda line: number(line.get(key)))


def _probe_lines(run: Run, colours: Mapping[str, str]) -> list[Line]:
    """One line per label in its modality's colour; a second label of a modality is dashed."""
    probes = {
        name: str(mapping(probe).get("modality", ""))
        for line in run.probes
        for name, probe in mapping(line["probe"]).items()
    }
    inks = modality_inks(sorted(set(probes.values()) | set(colours)))
    taken: dict[str, int] = {}
    lines = []
    for name in sorted(probes):
        ink = inks[probes[name]]
        dashes = _DASHES[taken.setdefault(ink, 0) % len(_DASHES)]
        taken[ink] += 1
        points = _points(_parts(run.probes, "probe", name), lambda part: number(part.get("auc")))
        lines.append(Line(name, ink, dashes, points))
    return lines


def _validation_auc(run: Run) -> Plot:
    """One line, or one per head of a model with several, as validation_volume_auc."""
    keys = dict.fromkeys(key for line in run.validations for key in line if key.endswith("auc"))
    heads = {key: key.removeprefix("validation_").removesuffix("auc").removesuffix("_") for key in keys}
    lines = [
        Line(head, ink, "-", _column(run.validations, key))
        for (key, head), ink in zip(heads.items(), _HEAD_INKS, strict=False)
    ]
    note = "On the validation cases, " + ("by head; the first head's chooses" if len(lines) > 1 else "which choose")
    return Plot("Validation AUC", f"{note} the checkpoint.", lines, Reference(0.5, "chance"))


def over_steps(plot: Plot, prefix: str) -> Panel:
    """The plot as a panel; `prefix` makes the ids of its SVG unique."""
    lines = [line for line in plot.lines if line.points]
    labels = [short(line.label, _LONGEST_LABEL) for line in lines]
    drawing, axes = figure(_WIDTH, _HEIGHT)
    right = 10 + 5.0 * max(map(len, labels))
    drawing.subplots_adjust(left=36 / _WIDTH, right=1 - right / _WIDTH, bottom=32 / _HEIGHT, top=1 - 10 / _HEIGHT)
    for line in lines:
        x, y = np.asarray(line.points).T
        axes.plot(
            x,
            y,
            color=INKS[line.ink],
            linewidth=1.5,
            linestyle=line.dashes,
            marker="o" if len(x) < 12 else None,
            markersize=3,
            solid_capstyle="round",
        )
    if plot.reference is not None:
        _draw_reference(axes, plot.reference)
    if plot.limits:
        axes.set_ylim(*plot.limits)
    axes.set_xlim(0, max(line.points[-1][0] for line in lines) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xlabel("step", fontsize=8.5, color=INKS["quiet"], labelpad=2)
    _label_ends(axes, lines, labels)
    last = ", ".join(f"{line.label or plot.title.lower()} {quantity(line.points[-1][1])}" for line in lines)
    alternative = f"{plot.title} over training steps; at step {lines[0].points[-1][0]:,.0f}: {last}"
    return Panel(plot.title, plot.note, inline(drawing, alternative, prefix))


def _draw_reference(axes: Axes, reference: Reference) -> None:
    axes.axhline(reference.value, color=INKS["quiet"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    bottom, top = axes.get_ylim()
    room = 0.16 * (top - bottom) if reference.label else 0.0
    # Words go above the line, where room is made for them.
    axes.set_ylim(bottom, max(top, reference.value + room))
    if reference.label:
        axes.annotate(
            reference.label,
            (1, reference.value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2.5),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=INKS["quiet"],
        )


def _label_ends(axes: Axes, lines: Sequence[Line], labels: Sequence[str]) -> None:
    """Names beside the ends of the lines, moved apart where they would touch."""
    bottom, top = axes.get_ylim()
    room = _HEIGHT - 42.0
    heights = [(line.points[-1][1] - bottom) / (top - bottom) for line in lines]
    for index, height in enumerate(_moved_apart(heights, 11.0 / room)):
        axes.text(
            1.02,
            height,
            labels[index],
            transform=axes.transAxes,
            va="center",
            fontsize=9,
            color=INKS[lines[index].ink],
            parse_math=False,
        )


def _moved_apart(heights: Sequence[float], apart: float) -> list[float]:
    """Heights at least `apart` from each other, in the same order; those that crowd stay centred together."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    crowds: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        crowd, centre = [index], heights[index]
        while crowds and centre - centres[-1] < apart * (len(crowd) + len(crowds[-1])) / 2:
            crowd, _ = crowds.pop() + crowd, centres.pop()
            centre = sum(heights[one] for one in crowd) / len(crowd)
        crowds.append(crowd)
        centres.append(centre)
    placed = list(heights)
    for crowd, centre in zip(crowds, centres, strict=True):
        for rank, index in enumerate(crowd):
            placed[index] = centre + apart * (rank - (len(crowd) - 1) / 2)
    return placed
