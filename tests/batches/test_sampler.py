"""The batch plan: every image once per epoch, equal modalities on every rank, nothing but (seed, step) matters."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from scoutview.batches import BatchPlan, Selection, modality_shares
from scoutview.batches import lanes as lanes_module
from scoutview.batches.selection import CHUNK, Joined
from scoutview.errors import UsageError


def selection_of(series: np.ndarray, first: int = 0, chosen: np.ndarray | None = None) -> Selection:
    """A selection of images whose series have these ascending numbers."""
    flags = np.ones(len(series), dtype=bool) if chosen is None else chosen
    return Selection.of(flags, Joined.of([np.asarray(series)], [0]), first)


def make_plan(counts: tuple[int, ...] = (50, 31, 90, 24), batch: int = 48, seed: int = 3, ranks: int = 1) -> BatchPlan:
    edges = np.cumsum([0, *counts])
    names = ("xray", "ct", "mr", "us")
    selections = {
        name: selection_of(np.arange(counts[k]), int(edges[k])) for k, name in enumerate(names[: len(counts)])
    }
    return BatchPlan.make(selections, batch, seed, ranks)


def test_every_image_once_per_epoch_also_across_batches_that_straddle_epochs() -> None:
    plan = make_plan()
    share = plan.shares[0]
    stream = [[draw.index for draw in plan.batch(step)] for step in range(60)]
    first = 0
    for number, count in enumerate((50, 31, 90, 24)):
        sequence = [index for batch in stream for index in batch[number * share : (number + 1) * share]]
        for epoch in range(len(sequence) // count):
            assert sorted(sequence[epoch * count : (epoch + 1) * count]) == list(range(first, first + count))
        first += count


def test_orders_differ_between_epochs_seeds_and_modalities() -> None:
    plan = make_plan((40, 40), batch=8)
    first, second = (
        [draw.index for step in steps for draw in plan.batch(step)] for steps in (range(10), range(10, 20))
    )
    assert sorted(first) == sorted(second) == list(range(80))
    assert first != second
    assert [index - 40 for index in first if index >= 40] != [index for index in first if index < 40]
    other = [draw.index for step in range(10) for draw in make_plan((40, 40), batch=8, seed=4).batch(step)]
    assert other != first


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 12])
def test_the_global_batch_is_the_same_on_any_number_of_ranks(ranks: int) -> None:
    plan = make_plan()
    for step in (0, 1, 17):
        whole = list(plan.batch(step))
        parts = [list(make_plan(ranks=ranks).batch(step, rank, ranks)) for rank in range(ranks)]
        joined = sorted(itertools.chain(*parts), key=lambda draw: draw.position)
        assert joined == whole
        for part in parts:
            assert set(Counter(draw.position // plan.shares[0] for draw in part).values()) == {plan.shares[0] // ranks}
            by_modality = [draw.position for draw in part if draw.position < plan.shares[0]]
            assert by_modality == list(range(by_modality[0], by_modality[0] + len(by_modality)))


def test_any_step_can_be_asked_for_first() -> None:
    assert list(make_plan().batch(123)) == list([*make_plan().batches(0, 124)][123])


def test_steps_may_be_asked_for_in_any_order_and_by_any_rank_of_one_plan() -> None:
    plan = make_plan()
    for step, rank, ranks in [(70, 1, 2), (3, 0, 1), (71, 1, 2), (33, 2, 4), (70, 0, 2), (2, 3, 4), (34, 2, 4)]:
        assert list(plan.batch(step, rank, ranks)) == list(make_plan(ranks=ranks).batch(step, rank, ranks))


def test_a_lane_shows_its_blocks_in_the_order_of_generators_that_are_made_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a run goes on with the images that it would have seen before an update."""
    monkeypatch.setattr(lanes_module, "BLOCK", 10)
    monkeypatch.setattr(lanes_module, "WINDOW", 2)
    share, count, seed = 4, 45, 5
    plan = BatchPlan.make({"ct": selection_of(np.zeros(share * count, dtype=int))}, share, seed)
    for epoch, lane in itertools.product(range(3), range(share)):

        def shuffled(length: int, purpose: int, epoch: int = epoch, lane: int = lane) -> list[int]:
            counter = [0, 0, epoch, (lane << 32) + purpose]
            bits = np.random.Philox(key=seed + 2**64, counter=counter)
            return np.random.Generator(bits).permutation(length).tolist()

        blocks = [list(range(lane * count + 9 * block, lane * count + 9 * block + 9)) for block in range(5)]
        order = shuffled(5, 0)
        expected = []
        for window, part in enumerate((order[:2], order[2:4], order[4:])):
            images = [image for block in part for image in blocks[block]]
            expected += [images[place] for place in shuffled(len(images), window + 1)]
        assert [plan.batch(step)[lane].index for step in range(epoch * count, (epoch + 1) * count)] == expected


def series_plan(per_series: list[int], batch: int, seed: int) -> tuple[BatchPlan, list[int]]:
    series = np.repeat(np.arange(len(per_series)), per_series)
    return BatchPlan.make({"ct": selection_of(series)}, batch, seed), series.tolist()


