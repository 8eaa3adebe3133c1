"""Series that readers get wrong, read by scoutview and, where they are installed, by MONAI and SimpleITK.

Run: python benchmarks/traps.py

The value of every voxel is a linear function of its place in the patient, so a volume is right when its values and
its affine agree with that function everywhere. "right": every volume is found and every value right, or a series
that cannot be read is refused. "wrong": a volume came back, without an error, that is not one of the patient.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.ingest import run_ingest
from scoutview.phantoms.traps import TRAPS, Trap, largest_error
from scoutview.store import Store, read_volume, volumes_of

Volume = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
"""Values [slice, row, column], and the affine from (column, row, slice, 1) to LPS in mm."""


def by_scoutview(folder: Path) -> list[Volume]:
    """The volumes of a store into which the folder was taken; an error when nothing could be."""
    store_path = folder.parent / "store"
    summary = run_ingest([folder], store_path, workers=1)
    store = Store.open(store_path)
    volumes = []
    for volume in volumes_of(store.rows()):
        affine = volume.affine()
        assert affine is not None
        volumes.append((read_volume(store, volume), affine))
    if not summary.taken:
        raise ValueError(", ".join(summary.reasons))
    return volumes


def by_monai(folder: Path) -> list[Volume]:
    """As a user of MONAI's DICOM reader gets them: a folder is a series."""
    from monai.data import PydicomReader

    volumes = []
    for place in sorted({path.parent for path in folder.rglob("*.dcm")}):
        reader = PydicomReader()
        values, meta = reader.get_data(reader.read(place))
        values = np.asarray(values)
        if values.ndim == 2:
            values = values[..., None]
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(meta["affine"], dtype=np.float64)
        volumes.append((values.transpose(2, 1, 0), affine))
    return volumes


def by_simpleitk(folder: Path) -> list[Volume]:
    """Every series that GDCM finds in the folder and below, read by SimpleITK's series reader."""
    import SimpleITK as Itk

    Itk.ProcessObject.SetGlobalWarningDisplay(False)
    volumes = []
    for place in sorted({path.parent for path in folder.rglob("*.dcm")}):
        for series in Itk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            reader = Itk.ImageSeriesReader()
            reader.SetFileNames(Itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), series))
            image = reader.Execute()
            affine = np.eye(4)
            affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
            affine[:3, 3] = image.GetOrigin()
            volumes.append((Itk.GetArrayFromImage(image), affine))
    if not volumes:
        raise ValueError("no series found")
    return volumes


READERS: dict[str, tuple[str, Callable[[Path], list[Volume]]]] = {
    "scoutview": ("scoutview", by_scoutview),
    "MONAI": ("monai", by_monai),
    "SimpleITK": ("SimpleITK", by_simpleitk),
}


def verdict(trap: Trap, read: Callable[[Path], list[Volume]]) -> str:
    """What a reader makes of a trap, in a few words."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "source"
        trap.write(folder)
        try:
            volumes = read(folder)
        except Exception as error:  # whatever a reader raises
            text = str(error).strip().splitlines()
            said = text[-1][:60] if text else type(error).__name__
            return f"refused ({said})" if not trap.volumes else f"not read ({type(error).__name__})"
    several = [volume for volume in volumes if len(volume[0]) > 1]
    if not several and volumes and trap.volumes:
        return "one picture" if len(volumes) == 1 else f"{len(volumes)} pictures"
    return judged(trap, several)


def judged(trap: Trap, volumes: list[Volume]) -> str:
    """Compare the volumes of several slices with the true ones."""
    missing = list(trap.volumes)
    wrong = []
    for values, affine in volumes:
        errors = [
            largest_error(np.asarray(values, dtype=np.float64), affine, truth)
            if truth.slices == len(values)
            else np.inf
            for truth in missing
        ]
        if errors and min(errors) <= trap.allowed:
            del missing[int(np.argmin(errors))]
        else:
            wrong.append(f"{len(values)} slices, {_spacing(affine):.2f} mm apart")
    if wrong:
        return f"WRONG ({'; '.join(wrong)})"
    return f"not all ({len(missing)} of {len(trap.volumes)} volumes missing)" if missing else "right"


def _spacing(affine: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(affine[:3, 2]))


def main() -> None:
    """Print a table of the verdicts, and one line per figure."""
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    readers = {name: read for name, (module, read) in READERS.items() if importlib.util.find_spec(module)}
    print(f"| trap | {' | '.join(readers)} |")
    print(f"|---|{'---|' * len(readers)}")
    right, silent = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0)
    for trap in TRAPS:
        verdicts = {name: verdict(trap, read) for name, read in readers.items()}
        for name, text in verdicts.items():
            right[name] += text.startswith(("right", "refused"))
            silent[name] += text.startswith("WRONG")
        print(f"| {trap.name} | {' | '.join(verdicts.values())} |", flush=True)
    for name in readers:
        ours = name == "scoutview"
        of, not_read = len(TRAPS), len(TRAPS) - right[name] - silent[name]
        print(f"{name} right or rightly refused, of {of}: {right[name]} (bar: {f'>= {of}' if ours else 'no bar'})")
        print(f"{name} wrong without an error: {silent[name]} (bar: {'<= 0' if ours else 'no bar'})")
        print(f"{name} not read: {not_read} (bar: {'<= 0' if ours else 'no bar'})")


if __name__ == "__main__":
    main()
