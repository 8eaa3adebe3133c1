"""What every training shares: devices, schedules, LARC, synchronised BatchNorm, checkpoints, the run folder.

In: settings. Out: a Fabric, learning rates by step, files that survive a kill.
"""

from scoutview.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from scoutview.training.devices import device, make_fabric, resolve_precision, resolve_workers
from scoutview.training.knn_probe import LabelTask, knn_probe, label_task, probe_tasks
from scoutview.training.larc import scale_gradients
from scoutview.training.run_folder import RunFolder
from scoutview.training.schedule import cosine_with_warmup
from scoutview.training.sync_batchnorm import convert_batchnorm

__all__ = [
    "LabelTask",
    "RunFolder",
    "convert_batchnorm",
    "cosine_with_warmup",
    "device",
    "knn_probe",
    "label_task",
    "latest_checkpoint",
    "load_checkpoint",
    "make_fabric",
    "probe_tasks",
    "resolve_precision",
    "resolve_workers",
    "save_checkpoint",
    "scale_gradients",
]
