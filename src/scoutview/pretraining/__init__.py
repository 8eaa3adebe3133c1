"""Self-supervised pretraining: swapped prediction with online clustering per modality, in one flat loop.

In: an archive, a recipe, a run folder. Out: checkpoints, metrics, and the encoder file.
"""

from scoutview.pretraining.data import training_dataset, training_selections, training_volumes
from scoutview.pretraining.loop import Conduct, run_pretraining
from scoutview.pretraining.recipe import Recipe, Settings, load_recipe, resolve

__all__ = [
    "Conduct",
    "Recipe",
    "Settings",
    "load_recipe",
    "resolve",
    "run_pretraining",
    "training_dataset",
    "training_selections",
    "training_volumes",
]
