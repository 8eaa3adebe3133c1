"""Networks, heads, and the encoder file that carries weights, preprocessing and provenance together.

In: an architecture name, an encoder file, or weights that others publish. Out: a module from [image, 1, row, column],
or for volumes [volume, 1, depth, row, column], to features [image, F].
"""

from scoutview.encoders.architectures import InputSize, Network, make_encoder, stage_of, stages_of
from scoutview.encoders.checkpointing import checkpoint_blocks, running_statistics_kept
from scoutview.encoders.densenet import DenseNet
from scoutview.encoders.embedding import embed_images
from scoutview.encoders.file import Encoder, encoder_metadata, load_encoder, save_encoder, untrained_encoder
from scoutview.encoders.foreign import is_foreign, load_foreign, open_encoder
from scoutview.encoders.projector import Projector, at_least_fp32
from scoutview.encoders.resnet import ResNet
from scoutview.encoders.untrusted import load_plain, misfits
from scoutview.encoders.vit import PATCH, VisionTransformer

__all__ = [
    "PATCH",
    "DenseNet",
    "Encoder",
    "InputSize",
    "Network",
    "Projector",
    "ResNet",
    "VisionTransformer",
    "at_least_fp32",
    "checkpoint_blocks",
    "embed_images",
    "encoder_metadata",
    "is_foreign",
    "load_encoder",
    "load_foreign",
    "load_plain",
    "make_encoder",
    "misfits",
    "open_encoder",
    "running_statistics_kept",
    "save_encoder",
    "stage_of",
    "stages_of",
    "untrained_encoder",
]
