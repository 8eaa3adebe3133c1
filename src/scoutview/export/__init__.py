"""Models for other tools, and findings for the archive they came from.

In: a run folder. Out: a folder with the model in another tool's format, checked against the network, and a model card.
"""

from scoutview.export.hugging_face import HUGGING_FACE
from scoutview.export.model import ExportModel, open_model
from scoutview.export.monai_bundle import MONAI
from scoutview.export.onnx_file import ONNX
from scoutview.export.torch_program import TORCH_PROGRAM
from scoutview.export.weights import SAFETENSORS, load_exported
from scoutview.export.writing import Format, export_model

FORMATS: dict[str, Format] = {
    "safetensors": SAFETENSORS,
    "onnx": ONNX,
    "torch-export": TORCH_PROGRAM,
    "huggingface": HUGGING_FACE,
    "monai": MONAI,
}
"""By the name that `scoutview export --format` takes."""

__all__ = ["FORMATS", "ExportModel", "Format", "export_model", "load_exported", "open_model"]
