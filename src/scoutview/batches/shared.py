"""Memory of batches, which is used again once a batch is gone; from worker to consumer it goes without a copy.

Fresh memory costs a page fault per 4 KB, and shared memory a handshake per tensor, too: together a fifth of the time of
a worker that decodes. So a process keeps its segments. The first byte of each says whether somebody still holds what
lies in it; who received it clears that byte when the last tensor on it is gone. A consumer that keeps batches makes
the loader take more memory.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_HEADER = 64
"""Bytes before the content; the first of them is 1 while the content is in use."""
_ROOM = 1.25
"""Batches differ in size: a segment is taken so much larger than needed."""
_SPARE = 3
"""Segments that are kept though nobody uses them."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: in which segment of a worker, and the segment itself when it is sent for the first time.

    dropped: segments that the worker does not use any longer.
    """

    worker: int
    segment: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    first: Tensor | None
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class _Value:
    """A small tensor, sent as it is."""

    array: npt.NDArray[Any]


@dataclass
class Lender:
    """The segments of a process that makes batches. lent: address of the content -> segment, of the one being made."""

    segments: dict[int, Tensor] = field(default_factory=dict)
    lent: dict[int, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    count: int = 0

    def lend(self, nbytes: int, shared: bool) -> Bytes:
        """Memory for a tensor of the batch being made."""
        free = [number for number, segment in self.segments.items() if int(segment[0]) == 0]
        fitting = [number for number in free if len(self.segments[number]) >= nbytes + _HEADER]
        for number in free:
            if number not in fitting[:_SPARE]:
                del self.segments[number]
                self.dropped.add(number)
        if fitting:
            return self._content(fitting[0], nbytes)
        self.count += 1
        length = int(nbytes * _ROOM) + _HEADER
        if shared:
            storage = torch.UntypedStorage._new_shared(length, device="cpu")
            self.segments[self.count] = torch.empty(0, dtype=torch.uint8).set_(storage)
        else:
            self.segments[self.count] = torch.empty(length, dtype=torch.uint8)
        return self._content(self.count, nbytes)

    def _content(self, number: int, nbytes: int) -> Bytes:
        segment = self.segments[number]
        segment[0] = 1
        content: Bytes = segment.numpy()[_HEADER : _HEADER + nbytes]
        self.lent[content.ctypes.data] = number
        return content

    def send(self, worker: int, tensor: Tensor) -> _Place | _Value:
        """How a tensor goes to the consumer."""
        number = self.lent.pop(tensor.data_ptr(), None)
        if number is None:
            return _Value(tensor.numpy())
        first = None if number in self.known else self.segments[number]
        dropped = tuple(sorted(self.dropped & self.known))
        self.known = (self.known | {number}) - self.dropped
        self.dropped.clear()
        return _Place(worker, number, tuple(tensor.shape), tensor.dtype, first, dropped)

    def take_back(self) -> None:
        """Free what was lent for a batch that is not sent."""
        for number in self.lent.values():
            self.segments[number][0] = 0
        self.lent.clear()


@dataclass
class Borrower:
    """The segments of workers that the consumer has seen, by worker and number."""

    segments: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def receive(self, sent: _Place | _Value) -> Tensor:
        """The tensor; its segment is free again when nothing refers to it."""
        if isinstance(sent, _Value):
            return torch.from_numpy(sent.array)
        for number in sent.dropped:
            del self.segments[sent.worker, number]
        key = (sent.worker, sent.segment)
        if sent.first is not None:
            self.segments[key] = sent.first
        nbytes = torch.Size(sent.shape).numel() * sent.dtype.itemsize
        content = self.segments[key].numpy()[_HEADER : _HEADER + nbytes]
        return _tensor_on(content, self.segments[key]).view(sent.dtype).view(sent.shape)


_lender = Lender()


def batch_memory(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor that is still to be written; in a worker it lies where the process that waits for it reads it."""
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    if get_worker_info() is not None:
        return torch.from_numpy(_lender.lend(nbytes, shared=True)).view(dtype).view(shape)
    content = _lender.lend(nbytes, shared=False)
    segment = _lender.segments[_lender.lent.pop(content.ctypes.data)]
    return _tensor_on(content, segment).view(dtype).view(shape)


def _tensor_on(content: Bytes, segment: Tensor) -> Tensor:
    """A tensor of the content of a segment, which is free again when nothing refers to it any longer."""
    # Tensors that are made from an array, and all views of them, keep it until the last of them is gone.
    weakref.finalize(content, _clear, segment).atexit = False
    return torch.from_numpy(content)


def send(batch: Any) -> Any:
    """A batch (a dataclass of tensors, dataclasses and other values) as it goes through the pipe of a worker."""
    worker = get_worker_info()
    return batch if worker is None else _mapped(batch, Tensor, lambda tensor: _lender.send(worker.id, tensor))


def take_back() -> None:
    """Free what `batch_memory` gave for a batch that will not be sent."""
    _lender.take_back()


def receive(batch: Any, borrower: Borrower) -> Any:
    """The inverse of `send`, in the process that consumes."""
    return _mapped(batch, _Place | _Value, borrower.receive)


def _mapped(value: Any, kind: Any, change: Any) -> Any:
    if isinstance(value, kind):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _mapped(getattr(value, part.name), kind, change) for part in fields(value)})
    return value


def _clear(segment: Tensor) -> None:
    segment[0] = 0
