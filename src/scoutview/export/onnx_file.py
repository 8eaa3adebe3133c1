"""model.onnx: the network as a graph of ONNX operators, which onnxruntime runs without torch."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scoutview.export.extras import needed
from scoutview.export.model import INPUT, ExportModel, describe
from scoutview.export.parity import Arrays, Runner
from scoutview.export.writing import Format

FILE = "model.onnx"
OPSET = 20
"""Of the default domain; onnxruntime 1.17 and later run it."""


def write_onnx(model: ExportModel, folder: Path) -> None:
    """Write model.onnx, checked by onnx, with a batch of any size and the description as metadata properties."""
    onnx = needed("onnx", "export")
    for package in ("onnxscript", "onnxruntime"):
        needed(package, "export")
    # It would speak of operators of torchvision, which no network here has.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    program = torch.onnx.export(
        model.network,
        (torch.zeros(2, *model.shape),),
        dynamo=True,
        input_names=[INPUT],
        output_names=list(model.outputs),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {**describe(model), "opset": str(OPSET)})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, folder / FILE)


def load_onnx(folder: Path) -> Runner:
    """The file in onnxruntime on the CPU."""
    session = needed("onnxruntime", "export").InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])

    def run(images: npt.NDArray[np.float32]) -> Arrays:
        found: Arrays = session.run(None, {INPUT: images})
        return found

    return run


ONNX = Format(
    file=FILE,
    tool="onnxruntime",
    usage=f"""```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
outputs = session.run(None, {{"{INPUT}": images}})
```

Operators of opset {OPSET}. What follows is in the file, too: `session.get_modelmeta().custom_metadata_map`.""",
    write=write_onnx,
    load=load_onnx,
)
