"""Memory for what was read and transformed, up to a bound; what does not fit is made again each time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass
class Kept(Generic[Value]):
    """The values that came first, up to `most` bytes; another process starts with none."""

    most: int
    nbytes: int = 0
    values: dict[Hashable, Value] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        return {"most": self.most, "nbytes": 0, "values": {}}

    def offer(self, key: Hashable, value: Value, nbytes: int) -> None:
        """Keep a value of so many bytes if there is room."""
        if self.nbytes + nbytes <= self.most:
            self.values[key] = value
            self.nbytes += nbytes
