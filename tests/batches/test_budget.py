"""The arithmetic of a plan against numbers that were computed by hand for 105 million images."""

from __future__ import annotations

import pytest

from scoutview.batches.budget import Cluster, ImageCost, StepRates, budget_of

# images, kB per image: CT 512 x 512, MR 384 x 384, radiographs of 2500 x 2000, ultrasound of 600 x 800.
PAPER = {"ct": (75_600_000, 164), "mr": (26_300_000, 84), "xray": (1_300_000, 3300), "us": (1_850_000, 110)}


def costs(
    xray_kb: float = 3300.0, decode: float = 0.0211, loader: float = 0.0211, wall: float = 0.05
) -> list[ImageCost]:
    read = {name: kb for name, (_, kb) in PAPER.items()} | {"xray": xray_kb}
    return [
        ImageCost(name, images, images * kb * 1000, read[name] * 1000, decode, loader, wall)
        for name, (images, kb) in PAPER.items()
    ]


def test_the_sizing_on_paper_of_32_gpus() -> None:
    """0.92 MB per image of a batch of equal parts, 600 images/s per GPU: 19,200 images/s and 17.6 GB/s."""
    plan = budget_of(costs(), Cluster(32, 8, 128), StepRates(600.0), steps=507_000, batch_size=1024)
    assert plan.nodes == 4
    assert plan.images_per_second == 19_200
    assert plan.bytes_per_second == pytest.approx(19_200 * (164e3 + 84e3 + 3300e3 + 110e3) / 4)
    assert plan.bytes_per_second / 1e9 == pytest.approx(17.7, rel=0.01)
    # Half the resolution of radiographs is 900 to 930 kB of 3300: 6.2 GB/s.
    half = budget_of(costs(xray_kb=930), Cluster(32, 8, 128), StepRates(600.0), 507_000, 1024)
    assert half.bytes_per_second / 1e9 == pytest.approx(6.2, rel=0.01)
    # 101 cores decode 19,200 images/s at 5.26 ms each: 25.3 in each of four nodes.
    decoding = budget_of(costs(decode=101 / 19_200), Cluster(32, 8, 128), StepRates(600.0), 507_000, 1024)
    assert decoding.decode_cores == pytest.approx(101 / 4)
    assert plan.stored_bytes / 1e12 == pytest.approx(12.4 + 2.2 + 4.3 + 0.2, abs=0.1)
    assert plan.first_cached_bytes / 1e12 == pytest.approx(4.5, abs=0.05)
    assert plan.cache_bytes / 1e12 == pytest.approx(4.8, abs=0.05)
    # One pass through CT is 58 through radiographs, 41 through ultrasound, 2.9 through MR.
    relative = {name: passes / plan.passes["ct"] for name, passes in plan.passes.items()}
    assert relative["xray"] == pytest.approx(58, abs=0.5)
    assert relative["us"] == pytest.approx(41, abs=0.5)
    assert relative["mr"] == pytest.approx(2.9, abs=0.05)
    assert plan.passes["xray"] == pytest.approx(507_000 * 256 / 1_300_000)


def test_hours_and_what_bounds_them() -> None:
    """10 GPUs in 3 nodes of 4: 3 x (16 - 4) loader cores."""
    cluster = Cluster(10, 4, 16)
    free = budget_of(costs(loader=0.01), cluster, StepRates(100.0), steps=36_000, batch_size=100)
    assert free.nodes == 3
    assert free.data_rate == pytest.approx(3600)
    assert free.bottleneck == "step"
    assert free.hours == pytest.approx(1.0)  # 3.6 million images at 1000 per second
    assert free.loader_cores == pytest.approx(1000 * 0.01 / 3)
    assert free.processes == 5  # 100 images/s of 50 ms each
    slow = budget_of(costs(loader=0.1), cluster, StepRates(100.0), 36_000, 100)
    assert slow.bottleneck == "data"
    assert slow.data_rate == pytest.approx(360)
    assert slow.hours == pytest.approx(1000 / 360)
    assert slow.images_per_second == pytest.approx(1000)


def test_views_and_encoder_come_one_after_the_other() -> None:
    """3 ms of views and 1 ms of encoder are 250 images/s."""
    rates = StepRates(encoder=1000.0, views=1000 / 3)
    assert rates.step == pytest.approx(250)
    assert budget_of(costs(), Cluster(1, 8, 16), rates, 1, 4).bottleneck == "views"
    other = StepRates(encoder=1000 / 3, views=1000.0)
    assert budget_of(costs(), Cluster(1, 8, 16), other, 1, 4).bottleneck == "encoder"


def test_a_machine_of_one_core_loads_in_the_process_of_its_gpu() -> None:
    assert Cluster(1, 8, 1).loader_cores == 1
    assert Cluster(1, 8, 2).loader_cores == 1
    assert Cluster(3, 8, 16).loader_cores == 13
