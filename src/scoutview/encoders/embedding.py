"""Images or volumes to feature vectors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from scoutview.encoders.file import Encoder
from scoutview.views import network_input


def embed_images(
    encoder: Encoder, images: Iterable[npt.NDArray[np.float32]], batch: int | None = None, device: str = "cpu"
) -> npt.NDArray[np.float32]:
    """Features [image, F], in evaluation mode, of unit-range images [row, column] of any size, or volumes
    [slice, row, column].

    `images` is consumed batch by batch, so a generator keeps memory bounded.
    """
    network, batch = encoder.network.to(device).eval(), batch or encoder.at_once
    features: list[npt.NDArray[np.float32]] = []
    waiting: list[npt.NDArray[np.float32]] = []

    def flush() -> None:
        if waiting:
            inputs = torch.from_numpy(np.stack(waiting)).unsqueeze(1).to(device)
            features.append(network(inputs).float().cpu().numpy())
            waiting.clear()

    with torch.inference_mode():
        for image in images:
            waiting.append(network_input(image, encoder.image_side if image.ndim == 2 else encoder.volume_size))
            if len(waiting) == batch:
                flush()
        flush()
    return np.concatenate(features) if features else np.zeros((0, encoder.network.features), dtype=np.float32)
