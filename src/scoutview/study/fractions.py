"""Label fractions: nested subsets of the labelled images, drawn by patient and stratified by class (spec section 7)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def labelled_part(
    patients: npt.NDArray[np.str_], classes: npt.NDArray[np.int64], fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Which images [image] keep their label when only a fraction of the patients is labelled.

    patients [image] are keys (or any group that must stay together), classes [image] numbers. Each patient counts
    for the rarest of its classes; of each class's patients, in an order drawn from the seed, the first share is
    kept. Each class keeps at least one patient. For one seed the parts are nested: what a smaller fraction keeps, a
    larger one keeps too. Depends on nothing but the arguments, so every encoder gets the same part.
    """
    names, patient = np.unique(patients, return_inverse=True)
    present = np.zeros((len(names), int(classes.max()) + 1), dtype=bool)
    present[patient, classes] = True
    rarity = present.sum(0)
    stratum = np.where(present, rarity, np.iinfo(np.int64).max).argmin(1)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(names))
    priority = np.zeros(len(names))
    for value in np.unique(stratum):
        members = order[stratum[order] == value]
        priority[members] = (np.arange(len(members)) + 0.5) / len(members)
    for value in np.flatnonzero(rarity):
        priority[order[present[order, value]][0]] = 0.0
    kept: npt.NDArray[np.bool_] = (priority <= fraction)[patient]
    return kept
