"""The slices of a volume, judged together once their pixels are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scoutview.ingest.calibration import TISSUE, not_hounsfield
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.rules import Rules
from scoutview.ingest.stacks import FEWEST_SLICES
from scoutview.store import ImageRow, Record, single


def judged(outcomes: Sequence[Outcome], rules: Rules) -> list[Outcome]:
    """The outcomes of the slices of one volume, in its order, after what only the whole can tell.

    Refused slices at its ends shorten the volume; one within it leaves a gap, which is refused or flagged by
    `rules.gaps`, and only flagged where the slice was left out because it is constant. What is left of fewer than
    three slices are single images. CT must hold air somewhere.
    """
    taken = [number for number, outcome in enumerate(outcomes) if not outcome.reason]
    if not taken:
        return list(outcomes)
    result = _calibrated(outcomes, taken, rules)
    holes = [number for number in range(taken[0], taken[-1]) if outcomes[number].reason]
    if len(taken) < FEWEST_SLICES:
        return [_changed(outcome, single) for outcome in result]
    lost = [number for number in holes if outcomes[number].reason != "constant"]
    if lost and rules.gaps == "refuse":
        why = outcomes[lost[0]].reason
        detail = f"slice {lost[0] + 1} of {len(outcomes)} was refused as {why}, which leaves a hole"
        return [refused(outcome, "gap", detail) for outcome in result]
    return [_changed(outcome, _with_flag("gap")) for outcome in result] if holes else result


def completed(records: Sequence[Record]) -> list[Record]:
    """The records of one file, with volumes flagged whose constant slices were left out; small ones are dissolved."""
    indices: dict[str, list[int]] = {}
    for record in records:
        if record.row.stack and record.row.slice_index is not None:
            indices.setdefault(record.row.stack, []).append(record.row.slice_index)
    flag = _with_flag("gap")
    result = []
    for record in records:
        places = indices.get(record.row.stack, [])
        if places and len(places) < FEWEST_SLICES:
            record = _with_row(record, single(record.row))
        elif places and max(places) - min(places) + 1 > len(places):
            record = _with_row(record, flag(record.row))
        result.append(record)
    return result


def _calibrated(outcomes: Sequence[Outcome], taken: Sequence[int], rules: Rules) -> list[Outcome]:
    rows = [record.row for number in taken for record in outcomes[number].records]
    if any(row.modality != "ct" for row in rows):
        return list(outcomes)
    lowest = [row.minimum * row.slope + row.offset for row in rows]
    why = not_hounsfield(lowest, [row.high * row.slope + row.offset > TISSUE for row in rows])
    if not why or rules.air == "optional":
        return list(outcomes)
    return [refused(outcome, "not_hu", f"in all {len(rows)} slices {why}") for outcome in outcomes]


def _with_flag(flag: str) -> Callable[[ImageRow], ImageRow]:
    def change(row: ImageRow) -> ImageRow:
        return replace(row, flags=" ".join(sorted({*row.flags.split(), flag})))

    return change


def _changed(outcome: Outcome, change: Callable[[ImageRow], ImageRow]) -> Outcome:
    return replace(outcome, records=tuple(_with_row(record, change(record.row)) for record in outcome.records))


def _with_row(record: Record, row: ImageRow) -> Record:
    return Record(row, record.codestream, record.spectrum)


def refused(outcome: Outcome, reason: str, detail: str) -> Outcome:
    """The outcome of a file that is refused with the rest of its volume, unless it has a reason of its own."""
    return outcome if outcome.reason else replace(outcome, records=(), reason=reason, detail=detail)
