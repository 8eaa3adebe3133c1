"""What is computed a slab at a time equals what is computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from scoutview.images import Image, measure, radial_spectrum, slabs
from scoutview.images.types import to_int16
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess


@pytest.mark.parametrize("shape", [(37, 51), (1, 900), (900, 1)])
def test_slabs_cover_every_row_once(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]) -> None:
    monkeypatch.setattr(slabs, "SLAB", 200)
    rows = [row for slab in slabs.row_slabs(*shape) for row in range(slab.start, slab.stop)]
    assert rows == list(range(shape[0]))
    assert all((slab.stop - slab.start) * shape[1] <= max(200, shape[1]) for slab in slabs.row_slabs(*shape))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_pixels_statistics_and_spectra(monkeypatch: pytest.MonkeyPatch, dtype: type, modality: str) -> None:
    generator = np.random.default_rng(1)
    values = (generator.standard_normal((61, 47)) * 3000 + 20000).astype(dtype)

    def computed() -> tuple[np.ndarray, ...]:
        pixels, slope, offset, shifted = to_int16(values)
        image = Image(pixels, modality, slope, offset, units="HU" if modality == "ct" else "", shifted=shifted)
        unit = preprocess(pixels, calibration_of(image), Preprocessing())
        return pixels, np.array([slope, offset, shifted]), np.array(vars(measure(pixels))), unit

    whole = computed()
    spectrum = radial_spectrum(whole[-1]).power
    monkeypatch.setattr(slabs, "SLAB", 200)
    for one, other in zip(computed(), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(radial_spectrum(whole[-1]).power, spectrum, rtol=1e-12)
