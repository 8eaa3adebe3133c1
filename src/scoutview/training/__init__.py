"""What every training shares: devices, schedules, LARC, synchronised BatchNorm, checkpoints, the run folder.

In: settings. Out: a Fabric, learning rates by step, files that survive a kill.
"""

from scoutview.training.checkpoint import latest_checkpoint, load_checkpoint, restoring, save_checkpoint
from scoutview.training.communication import all_reduce, gather_samples
from scoutview.training.devices import device, make_fabric, resolve_compile, resolve_precision, resolve_workers
from scoutview.training.knn_probe import LabelTask, knn_probe, label_task, probe_tasks
from scoutview.training.larc import scale_gradients
from scoutview.training.loggers import LoggerName, following
from scoutview.training.optimizer import make_adamw, make_optimizer
from scoutview.training.run_folder import RunFolder
from scoutview.training.schedule import cosine_with_warmup
from scoutview.training.stages import Stages, slowest, watch_gradients
from scoutview.training.stopping import Stop
from scoutview.training.sync_batchnorm import convert_batchnorm

__all__ = [
    "LabelTask",
    "LoggerName",
    "RunFolder",
    "Stages",
    "Stop",
    "all_reduce",
    "convert_batchnorm",
    "cosine_with_warmup",
    "device",
    "following",
    "gather_samples",
    "knn_probe",
    "label_task",
    "latest_checkpoint",
    "load_checkpoint",
    "make_adamw",
    "make_fabric",
    "make_optimizer",
    "probe_tasks",
    "resolve_compile",
    "resolve_precision",
    "resolve_workers",
    "restoring",
    "save_checkpoint",
    "scale_gradients",
    "slowest",
    "watch_gradients",
]
