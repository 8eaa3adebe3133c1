"""`scoutview merge`: several stores into one, or a part of one."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scoutview.errors import UsageError
from scoutview.ingest.references import references_of
from scoutview.store import Source, Store, StoreWriter, Taken, take_images

_NEVER = 2**62
"""Shards are closed between those that are taken from, not within a volume."""


@dataclass(frozen=True)
class MergeSummary:
    """stores: that were taken from. images, shards: of the store that was made, or that has grown.

    Of the shards that were taken from, linked and copied: whole; packed: in part, into new shards. All three count
    what this call did, so that they are 0 where the same command has ended before.
    """

    stores: int
    images: int
    shards: int
    linked: int
    copied: int
    packed: int


def merge(stores: list[Path], *, out: Path, where: str | None = None, json: bool = False) -> MergeSummary:
    """Merge stores into a new one or into one that grows, or split off a part of a store.

    Shards of which every image is taken are hard-linked where possible, else copied. An image that several stores hold
    is taken once, from the first. Annotations and the lists of refused files come along. The stores that are taken
    from stay as they are. Running the same command again continues an interrupted one, and takes what is new.

    Args:
        stores: Folders of the stores to take from, which were all made under one pseudonym secret; s3://.
        out: Folder of the store to make, or to add to.
        where: An SQL expression over the catalog, such as "split = 'train'": only images that pass it are taken.
        json: End with one line of JSON for programs.

    Returns:
        Counts of the store that was made and of what was taken.

    Raises:
        UsageError: Wrong stores or expression, stores of several secrets, or none of their images passes.
        RunError: A stored image is damaged, or the store cannot be written.
    """
    opened = [Store.open(store) for store in stores]
    _check(opened, out)
    sources = [Source.of(store, where) for store in opened]
    if not any(source.images for source in sources):
        names = ", ".join(str(store) for store in stores)
        raise UsageError(
            f"no image of {names} passes where {where!r}: scoutview inspect shows what there is"
            if where
            else f"{names} holds no image: take some in with scoutview ingest"
        )
    with StoreWriter(out, opened[0].salt_id, shard_bytes=_NEVER) as writer, _Shards() as shards:
        taken = take_images(writer, sources, shards.show)
        made = Store.open(out)
        references = references_of(made)
        if references != made.reference_energies:
            writer.set_reference_energies(references)
    held = Source.of(made, None)
    summary = MergeSummary(len(stores), held.images, len(held.files), taken.linked, taken.copied, taken.packed)
    _print(summary, taken, made)
    if json:
        print(dumps(asdict(summary)), flush=True)
    return summary


def _check(opened: list[Store], out: Path) -> None:
    first = opened[0]
    for store in opened:
        if store.path.resolve() == out.resolve():
            raise UsageError(f"{out} is one of the stores to take from: give a folder for the result")
        if store.salt_id != first.salt_id:
            raise UsageError(
                f"{store.path} and {first.path} were made under other pseudonym secrets ({store.salt_id}, "
                f"{first.salt_id}), so their patients cannot be told apart: ingest the sources of one again with "
                "SCOUTVIEW_KEY set to the secret of the other"
            )


class _Shards:
    """A bar on a terminal's stderr; elsewhere a line for every tenth of the shards."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self.task = self.bar.add_task("", total=None) if self.bar else None
        self.tenth = 0

    def __enter__(self) -> _Shards:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, done: int, total: int) -> None:
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)
        elif done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            print(f"{done} of {total} shards", file=sys.stderr, flush=True)


def _print(summary: MergeSummary, taken: Taken, made: Store) -> None:
    print(f"{made.path} holds {summary.images} images in {summary.shards} shards, snapshot {made.snapshot()}")
    print(
        f"{taken.images} of them are new: {taken.linked} shards linked, {taken.copied} copied, "
        f"{taken.packed} taken in part"
    )
    if taken.dissolved:
        print(
            f"note: {taken.dissolved} images were slices of a volume that was not taken whole: they are single images"
        )
    if taken.differing:
        print(
            f"note: {taken.differing} statements about images differ between the stores (labels, boxes, masks): "
            f"kept is what {made.path} said before, else what the first store says that speaks of it"
        )
