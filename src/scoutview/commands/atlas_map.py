"""Features in the plane: t-SNE of some thousands of images, their two main axes beyond."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

MOST = 5000
"""Images up to which t-SNE takes a minute or less."""
FEWEST = 8
_AXES = 50
_PERPLEXITY = 30.0
_FLAT = 1e-12


def plane(unit: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], dict[str, str]]:
    """(places [image, 2] in [0, 1], one scale for both axes; the method with what it cannot show).

    unit [image, feature]: unit vectors. The same vectors give the same map, on the same versions.
    """
    centred = unit - unit.mean(axis=0)
    axes = min(_AXES, *unit.shape)
    if len(unit) < 2 or float((centred**2).sum()) < _FLAT:
        return np.full((len(unit), 2), 0.5), {"method": "none", "words": "All images have the same features."}
    analysis = PCA(axes, random_state=0)
    main = analysis.fit_transform(centred)
    if FEWEST <= len(unit) <= MOST:
        perplexity = min(_PERPLEXITY, (len(unit) - 1) / 3)
        drawn = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(main)
        words = (
            f"t-SNE (perplexity {perplexity:.3g}, seed 0) of the {axes} main axes of the unit features: it keeps "
            "neighbours together. How large a group is drawn, how far groups lie apart and where they lie mean nothing."
        )
        return _scaled(np.asarray(drawn, dtype=np.float64)), {"method": "t-SNE", "words": words}
    drawn = np.pad(main[:, :2], ((0, 0), (0, max(0, 2 - axes))))
    share = float(analysis.explained_variance_ratio_[:2].sum())
    words = (
        f"The two main axes (PCA) of the unit features, which hold {share:.0%} of their variance: distances are true "
        "as far as these go, and images that lie on one another may differ in all other axes."
    )
    return _scaled(drawn), {"method": "PCA", "words": words}


def _scaled(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = places.min(axis=0), places.max(axis=0)
    span = max(float((high - low).max()), _FLAT)
    middle: npt.NDArray[np.float64] = (places - (low + high) / 2) / span + 0.5
    return middle
