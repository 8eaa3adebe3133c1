"""The batch plan: every image once per epoch, equal modalities on every rank, nothing but (seed, step) matters."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from scoutview.batches import BatchPlan
from scoutview.errors import UsageError


def make_plan(counts: tuple[int, ...] = (50, 31, 90, 24), batch: int = 48, seed: int = 3, ranks: int = 1) -> BatchPlan:
    edges = np.cumsum([0, *counts])
    names = ("xray", "ct", "mr", "us")
    images = {name: list(range(edges[k], edges[k + 1])) for k, name in enumerate(names[: len(counts)])}
    series = [f"image-{index}" for index in range(edges[-1])]
    return BatchPlan.make(images, series, batch, seed, ranks)


def test_every_image_once_per_epoch_also_across_batches_that_straddle_epochs() -> None:
    plan = make_plan()
    share = plan.share
    stream = [[draw.index for draw in plan.batch(step)] for step in range(60)]
    first = 0
    for number, count in enumerate((50, 31, 90, 24)):
        sequence = [index for batch in stream for index in batch[number * share : (number + 1) * share]]
        for epoch in range(len(sequence) // count):
            assert sorted(sequence[epoch * count : (epoch + 1) * count]) == list(range(first, first + count))
        first += count


def test_orders_differ_between_epochs_seeds_and_modalities() -> None:
    plan = make_plan((40, 40), batch=80)
    first, second = ([draw.index for draw in plan.batch(step)] for step in (0, 1))
    assert first[:40] != second[:40]
    assert [index - 40 for index in first[40:]] != first[:40]
    other = [draw.index for draw in make_plan((40, 40), batch=80, seed=4).batch(0)]
    assert other != first


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 12])
def test_the_global_batch_is_the_same_on_any_number_of_ranks(ranks: int) -> None:
    plan = make_plan()
    for step in (0, 1, 17):
        whole = plan.batch(step)
        parts = [make_plan(ranks=ranks).batch(step, rank, ranks) for rank in range(ranks)]
        joined = sorted(itertools.chain(*parts), key=lambda draw: draw.position)
        assert joined == whole
        for part in parts:
            assert set(Counter(draw.position // plan.share for draw in part).values()) == {plan.share // ranks}
            by_modality = [draw.position for draw in part if draw.position < plan.share]
            assert by_modality == list(range(by_modality[0], by_modality[0] + len(by_modality)))


def test_any_step_can_be_asked_for_first() -> None:
    assert make_plan().batch(123) == [*make_plan().batches(0, 124)][123]


def series_plan(per_series: list[int], batch: int, seed: int) -> tuple[BatchPlan, list[str]]:
    series = [f"s{number}" for number, count in enumerate(per_series) for _ in range(count)]
    return BatchPlan.make({"ct": range(len(series))}, series, batch, seed), series


@pytest.mark.parametrize("seed", range(5))
def test_slices_of_a_series_do_not_meet_when_there_are_four_series_per_place(seed: int) -> None:
    generator = np.random.default_rng(seed)
    plan, series = series_plan([int(count) for count in generator.integers(1, 30, 40)], 10, seed)
    assert plan.orders[0].separates_series
    for step in range(4 * len(series) // 10):
        names = [series[draw.index] for draw in plan.batch(step)]
        assert len(set(names)) == len(names), f"step {step}"


def test_with_fewer_series_they_are_spread_and_nothing_is_lost() -> None:
    plan, series = series_plan([40] * 6, 12, 0)
    assert not plan.orders[0].separates_series
    worst = max(max(Counter(series[draw.index] for draw in plan.batch(step)).values()) for step in range(20))
    assert worst <= 4  # spread evenly, twelve places hold two of each of six series
    assert sorted(draw.index for step in range(20) for draw in plan.batch(step)) == list(range(240))


def test_passes_count_how_often_a_modality_was_seen() -> None:
    assert make_plan().passes(100) == pytest.approx({"xray": 24.0, "ct": 1200 / 31, "mr": 1200 / 90, "us": 50.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 50}, "no multiple of the 4 modalities.*use 48 or 52"),
        ({"batch": 100}, "modality us has 24 images, its share of the batch is 25: use batch_size 96 or less"),
        ({"batch": 48, "ranks": 5}, "5 ranks cannot share 12 images.*use 1, 2, 3, 4, 6, 12 ranks"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_with_what_would_fit(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(**arguments)
