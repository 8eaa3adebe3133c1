"""Views of one 1024 px image on one core, beside a PIL pipeline and beside direct filtering, in the same run.

Ours: the canvas of an image, the parameters of 8 views (2 of 224 px, 6 of 92 px) and the views, with the energy
augmentation in every view and with the recipe's chances; the energies come from a stored spectrum. PIL: random
resized crops of SwAV's areas, jitter of brightness and contrast, Gaussian blur, to a tensor, on an image in RGB, as
pipelines for natural images have it, and on a grey one; every view, and with SwAV's chances (0.8 and 0.5). Direct:
each view's cascade of five Gaussians at full resolution with scipy, energies measured, then rescale and crop with PIL.
Accuracy is a test: tests/views/test_render.py.

Run: python benchmarks/views.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.batches.sampler import Draw
from scoutview.images import BAND_SIGMAS, Spectrum, radial_spectrum
from scoutview.memory import keep_freed_memory
from scoutview.views import (
    ReferenceEnergies,
    ViewParameters,
    ViewSettings,
    canvas_of,
    draw_parameters,
    render_views,
)

SIDE = 1024
IMAGES = 8
"""Images of a batch; PIL handles one after the other, as a loader does."""
KINDS = ((224, 2, (0.14, 1.0)), (92, 6, (0.05, 0.14)))
SIZES = [size for size, count, _ in KINDS for _ in range(count)]

Pixels = npt.NDArray[np.float32]


def picture() -> Pixels:
    """A grey image whose amplitude falls as one over frequency, in [0, 1]."""
    noise = np.fft.rfft2(np.random.default_rng(0).standard_normal((SIDE, SIDE)))
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius**1.2, s=(SIDE, SIDE))
    scaled: Pixels = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    return scaled


def references() -> ReferenceEnergies:
    """Energies near those of the picture, so that factors are as usual."""
    mean = np.tile([0.01, 0.02, 0.03, 0.04, 0.05, 0.15], (16, 1))
    return ReferenceEnergies(np.geomspace(32, 1200, 16), mean, mean / 4)


def ours(image: Pixels, spectrum: Spectrum, settings: ViewSettings, step: int) -> list[torch.Tensor]:
    """All views of a batch."""
    samples = [
        ViewSample(Draw(step, place, place), canvas_of(image), drawn(image, spectrum, settings, step, place))
        for place in range(IMAGES)
    ]
    return render_views(collate_views(samples).views, settings.view_sizes())


def drawn(image: Pixels, spectrum: Spectrum, settings: ViewSettings, step: int, place: int) -> ViewParameters:
    """Parameters of the views of one image."""
    shape = (image.shape[0], image.shape[1])
    return draw_parameters(settings, shape, spectrum, references(), seed=0, step=step, position=place)


def by_pil(image: Image.Image, jitter: float, blur: float) -> list[torch.Tensor]:
    """The views of one image."""
    views = []
    for size, count, (low, high) in KINDS:
        for _ in range(count):
            area = random.uniform(low, high) * SIDE * SIDE
            ratio = float(np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3))))
            width, height = min(SIDE, int((area * ratio) ** 0.5)), min(SIDE, int((area / ratio) ** 0.5))
            left, top = random.randint(0, SIDE - width), random.randint(0, SIDE - height)
            view = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
            if random.random() < jitter:
                view = ImageEnhance.Brightness(view).enhance(random.uniform(0.2, 1.8))
                view = ImageEnhance.Contrast(view).enhance(random.uniform(0.2, 1.8))
            if random.random() < blur:
                view = view.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
            views.append(torch.from_numpy(np.asarray(view, dtype=np.float32)).div_(255))
    return views


def by_filters(image: Pixels, parameters: ViewParameters, sizes: list[int]) -> list[torch.Tensor]:
    """The same views as ours, by the definition."""
    views = []
    wanted = references()
    for number, size in enumerate(sizes):
        scale = float(parameters.scale[number])
        total = image
        if (parameters.bands[number] != 1).any():
            level, total = image, np.zeros_like(image)
            energies = wanted.at(scale * SIDE)[0]
            for band, sigma in enumerate(BAND_SIGMAS):
                lower = ndimage.gaussian_filter(level, sigma / scale, mode="reflect")
                part = level - lower
                total += part * np.float32(energies[band] / max(part.std(), 1e-6))
                level = lower
            total += level * np.float32(energies[5] / max(level.std(), 1e-6))
        left, top = float(parameters.left[number]) / scale, float(parameters.top[number]) / scale
        box = (left, top, left + size / scale, top + size / scale)
        view = Image.fromarray(total).resize((size, size), Image.Resampling.BILINEAR, box=box)
        views.append(torch.from_numpy(np.array(view)))
    return views


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    keep_freed_memory()
    image = picture()
    spectrum = radial_spectrum(image)
    grey = Image.fromarray((image * 255).astype(np.uint8))
    colour = grey.convert("RGB")
    recipe, always = ViewSettings(), ViewSettings(energy=1.0, gamma_chance=1.0, linear_chance=1.0)
    parameters = drawn(image, spectrum, always, 0, 0)

    def many(one: Callable[[], object]) -> Callable[[int], object]:
        return lambda _: [one() for _ in range(IMAGES)]

    contenders: dict[str, Callable[[int], object]] = {
        "ours, energy in every view": lambda step: ours(image, spectrum, always, step),
        "ours, as the recipe": lambda step: ours(image, spectrum, recipe, step),
        "PIL in RGB, every view": many(lambda: by_pil(colour, 1.0, 1.0)),
        "PIL in RGB, as SwAV": many(lambda: by_pil(colour, 0.8, 0.5)),
        "PIL in grey, every view": many(lambda: by_pil(grey, 1.0, 1.0)),
        "PIL in grey, as SwAV": many(lambda: by_pil(grey, 0.8, 0.5)),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for step in range(rounds + 1):
        for name, work in contenders.items():
            began = perf_counter()
            work(step)
            if step:  # the first round fetches code and memory
                times[name].append((perf_counter() - began) / IMAGES * 1e3)
    began = perf_counter()
    by_filters(image, parameters, SIZES)
    direct = (perf_counter() - began) * 1e3
    median = {name: float(np.median(values)) for name, values in times.items()}
    for name, value in median.items():
        print(f"{name}: {value:.2f} ms an image (fastest round {min(times[name]):.2f})")
    print(f"direct filters: {direct:.0f} ms an image")
    every, some = median["ours, energy in every view"], median["ours, as the recipe"]
    print(f"time over PIL in RGB, every view: {every / median['PIL in RGB, every view']:.2f} (bar: <= 0.7)")
    print(f"time over PIL in RGB, with the recipes' chances: {some / median['PIL in RGB, as SwAV']:.2f} (bar: <= 0.7)")
    print(f"time over PIL in grey, every view: {every / median['PIL in grey, every view']:.2f} (bar: <= 0.7)")
    print(
        f"time over PIL in grey, with the recipes' chances: {some / median['PIL in grey, as SwAV']:.2f} (bar: <= 0.7)"
    )
    print(f"direct filters over ours: {direct / every:.0f} (bar: >= 25)")


if __name__ == "__main__":
    main()
