"""Encoders, heads, checkpoints and published weights from strangers: no code runs, no file takes more than it holds."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measuring import peak_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scoutview.encoders import Encoder, load_encoder, load_foreign, open_encoder, save_encoder, untrained_encoder
from scoutview.errors import RunError, UsageError
from scoutview.export import load_exported
from scoutview.preprocessing import Preprocessing
from scoutview.tasks import load_classifier
from scoutview.tasks.classification import Classifier
from scoutview.tasks.detection import load_detector
from scoutview.tasks.detection.model_file import save_detector
from scoutview.tasks.detection.task import new_detector
from scoutview.tasks.model_file import save_classifier
from scoutview.training import load_checkpoint, restoring

NAME = "resnet18w0.125"
DEEP = "[" * 100_000


class Payload:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return untrained_encoder(NAME, 64, Preprocessing())


@pytest.fixture
def run(encoder: Encoder, tmp_path: Path) -> Path:
    """A run folder with an encoder file, and a classifier of three classes."""
    head = torch.nn.Linear(encoder.network.features, 3)
    save_classifier(Classifier(encoder, head, ("zone",), ("a", "b", "c"), True), tmp_path)
    return tmp_path


def retold(path: Path, **metadata: str | None) -> Path:
    """The same tensors with other metadata; None removes an entry."""
    with safe_open(path, framework="pt") as file:
        told = {**file.metadata(), **metadata}
    save_file(load_file(path), path, metadata={key: value for key, value in told.items() if value is not None})
    return path


def raw(path: Path, header: bytes, length: int | None = None, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def one_line(error: Exception) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("protocol", [2, 5])
def test_no_pickle_is_loaded(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    payload = Payload(trace)
    torch.save({"network": payload, "step": 1}, tmp_path / "zip.pt", pickle_protocol=protocol)
    torch.save(payload, tmp_path / "old.pt", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(payload, protocol))
    for path in sorted(tmp_path.glob("*.pt")):
        with pytest.raises(RunError, match="cannot be read"):
            load_checkpoint(path)
        with pytest.raises(UsageError):
            load_foreign(path)
    for name in ("encoder.safetensors", "head.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(payload, protocol))
    with pytest.raises(UsageError):
        load_encoder(tmp_path)
    assert not trace.exists()
    pickle.loads((tmp_path / "bare.pt").read_bytes())
    assert trace.exists()  # the payload does work


OVERLAP = json.dumps(
    {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}
).encode()  # fmt: skip
BEYOND = json.dumps({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}).encode()
WRAPPED = json.dumps({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}).encode()


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**60), (b"{}", 2**64 - 1), (b"{}", 10**9), (b"no JSON", None), (b"", 0), (b"[1]", None),
        (OVERLAP, None), (BEYOND, None), (WRAPPED, None), (b'{"__metadata__": 1}', None),
        (b'{"__metadata__": {"format": {}}}', None), (b'{"a":' * 10_000, None), (b"\xff\xfe{}", None),
    ],
)  # fmt: skip
def test_headers_of_safetensors_that_lie(header: bytes, length: int | None, tmp_path: Path) -> None:
    path = raw(tmp_path / "encoder.safetensors", header, length, bytes(8))
    for read in (load_encoder, open_encoder, load_exported):
        with pytest.raises(UsageError) as caught:
            read(path)
        one_line(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        *[{"architecture": name} for name in (
            None, "", "../../x", "__import__", "os.system", "resnet18w99999999", "resnet152w16", "resnet18w0",
            f"resnet18w{'9' * 5000}", "vit_base", "densenet_3d", NAME + "_3d", "{0.__class__}", "\x1b[31m",
        )],
        *[{"input_size": size} for size in (
            None, "1e9", "1000000000000", "0", "-64", "true", "null", '"64"', "[64, 64]", "[64, 64, 64]", "NaN", DEEP,
            "9" * 5000, "{}",
        )],
        *[{"preprocessing": told} for told in (
            None, "{}", "[]", "null", '{"hounsfield": "ab", "level": "cd"}', '{"hounsfield": [], "level": []}',
            '{"hounsfield": [NaN], "level": [1]}', '{"hounsfield": [0, 1], "level": [0, Infinity]}', DEEP,
            '{"hounsfield": 5, "level": 5}', f'{{"hounsfield": [{"9" * 400}], "level": [1]}}',
        )],
        *[{"provenance": told} for told in (None, "5", "[1]", "null", DEEP, "{")],
    ],
    ids=lambda metadata: f"{next(iter(metadata))}-{str(next(iter(metadata.values())))[:20]!r}",
)  # fmt: skip
def test_metadata_of_an_encoder_that_lie(metadata: dict[str, str | None], run: Path) -> None:
    retold(run / "encoder.safetensors", **metadata)
    with pytest.raises(UsageError) as caught:
        load_encoder(run)
    one_line(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": None}, {"classes": "[]"}, {"classes": '"abc"'}, {"classes": "[1, 2, 3]"}, {"classes": DEEP},
        {"classes": json.dumps(["a"] * 200_000)}, {"labels": None}, {"labels": "5"}, {"exclusive": None},
        {"exclusive": "{"},
    ],
    ids=lambda metadata: f"{next(iter(metadata))}-{str(next(iter(metadata.values())))[:20]!r}",
)  # fmt: skip
def test_metadata_of_a_head_that_lie(metadata: dict[str, str | None], run: Path) -> None:
    assert load_classifier(run).classes == ("a", "b", "c")
    retold(run / "head.safetensors", **metadata)
    with pytest.raises(UsageError) as caught:
        load_classifier(run)
    assert len(one_line(caught.value)) < 1000


@pytest.mark.parametrize(
    "metadata",
    [
        {"width": "1000000000"}, {"width": "40000"}, {"width": "0"}, {"width": "x"}, {"depth": "1000000000"},
        {"depth": "40"}, {"depth": "-1"}, {"input_size": "1000000000"}, {"input_size": "9" * 5000}, {"classes": "5"},
    ],
    ids=lambda metadata: f"{next(iter(metadata))}-{str(next(iter(metadata.values())))[:20]!r}",
)  # fmt: skip
def test_metadata_of_a_detector_that_lie(metadata: dict[str, str | None], encoder: Encoder, tmp_path: Path) -> None:
    save_detector(new_detector(encoder, ("a",), 64, 16, 1), tmp_path)
    assert load_detector(tmp_path).width == 16
    retold(tmp_path / "head.safetensors", **metadata)
    with pytest.raises(UsageError) as caught:
        load_detector(tmp_path)
    one_line(caught.value)


def test_an_announced_network_takes_no_memory(encoder: Encoder, tmp_path: Path) -> None:
    """A resnet152w16 has 60 GB of weights, a detector of width 40,000 has 700 GB."""
    save_detector(new_detector(encoder, ("a",), 64, 16, 1), tmp_path)
    retold(tmp_path / "head.safetensors", width="40000")
    (tmp_path / "other").mkdir()
    save_encoder(encoder, tmp_path / "other" / "encoder.safetensors")
    retold(tmp_path / "other" / "encoder.safetensors", architecture="resnet152w16")
    code = """
    for load, path in ((load_encoder, sys.argv[1] + "/other"), (load_detector, sys.argv[1])):
        try:
            load(path if load is load_encoder else Path(path))
        except UsageError as error:
            assert "fit" in str(error), error
        else:
            raise AssertionError
    """
    setup = """
    from pathlib import Path
    from scoutview.encoders import load_encoder
    from scoutview.errors import UsageError
    from scoutview.tasks.detection import load_detector
    """
    assert peak_of(setup, code, tmp_path) < 300e6


def deflated(path: Path, size: int) -> Path:
    """A checkpoint whose storages are compressed, which torch.load inflates."""
    torch.save({"weight": torch.zeros(size // 4)}, path.with_suffix(".plain"))
    with zipfile.ZipFile(path.with_suffix(".plain")) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    path.with_suffix(".plain").unlink()
    return path


def test_a_checkpoint_that_inflates_is_refused_unread(tmp_path: Path) -> None:
    path = deflated(tmp_path / "bomb.pt", 2**28)
    assert path.stat().st_size < 2**20
    setup = """
    from pathlib import Path
    from scoutview.encoders import load_foreign
    from scoutview.errors import RunError, UsageError
    from scoutview.training import load_checkpoint
    """
    code = """
    for load, expected in ((load_checkpoint, RunError), (load_foreign, UsageError)):
        try:
            load(Path(sys.argv[1]))
        except expected as error:
            assert "more than its size" in str(error), error
        else:
            raise AssertionError
    """
    assert peak_of(setup, code, path) < 2**26


def stretched(weights: dict[str, torch.Tensor], **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Weights, some with a single value that announces a large shape; __ stands for a dot."""
    return {**weights, **{name.replace("__", "."): torch.zeros(1).expand(shape) for name, shape in shapes.items()}}