@pytest.mark.parametrize("window", [1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_slices_of_a_series_do_not_meet_when_there_are_four_series_per_place(
    seed: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lanes of one block and of many, in windows of one block and of several, over four epochs."""
    if window < 8:
        monkeypatch.setattr(lanes_module, "BLOCK", 64 // window)
    monkeypatch.setattr(lanes_module, "WINDOW", window)
    generator = np.random.default_rng(seed)
    plan, series = series_plan([int(count) for count in generator.integers(1, 16, 120)], 10, seed)
    assert plan.lanes[0].separates_series
    for step in range(4 * len(series) // 10):
        names = [series[draw.index] for draw in plan.batch(step)]
        assert len(set(names)) == len(names), f"step {step}"


def test_with_fewer_series_they_are_spread_and_nothing_is_lost() -> None:
    plan, series = series_plan([40] * 6, 12, 0)
    assert not plan.lanes[0].separates_series
    worst = max(max(Counter(series[draw.index] for draw in plan.batch(step)).values()) for step in range(20))
    assert worst <= 4  # spread evenly, twelve places hold two of each of six series
    assert sorted(draw.index for step in range(20) for draw in plan.batch(step)) == list(range(240))


def test_series_that_fill_a_lane_are_not_promised_to_be_kept_apart() -> None:
    assert not series_plan([200] + [1] * 39, 10, 0)[0].lanes[0].separates_series
    assert series_plan([11] + [1] * 230, 10, 0)[0].lanes[0].separates_series


def test_a_lane_shows_one_part_of_the_archive_and_reads_few_stretches_of_it_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes_module, "BLOCK", 10)
    monkeypatch.setattr(lanes_module, "WINDOW", 3)
    plan = BatchPlan.make({"ct": selection_of(np.arange(4003))}, 8, 0)
    lanes = np.array([[draw.index for draw in plan.batch(step)] for step in range(2001)]).T
    for number, lane in enumerate(lanes):
        # 4003 / 8 images each; the borders move by less than a quarter of the number of lanes.
        assert lane.min() >= number * 4003 // 8 - 2
        assert lane.max() <= (number + 1) * 4003 // 8 + 2
        for begin in range(0, 450, 30):
            places = np.sort(lane[begin : begin + 30])
            assert 1 + np.sum(np.diff(places) > 10) <= 6  # of two windows of three blocks, each of ten images


def brute_selection(chosen: np.ndarray, first: int) -> list[int]:
    return [first + place for place, flag in enumerate(chosen) if flag]


@pytest.mark.parametrize("share", [0.003, 0.5, 1.0])
def test_a_selection_is_the_list_of_its_images(share: float) -> None:
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 400, 150)
    series = np.repeat(np.arange(150), lengths)
    chosen = generator.random(len(series)) < share
    cut = 2 * CHUNK + 5
    joined = Joined.of([series[:cut], series[cut:] - 7], [0, 7])
    selection = Selection.of(chosen, joined, 1000)
    expected = brute_selection(chosen, 1000)
    assert len(selection) == len(expected)
    for begin, end in [(0, len(expected)), (0, 1), (len(expected) - 1, len(expected)), (3, 3), (2, len(expected) - 4)]:
        assert selection.indices(begin, end).tolist() == expected[begin:end]
    names = [int(series[index - 1000]) for index in expected]
    assert selection.series_of(np.array(expected)).tolist() == names
    assert selection.series_count == len(set(names))
    assert selection.longest_series == max(Counter(names).values())


def test_passes_count_how_often_a_modality_was_seen() -> None:
    assert make_plan().passes(100) == pytest.approx({"xray": 24.0, "ct": 1200 / 31, "mr": 1200 / 90, "us": 50.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 50}, "no multiple of the 4 modalities.*use 48 or 52"),
        (
            {"batch": 100},
            "modality us has 24 images, its share of the batch is 25: use batch_size 96 or less, leave it out with",
        ),
        ({"batch": 48, "ranks": 5}, "5 ranks cannot share 12 images.*use 1, 2, 3, 4, 6, 12 ranks"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_with_what_would_fit(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(**arguments)


def test_proportional_shares_follow_the_images_and_leave_none_out() -> None:
    images = {"xray": 700, "ct": 10, "mr": 240, "us": 50}
    shares = modality_shares(images, 40, proportional=True)
    # One each, the other 36 by largest remainders of 25.2, 0.36, 8.64 and 1.8.
    assert shares == {"xray": 26, "ct": 1, "mr": 10, "us": 3}
    assert sum(modality_shares(images, 37, proportional=True).values()) == 37
    assert set(modality_shares(images, 40, proportional=False).values()) == {10}
    with pytest.raises(UsageError, match="batch_size 37 is no multiple of the 4 modalities"):
        modality_shares(images, 37, proportional=False)
    with pytest.raises(UsageError, match="batch_size 3 is no multiple"):
        modality_shares(images, 3, proportional=True)


def test_unequal_shares_are_cut_into_the_same_batches_on_any_rank() -> None:
    selections = {name: selection_of(np.arange(count)) for name, count in (("ct", 300), ("mr", 100), ("us", 40))}
    plan = BatchPlan.make(selections, 22, 1, proportional=True)
    assert plan.shares == (14, 5, 3)
    for step in (0, 7, 100):
        whole = plan.batch(step)
        assert whole.positions.tolist() == list(range(22))
        places = np.repeat([0, 1, 2], plan.shares)
        for number, lanes in enumerate(plan.lanes):
            mine = [draw.index for draw, place in zip(whole, places, strict=True) if place == number]
            assert mine == lanes.at([step], 0, lanes.share)[0].tolist()
    with pytest.raises(UsageError, match="2 ranks cannot share 14, 5, 3 images"):
        BatchPlan.make(selections, 22, 1, ranks=2, proportional=True)
    two = {name: selections[name] for name in ("ct", "mr")}
    even = BatchPlan.make(two, 16, 1, ranks=2, proportional=True)
    assert even.shares == (12, 4)
    parts = [even.batch(3, rank, 2) for rank in range(2)]
    together = {draw.position: draw.index for part in parts for draw in part}
    assert [together[position] for position in range(16)] == even.batch(3).indices[0].tolist()
