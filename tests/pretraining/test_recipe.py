"""Recipes: the published values, auto with reasons, wrong names and values refused; collapse noticed and explained."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scoutview.errors import UsageError
from scoutview.pretraining import Recipe, load_recipe, resolve
from scoutview.pretraining.collapse import collapse_warning
from scoutview.pretraining.recipe import recipe_names


def test_the_paper_recipes_hold_table_one() -> None:
    xray, mixed = load_recipe("xray_2d", {}), load_recipe("mixed_2d", {})
    assert (xray.crops, xray.sizes, xray.short_sides, xray.fraction) == ((2, 6), (224, 92), (600, 1200), (0.1, 0.7))
    assert (xray.temperature, xray.epsilon, xray.sinkhorn_rounds, xray.projection) == (0.1, 0.03, 3, 128)
    assert (xray.learning_rate, xray.final_learning_rate, xray.weight_decay) == (0.6, 0.0006, 1e-6)
    assert (xray.steps, xray.batch_size, xray.freeze_prototypes) == (126_700, 1024, 10_000)
    assert mixed.steps == 507_000
    assert resolve(xray, {"xray": 1_297_699}).prototypes == {"xray": 3000}


def test_auto_queue_has_the_published_ratio_in_whole_shares() -> None:
    settings = resolve(load_recipe("xray_2d", {}), {"xray": 1_297_699})
    assert settings.queue == {"xray": 3072}
    assert pytest.approx(1.365, abs=1e-3) == (1024 + 3072) / 3000
    mixed = resolve(load_recipe("mixed_2d", {}), dict.fromkeys(("xray", "ct", "mr", "us"), 10**7))
    assert mixed.queue == dict.fromkeys(("xray", "ct", "mr", "us"), 3840)
    small = resolve(Recipe(batch_size=96, prototypes=32), dict.fromkeys(("xray", "ct", "mr", "us"), 800))
    assert set(small.queue.values()) == {0}


@pytest.mark.parametrize(("images", "prototypes"), [(10, 2), (100, 2), (128, 4), (5000, 128), (10**9, 3000)])
def test_auto_prototypes_fit_the_number_of_images(images: int, prototypes: int) -> None:
    assert resolve(Recipe(), {"ct": images}).prototypes == {"ct": prototypes}


def test_every_auto_is_resolved_with_a_reason() -> None:
    settings = resolve(Recipe(), {"ct": 1000})
    config = settings.config()
    assert "auto" not in config.values()
    autos = {name for name, value in vars(Recipe()).items() if value == "auto"}
    assert autos <= set(settings.reasons) | {"precision"}
    assert all(settings.reasons.values())


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name, {"steps": 7, "seed": 3}).steps == 7


def test_a_written_configuration_is_a_recipe_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("encoder: resnet18\nvisible: [[0.4, 1], [0.2, 0.5]]\nreasons: {queue: because}\n")
    recipe = load_recipe(file, {"steps": 9})
    assert recipe.visible == ((0.4, 1.0), (0.2, 0.5))
    assert recipe.steps == 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, "unknown setting 'stepz': did you mean steps"),
        ({"steps": "many"}, "setting steps: 'many' does not fit int"),
        ({"steps": 0}, "steps 0 must be 1 or more"),
        ({"method": "moco"}, "setting method: 'moco'"),
        ({"sizes": [64]}, "must be of one length"),
        ({"code_crops": [0, 9]}, "must name views between 0 and 7"),
        ({"epsilon": 0.01}, "epsilon 0.01 is below 0.023"),
        ({"visible": [[0.5, 2.0], [0.1, 0.2]]}, "needs a range within"),
        ({"crops": [1, 0]}, "swapped prediction needs two"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe("xray_2d", values)
    assert "\n" not in str(error.value)


def test_unknown_recipes_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no recipe 'small': use ct_3d, demo, mixed_2d, plain_swav, small_cpu, xray_2d"
    ):
        load_recipe("small", {})
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="is no YAML"):
        load_recipe(tmp_path / "broken.yaml", {})


def lines(loss: float, entropy: float = 1.0, spread: float = 0.08, first: int = 500) -> list[dict]:
    values = {
        "loss": loss,
        "ln_k": math.log(32),
        "code_entropy": entropy,
        "feature_std": spread,
        "prototypes_used": 0.1,
    }
    good = {**values, "loss": 3.0}
    return [{"step": first + 10 * n, "modalities": {"ct": values, "mr": good}} for n in range(12)]


def settings_for(**changes: object):
    return resolve(Recipe(steps=1000, batch_size=48, prototypes=32, **changes), {"ct": 900, "mr": 900})


def test_collapse_is_named_with_this_runs_numbers() -> None:
    message = collapse_warning(lines(math.log(32) * 1.002), settings_for(epsilon=0.05, queue=0))
    assert message.startswith("collapsed: the loss of ct stayed within 1% of ln K")
    assert "24 samples + 0 in the queue for 32 prototypes of ct is a ratio of 0.75" in message
    assert "epsilon 0.05 is above 0.04" in message
    flat = collapse_warning(lines(math.log(32), entropy=3.4, spread=0.001), settings_for())
    assert "the codes of ct are flat (entropy 3.40 of at most 3.47)" in flat
    assert "the features of ct have shrunk to a point" in flat
    assert "32 prototypes of ct do not span a projection of 128 dimensions" in flat
    assert "set projection to about 16" in flat
    assert "do not span" not in collapse_warning(lines(math.log(32)), settings_for(projection=16))


def test_learning_starting_and_short_runs_are_not_called_collapsed() -> None:
    assert collapse_warning(lines(3.2), settings_for()) is None
    assert collapse_warning(lines(math.log(32), first=10), settings_for()) is None
    assert collapse_warning(lines(math.log(32))[:5], settings_for()) is None


def test_a_loss_that_was_not_finite_is_no_collapse() -> None:
    torn = lines(math.log(32))
    torn[-1] = {**torn[-1], "modalities": {name: {**v, "loss": None} for name, v in torn[-1]["modalities"].items()}}
    assert collapse_warning(torn, settings_for()) is None
