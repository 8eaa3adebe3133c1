"""`scoutview export`: a model for other tools, checked against the network before it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scoutview.errors import UsageError
from scoutview.export import FORMATS, export_model, open_model


def export(
    run: Path,
    *,
    format: Literal["safetensors", "onnx", "torch-export", "huggingface", "monai"],  # noqa: A002
    out: Path,
) -> Path:
    """Write a model in the format of another tool, with a model card; it is loaded back and compared first.

    Args:
        run: Run folder (the fine-tuned model if it has one, else the encoder), or an encoder file.
        format: Which format.
        out: New folder for the model and its card, README.md.

    Returns:
        The folder.

    Raises:
        UsageError: No such run, an extra that is not installed, or a folder that is not empty.
        RunError: What was written differs from the network; then nothing is left.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    difference = export_model(open_model(run), FORMATS[format], out)
    print(f"{out / FORMATS[format].file}: {FORMATS[format].tool} differs from the network by {difference:.1e} at most")
    return out
