"""Recipes: every setting of a pretraining in one dataclass, named ones as YAML."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from scoutview.encoders import PATCH, InputSize
from scoutview.errors import UsageError
from scoutview.files import read_yaml
from scoutview.views import ViewSettings, ViewSize
from scoutview.views.parameters import in_plane

Auto = Literal["auto"]


@dataclass(frozen=True)
class Recipe:
    """The settings of a pretraining. Those that a recipe leaves out are the paper's for 2D (Table I).

    Attributes:
        method: swav (the paper's), simclr (crops [2]), dino or supervised (from `label` alone).
        label: name of a label to learn from, or of several findings; of images, series or studies of split train.
            Values 0 and 1 are a finding, "a|b" are several, others are exclusive classes.
        alpha: weight of the method's loss beside that of a label (Eq. 7).
        beta: weight of the label's loss.
        encoder: network name: resnet18, resnet50, resnet50w2, resnet50w4, resnet152, or any width as resnet18w0.5, or
            vit_tiny, vit_small, vit_base; resnets with _3d, and densenet_3d, for volumes.
        steps: optimizer steps.
        batch_size: images per step over all ranks, in equal parts from each modality.
        proportional: parts in proportion to the images of each modality instead.
        seed: of weights, order and views.
        workers: loader processes per rank.
        precision: bf16, fp32 or auto.
        compile: whether torch compiles the encoder.
        accumulate: parts in which a rank's batch goes through the encoder; codes are balanced over the whole batch.
        checkpoint_activations: compute blocks of the encoder again for the backward pass instead of keeping them.
        splits: which splits are used; test is left out so that it stays a test.
        where: an SQL expression over the catalog; images that do not pass it are left out (docs/filters.md).
        head: whether head CT is cropped to the brain, which is then scaled to the input size.
        damaged: what to do about an image whose checksum is wrong: raise, or replace it by the next of its modality, up
            to one in a thousand.
        crops: number of views of each kind.
        sizes: size of each kind in px: a side, or rows and columns; of volumes slices, rows and columns.
        visible: per kind, range of the share of the short side that a crop shows; none is the paper's rescale rule.
        fraction: range of the rescale factor; null is any short side within its range.
        short_sides: range of the rescaled short side in px.
        energy: probability of the energy augmentation.
        gamma_chance: probability of the gamma augmentation.
        linear_chance: probability of the linear intensity augmentation.
        photo: augment views as photographs are (horizontal flip, brightness, contrast, blur), as a baseline.
        code_crops: the views that give codes, as indices.
        temperature: tau of Eq. 1, and of the student of dino.
        teacher_temperature: of dino; below `temperature`, which sharpens.
        teacher_momentum: of dino at the first step; it rises to 1.
        epsilon: entropy weight of Eq. 3.
        sinkhorn_rounds: rounds of row and column normalisation.
        projection: dimension F of the projection.
        projector_hidden: width of the projector.
        prototypes: K, per modality; of dino the outputs, for all modalities.
        shared_prototypes: one set of prototypes, and one queue, for all modalities together instead of one for each.
        queue: features kept per modality and code crop.
        queue_start: step from which the queue is used.
        freeze_prototypes: steps for which prototypes stay as they are.
        optimizer: larc (SGD with momentum and LARC, the paper's) or adamw (for transformers).
        learning_rate: of the optimizer, at the end of the warm-up.
        final_learning_rate: at the last step of the cosine.
        warmup: steps of linear warm-up.
        momentum: of SGD.
        weight_decay: on all parameters.
        trust: trust coefficient of LARC.
        input_size: side in px of the square that the finished encoder is shown; of volumes slices, rows and columns.
        log_every: steps between lines of metrics.jsonl.
        probe_every: steps between kNN probes on labels of the store, if it has any; 0 is never.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints kept.
        skip_limit: non-finite steps in a row that end the run.
    """

    method: Literal["swav", "simclr", "dino", "supervised"] = "swav"
    label: tuple[str, ...] | str | None = None
    alpha: float = 1.0
    beta: float = 1.0
    encoder: str = "resnet50w2"
    steps: int = 126_700
    batch_size: int = 1024
    proportional: bool = False
    seed: int = 0
    workers: int | Auto = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool | Auto = "auto"
    accumulate: int = 1
    checkpoint_activations: bool = False
    splits: tuple[str, ...] = ("train", "validation")
    where: str | None = None
    head: bool = False
    damaged: Literal["raise", "replace"] = "raise"
    crops: tuple[int, ...] = (2, 6)
    sizes: tuple[ViewSize, ...] = (224, 92)
    visible: tuple[tuple[float, float], ...] | None = None
    fraction: tuple[float, float] | None = (0.1, 0.7)
    short_sides: tuple[float, float] = (600.0, 1200.0)
    energy: float = 0.5
    gamma_chance: float = 0.5
    linear_chance: float = 0.5
    photo: bool = False
    code_crops: tuple[int, ...] = (0, 1)
    temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_momentum: float = 0.996
    epsilon: float = 0.03
    sinkhorn_rounds: int = 3
    projection: int = 128
    projector_hidden: int | Auto = "auto"
    prototypes: int | Auto = "auto"
    shared_prototypes: bool = False
    queue: int | Auto = "auto"
    queue_start: int = 12_670
    freeze_prototypes: int = 10_000
    optimizer: Literal["larc", "adamw"] = "larc"
    learning_rate: float = 0.6
    final_learning_rate: float = 0.0006
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-6
    trust: float = 0.001
    input_size: InputSize | Auto = "auto"
    log_every: int = 10
    probe_every: int | Auto = "auto"
    checkpoint_every: int | Auto = "auto"
    keep: int = 3
    skip_limit: int = 10

    def __post_init__(self) -> None:
        views = sum(self.crops)
        problems = [
            (self.steps < 1, f"steps {self.steps} must be 1 or more"),
            (self.batch_size < 1, f"batch_size {self.batch_size} must be 1 or more"),
            (self.accumulate < 1, f"accumulate {self.accumulate} must be 1 or more"),
            (len(self.crops) != len(self.sizes), f"crops {self.crops} and sizes {self.sizes} must be of one length"),
            (
                views < 2 and self.method != "supervised",
                f"crops {self.crops} give {views} view: swapped prediction needs two or more",
            ),
            (
                self.method == "dino" and not 0 < self.teacher_temperature < self.temperature,
                f"teacher_temperature {self.teacher_temperature} must lie between 0 and temperature {self.temperature}",
            ),
            (not 0 <= self.teacher_momentum < 1, f"teacher_momentum {self.teacher_momentum} must lie in [0, 1)"),
            (
                self.method == "simclr" and self.crops != (2,),
                f"crops {self.crops}: simclr compares two views of one size: use crops [2] and sizes [{self.sizes[0]}]",
            ),
            (min(self.alpha, self.beta) < 0, f"alpha {self.alpha} and beta {self.beta} must be 0 or more"),
            (self.method == "supervised" and not self.label, "method supervised needs a label: set label NAME"),
            (min(min(in_plane(size)) for size in self.sizes) < 32, f"sizes {self.sizes}: a crop needs 32 px or more"),
            *self._network_problems(),
            (
                self.method == "swav" and not (self.code_crops and all(0 <= crop < views for crop in self.code_crops)),
                f"code_crops {self.code_crops} must name views between 0 and {views - 1}",
            ),
            (
                self.visible is not None
                and (len(self.visible) != len(self.crops) or not all(0 < a <= b <= 1 for a, b in self.visible)),
                f"visible {self.visible} needs a range within (0, 1] for each kind of crop",
            ),
            (self.epsilon < 0.023, f"epsilon {self.epsilon} is below 0.023, where exp(-2 / epsilon) leaves fp32"),
            (self.temperature <= 0, f"temperature {self.temperature} must be above 0"),
            (self.prototypes != "auto" and self.prototypes < 2, f"prototypes {self.prototypes} must be 2 or more"),
        ]
        for wrong, message in problems:
            if wrong:
                raise UsageError(message)

    def _network_problems(self) -> list[tuple[bool, str]]:
        sides = 3 if self.spatial_dims == 3 else 1
        volumes = [isinstance(size, tuple) and len(size) == 3 and size[0] > 0 for size in self.sizes]
        shown = 1 if isinstance(self.input_size, int) else len(self.input_size)
        lengths = [side for size in self.sizes for side in in_plane(size)]
        lengths += [self.input_size] if isinstance(self.input_size, int) else []
        return [
            (
                volumes != [self.spatial_dims == 3] * len(volumes),
                f"sizes {self.sizes} do not fit {self.encoder}: a network with _3d takes slices, rows and columns, "
                "others a side, or rows and columns",
            ),
            (
                self.input_size != "auto" and shown != sides,
                f"input_size {self.input_size} does not fit {self.encoder}: give {sides} number{'s' * (sides > 1)}",
            ),
            (self.head and self.spatial_dims == 2, f"head crops volumes, and {self.encoder} takes images"),
            (
                self.encoder.startswith("vit_") and any(side % PATCH for side in lengths),
                f"sides {lengths} of sizes and input_size are no multiples of the patches of {self.encoder}: use "
                f"{[max(round(side / PATCH), 1) * PATCH for side in lengths]}",
            ),
        ]

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes; the encoder's name says it."""
        return 3 if self.encoder.endswith("_3d") else 2

    def view_settings(self) -> ViewSettings:
        """The part that the views need."""
        return ViewSettings(
            crops=self.crops,
            sizes=self.sizes,
            visible=self.visible,
            fraction=self.fraction,
            short_sides=self.short_sides,
            energy=self.energy,
            gamma_chance=self.gamma_chance,
            linear_chance=self.linear_chance,
            photo=self.photo,
        )


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("scoutview.recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(recipe: str | Path, settings: Mapping[str, Any]) -> Recipe:
    """A named recipe or a YAML file, with `settings` replacing single values.

    Raises:
        UsageError: if there is no such recipe or key, or a value is of the wrong kind.
    """
    if str(recipe) in recipe_names():
        text = resources.files("scoutview.recipes").joinpath(f"{recipe}.yaml").read_text(encoding="utf-8")
    elif Path(recipe).is_file():
        text = Path(recipe).read_text(encoding="utf-8", errors="replace")
    else:
        raise UsageError(f"no recipe {str(recipe)!r}: use {', '.join(recipe_names())}, or the path of a YAML file")
    try:
        values = read_yaml(text) or {}
    except ValueError as error:
        raise UsageError(f"{recipe} is no YAML of settings: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{recipe} holds no settings: write one `key: value` a line")
    values.pop("reasons", None)
    return make_recipe({**values, **settings})


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, checked against the types of its fields."""
    hints = typing.get_type_hints(Recipe)
    checked = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(hints)}"
            raise UsageError(f"unknown setting {key!r}: {hint}")
        checked[key] = _checked(key, value, hints[key])
    return Recipe(**checked)


def _checked(key: str, value: Any, hint: Any) -> Any:
    fitted = _fit(value, hint)
    if fitted is _MISFIT:
        text = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise UsageError(f"setting {key}: {value!r} does not fit {text}")
    return fitted


_MISFIT = object()


def _fit(value: Any, hint: Any) -> Any:
    """`value` as the type `hint` wants it (lists become tuples, ints floats), or _MISFIT."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value if value in parts else _MISFIT
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return _MISFIT
        inner = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(inner) != len(value):
            return _MISFIT
        items = tuple(_fit(item, part) for item, part in zip(value, inner, strict=True))
        return _MISFIT if _MISFIT in items else items
    if parts:
        fitting = [_fit(value, part) for part in parts]
        return next((item for item in fitting if item is not _MISFIT), _MISFIT)
    if hint is type(None):
        return None if value is None else _MISFIT
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is hint else _MISFIT
