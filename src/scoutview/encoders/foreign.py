"""Weights that others publish: ResNets in the layouts of torchvision, SwAV and MedicalNet.

Files are read as tensors only, never as pickled objects. What the published network was shown is worked into its first
layer, so that it sees in our grey image in [0, 1] what it saw in the same image as RGB under its own normalisation.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from scoutview.encoders.architectures import InputSize, make_encoder
from scoutview.encoders.file import Encoder, load_encoder
from scoutview.encoders.resnet import DEPTHS, INPUT_DEVIATION, INPUT_MEAN
from scoutview.encoders.untrusted import load_plain
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing

IMAGE_SIDE = 224
VOLUME_SIZE = (40, 224, 192)


@dataclass(frozen=True)
class Layout:
    """dropped: beginnings of the names of what is no part of the encoder. channels: of the input.

    mean, deviation: of the normalisation per channel; none where the input was standardised per volume.
    """

    name: str
    dropped: tuple[str, ...]
    channels: int
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


TORCHVISION = Layout("torchvision", ("fc.",), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SWAV = Layout("SwAV", ("projection_head.", "prototypes."), 3, (0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
MEDICALNET = Layout("MedicalNet", ("conv_seg.", "fc."), 1)


def open_encoder(source: Path | str, architecture: str | None = None) -> Encoder:
    """The encoder of a run folder or encoder file, or of a file of published weights (see `load_foreign`).

    Raises:
        UsageError: if there is none, or it does not fit; of published weights also if they are of another architecture.
    """
    return load_foreign(source, architecture) if is_foreign(source) else load_encoder(source)


def is_foreign(source: Path | str) -> bool:
    """Whether a file holds published weights: then input size and preprocessing are our choice, not what it has seen.

    False for a damaged safetensors file, which `load_encoder` refuses.
    """
    path = Path(source)
    if not path.is_file() or path.suffix != ".safetensors":
        return path.is_file()
    try:
        with safe_open(path, framework="pt") as file:
            return not str((file.metadata() or {}).get("format", "")).startswith("scoutview")
    except (SafetensorError, OSError):
        return False


def load_foreign(path: Path | str, architecture: str | None = None) -> Encoder:
    """Published ResNet weights (.safetensors, or what torch.save wrote of a state_dict) as an encoder.

    The layouts are torchvision's; SwAV's (names begin with "module.", projection head and prototypes are dropped); and
    MedicalNet's for volumes, with shortcuts of type B. A 3-channel conv1 is summed over RGB so that, for a grey image,
    bn1 gives what it gave under the published normalisation, in every pixel whose window lies in the image: outside,
    our zero padding stands for grey 0.5 and theirs for the mean colour. MedicalNet standardised each volume and kept
    the stride of its last two stages at 1: its filters are taken over as they are.

    Raises:
        UsageError: if the file cannot be read as tensors, or does not fit a ResNet, or is not of `architecture`.
    """
    path = Path(path)
    weights = _tensors(path)
    layout = _layout(weights)
    weights = {name: value for name, value in weights.items() if not name.startswith(layout.dropped)}
    found = _architecture(path, weights)
    if architecture is not None and found != architecture:
        raise UsageError(f"{path} holds a {found}, not a {architecture}: add --encoder {found}, or take another file")
    with torch.device("meta"):  # a tensor may announce any shape and hold one value: first see whether they fit
        expected = make_encoder(found).state_dict()
    for name in expected.keys() - weights.keys():
        if name.endswith("num_batches_tracked"):  # old files have none, and nothing reads it
            weights[name] = torch.zeros((), dtype=torch.int64)
    if weights["conv1.weight"].shape[1] != layout.channels:
        raise UsageError(
            f"{path} takes {weights['conv1.weight'].shape[1]} input channel(s), those in the layout of {layout.name} "
            f"{layout.channels}: what it was trained on is not known, take another file"
        )
    ours = expected["conv1.weight"]
    expected["conv1.weight"] = ours.expand(-1, layout.channels, *ours.shape[2:])
    _check(path, found, expected, weights)
    if layout.channels == 3:
        _to_grey(weights, layout)
    network = make_encoder(found)
    network.load_state_dict(weights, strict=True)
    size: InputSize = IMAGE_SIDE if network.spatial_dims == 2 else VOLUME_SIZE
    provenance = {"method": "published weights", "layout": layout.name, "file": path.name, "sha256": _digest(path)}
    return Encoder(found, network, Preprocessing(), size, provenance)


def _tensors(path: Path) -> dict[str, Tensor]:
    """name -> tensor, without "state_dict" around it and "module." in front."""
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = load_plain(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist: give a run folder, an encoder file or published weights") from error
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} holds more than tensors, or is no file of torch.save; scoutview runs no pickled code: "
            "save its state_dict alone, as safetensors if you can"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} cannot be read as weights ({reason}): it is damaged or no such file") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(map(_is_plain, content.values())):
        raise UsageError(f"{path} holds no state_dict (names with tensors): save that of the network alone")
    weights = {str(name): value for name, value in content.items()}
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _layout(weights: dict[str, Tensor]) -> Layout:
    if any(name.startswith(SWAV.dropped) for name in weights):
        return SWAV
    first = weights.get("conv1.weight")
    return MEDICALNET if first is not None and first.dim() == 5 else TORCHVISION


def _architecture(path: Path, weights: dict[str, Tensor]) -> str:
    """The name of the ResNet that has these weights, by its stages, bottlenecks and first layer."""
    first = weights.get("conv1.weight")
    if first is None or first.dim() not in (4, 5):
        raise UsageError(
            f"{path} is no ResNet in the layout of torchvision, SwAV or MedicalNet: it has no conv1.weight "
            f"(but {_some(weights)})"
        )
    blocks = tuple(
        1 + max((int(match[1]) for name in weights if (match := re.match(rf"layer{stage}\.(\d+)\.", name))), default=-1)
        for stage in range(1, 5)
    )
    bottleneck = "layer1.0.conv3.weight" in weights
    depths = [depth for depth, kind in DEPTHS.items() if kind == (blocks, bottleneck)]
    if not depths:
        kind = "bottleneck" if bottleneck else "plain"
        known = ", ".join(f"resnet{depth}" for depth in DEPTHS)
        raise UsageError(f"{path} has {blocks} {kind} blocks, which is none of {known}: take the file of one of these")
    if "layer2.0.downsample.0.weight" not in weights:
        raise UsageError(
            f"{path} has no weights for its shortcuts (layer2.0.downsample): they are of type A, as in MedicalNet's "
            "resnet18 and resnet34, ours of type B: take resnet50 or deeper"
        )
    width = first.shape[0] / 64
    return f"resnet{depths[0]}" + (f"w{width:g}" if width != 1 else "") + ("_3d" if first.dim() == 5 else "")


def _to_grey(weights: dict[str, Tensor], layout: Layout) -> None:
    """Sum conv1 over RGB for our input, in place.

    Theirs is sum_c W_c (g - m_c) / s_c of a grey value g, ours W (g - 0.5) / 0.25. So W = 0.25 sum_c W_c / s_c, and
    what is left, sum_c W_c (0.5 - m_c) / s_c summed over the window, is a constant per output channel, which is taken
    from the mean that bn1 subtracts.
    """
    kernel = weights["conv1.weight"].double()
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in (layout.mean, layout.deviation))
    scaled = kernel / deviation[:, None, None]
    left = (scaled * (INPUT_MEAN - mean)[:, None, None]).sum((1, 2, 3))
    weights["conv1.weight"] = (INPUT_DEVIATION * scaled.sum(1, keepdim=True)).float()
    weights["bn1.running_mean"] = (weights["bn1.running_mean"].double() - left).float()


def _check(path: Path, architecture: str, expected: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    """Raise UsageError unless names, shapes and values are those of the architecture."""
    missing = expected.keys() - weights.keys()
    extra = weights.keys() - expected.keys()
    if missing or extra:
        texts = [f"lacks {_some(missing)}"] if missing else []
        texts += [f"has {_some(extra)} beside it"] if extra else []
        raise UsageError(f"{path} looks like a {architecture} but {' and '.join(texts)}: take a file of one network")
    other = sorted(name for name, value in expected.items() if value.shape != weights[name].shape)
    if other:
        ours, theirs = (tuple(values[other[0]].shape) for values in (expected, weights))
        raise UsageError(
            f"{path} looks like a {architecture} but its {other[0]} is {theirs}, not {ours}, and {len(other) - 1} more "
            "differ: variants such as ResNeXt and Wide ResNet are not known"
        )
    broken = sorted(name for name, value in weights.items() if not torch.isfinite(value).all())
    if broken:
        raise UsageError(f"{path} holds values that are not finite ({_some(broken)}): it is damaged")


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
