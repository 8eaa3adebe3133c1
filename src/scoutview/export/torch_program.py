"""model.pt2: the network as a graph of torch operators, which torch loads without the code of the network."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from scoutview.export.model import ExportModel, describe
from scoutview.export.parity import Runner, arrays
from scoutview.export.writing import Format

FILE, DESCRIPTION = "model.pt2", "scoutview.json"


def write_program(model: ExportModel, folder: Path) -> None:
    """Write model.pt2 for a batch of any size; the description lies in it as the file scoutview.json."""
    program = torch.export.export(
        model.network, (torch.zeros(2, *model.shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, folder / FILE, extra_files={DESCRIPTION: json.dumps(describe(model))})


def load_program(folder: Path) -> Runner:
    """The file as torch loads it."""
    network = torch.export.load(folder / FILE).module()
    return lambda images: arrays(network(torch.from_numpy(images)))


TORCH_PROGRAM = Format(
    file=FILE,
    tool="torch.export",
    usage=f"""```python
import torch

network = torch.export.load("model.pt2").module()
outputs = network(images)
```

`torch.export.load("model.pt2", extra_files=files)` with `files = {{"{DESCRIPTION}": ""}}` gives what follows.""",
    write=write_program,
    load=load_program,
)
