"""Self-supervised and hybrid pretraining: several methods behind one small interface, in one flat loop.

In: an archive, a recipe, a run folder. Out: checkpoints, metrics, and the encoder file.
"""

from scoutview.pretraining.data import TrainingData
from scoutview.pretraining.loop import Conduct, run_pretraining
from scoutview.pretraining.methods import labels_of
from scoutview.pretraining.recipe import Recipe, load_recipe
from scoutview.pretraining.settings import Settings, resolve, resolve_input_size
from scoutview.pretraining.trained import TrainedPrototypes, trained_prototypes

__all__ = [
    "Conduct",
    "Recipe",
    "Settings",
    "TrainedPrototypes",
    "TrainingData",
    "labels_of",
    "load_recipe",
    "resolve",
    "resolve_input_size",
    "run_pretraining",
    "trained_prototypes",
]
