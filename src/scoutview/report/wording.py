"""Figures as text, the same everywhere on the page."""

from __future__ import annotations

from typing import Any

from scoutview.report.read import mapping, number

MISSING = "–"
MODALITY_NAMES = {"xray": "X-ray", "ct": "CT", "mr": "MR", "us": "ultrasound"}


def score(value: Any) -> str:
    """A share or an area with three decimals."""
    value = number(value)
    return MISSING if value is None else f"{value:.3f}"


def estimate(value: Any) -> str:
    """{"value", "low", "high"} as 0.812 [0.74, 0.88]; without limits the value alone, a dash for none.

    A line may break before the limits, not between them.
    """
    value = mapping(value)
    low, high = number(value.get("low")), number(value.get("high"))
    if number(value.get("value")) is None or low is None or high is None:
        return score(value.get("value"))
    return f"{score(value['value'])} [{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]"


def signed(value: Any) -> str:
    """A difference {"value", "low", "high"} as +0.041 [-0.012, +0.093]; without limits the value alone."""
    value = mapping(value)
    known, low, high = (number(value.get(name)) for name in ("value", "low", "high"))
    if known is None:
        return MISSING
    if low is None or high is None:
        return f"{known:+.3f}"
    return f"{known:+.3f} [{low:+.3f},\N{NO-BREAK SPACE}{high:+.3f}]"


def quantity(value: Any) -> str:
    """Any figure with three significant digits, whole numbers in full."""
    value = number(value)
    if value is None:
        return MISSING
    if value == int(value) and abs(value) < 1e15:
        return count(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".removesuffix(".")


def count(value: Any) -> str:
    """A whole number with thousands marked."""
    value = number(value)
    return MISSING if value is None else f"{int(value):,}"


def counted(value: int, what: str) -> str:
    """ "1 volume", "2,048 volumes"."""
    return f"{count(value)} {what}" if value == 1 else f"{count(value)} {what}s"


def duration(seconds: Any) -> str:
    """Seconds as "41 s", "13 min 32 s", "5 h 07 min"."""
    seconds = number(seconds)
    if seconds is None or seconds < 0:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        text = f"{whole} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60:02d} s"
    else:
        text = f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def modality(name: str) -> str:
    """A modality as readers write it; unknown ones as they are."""
    return MODALITY_NAMES.get(name, name)


def series(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def storage(value: Any) -> str:
    """Bytes as "812 kB", "1.51 GB", in powers of 1000."""
    value = number(value)
    if value is None:
        return MISSING
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{value:.0f}\N{NO-BREAK SPACE}B"