def published() -> dict[str, torch.Tensor]:
    weights = untrained_encoder(NAME, 64, Preprocessing()).network.state_dict()
    return {**weights, "conv1.weight": torch.zeros(8, 3, 7, 7)}


@pytest.mark.parametrize(
    "change",
    [
        {"conv1__weight": (8, 3, 2**20, 2**20)}, {"bn1__running_mean": (2**40,)}, {"conv1__weight": (2**40, 3, 7, 7)},
        {"conv1__weight": (64 * 16, 3, 7, 7)}, {"layer1__0__conv1__weight": (2**40,)}, {"extra": (2**40,)},
    ],
)  # fmt: skip
def test_a_tensor_larger_than_its_values_is_refused(change: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "weights.pth")
    assert load_foreign(tmp_path / "weights.pth").architecture == NAME
    torch.save(stretched(published(), **change), tmp_path / "weights.pth")
    with pytest.raises(UsageError) as caught:
        load_foreign(tmp_path / "weights.pth")
    one_line(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        lambda: {"conv1.weight": torch.eye(3).to_sparse()}, lambda: {"a": 1}, lambda: [1, 2], lambda: None, lambda: {},
        lambda: {"state_dict": {"state_dict": {}}}, lambda: torch.zeros(3), lambda: {1: torch.zeros(1)},
        lambda: {"layer1.99999999999999999999.x": torch.zeros(1), "conv1.weight": torch.zeros(8, 3, 7, 7)},
    ],
)  # fmt: skip
def test_other_content_of_published_weights(content: Callable[[], Any], tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "weights.pth")
    with pytest.raises(UsageError) as caught:
        load_foreign(tmp_path / "weights.pth")
    one_line(caught.value)


def test_a_checkpoint_of_something_else_is_an_error_of_one_line(tmp_path: Path) -> None:
    for content in ([1, 2], torch.zeros(2), None, "text"):
        torch.save(content, tmp_path / "step.pt")
        with pytest.raises(RunError, match="cannot be read"):
            load_checkpoint(tmp_path / "step.pt")
    network = torch.nn.Linear(2, 2)
    states: list[Any] = [{}, {"network": 5}, {"network": {"weight": torch.zeros(9, 9)}}, {"network": {"weight": "x"}}]
    for state in states:
        with pytest.raises(RunError, match="no checkpoint of this run") as caught, restoring(tmp_path / "step.pt"):
            network.load_state_dict(state["network"])
        one_line(caught.value)
