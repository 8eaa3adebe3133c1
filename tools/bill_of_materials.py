"""What a release stands on: a CycloneDX bill of materials and a licence table of the installed runtime requirements.

    python tools/bill_of_materials.py --out dist

Runtime is everything but the extras LEFT_OUT. Ends with 1, and writes nothing, when a licence is
none of ACCEPTED: the GPL and AGPL are not, nor is a package that does not say. Metadata is what is read: a wheel may
hold libraries under licences of their own, which it names in its licence files.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "scoutview"
LEFT_OUT = {"dev", "docs", "mlflow", "wandb"}
"""Extras of developers, and loggers, which are clients of services and stand under no pins."""
ACCEPTED = {
    "0BSD": "0BSD",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception": "Apache-2.0 WITH LLVM-exception",
    "BSD License": "BSD",
    "BSD": "BSD",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSL-1.0": "BSL-1.0",
    "CC0-1.0": "CC0-1.0",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MIT-CMU": "MIT-CMU",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Zlib": "Zlib",
}
"""Licences under which a requirement may stand, as metadata spells them: their names in the table."""


@dataclass(frozen=True)
class Part:
    """One installed package. extra: "" if every installation has it, else the first extra that brings it."""

    name: str
    version: str
    licence: str
    accepted: bool
    extra: str
    needs: tuple[str, ...]


def runtime_parts(package: str = PACKAGE) -> list[Part]:
    """The package and all that its requirements bring on this machine, by name.

    Raises:
        PackageNotFoundError: a requirement is not installed.
    """
    extras = metadata.metadata(package).get_all("Provides-Extra") or []
    first: dict[str, str] = {}
    for extra in ["", *sorted(set(extras) - LEFT_OUT)]:
        for name in closure(package, [extra] if extra else []):
            first.setdefault(name, extra)
    parts = []
    for name, extra in sorted(first.items()):
        licence, accepted = licence_of(metadata.metadata(name))
        asked = ["", *(extras if name == package else [])]
        needs = {canonicalize_name(entry.name) for entry in _requirements(name, asked)} & set(first) - {name}
        parts.append(Part(name, metadata.version(name), licence, accepted, extra, tuple(sorted(needs))))
    return parts


def closure(package: str, extras: Iterable[str]) -> set[str]:
    """Canonical names of a package with some extras and of all that it requires, directly or not."""
    asked: set[tuple[str, str]] = set()
    waiting = [(package, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (canonicalize_name(name), extra) in asked:
            continue
        asked.add((canonicalize_name(name), extra))
        for entry in _requirements(name, [extra]):
            waiting += [(entry.name, wanted) for wanted in ("", *entry.extras)]
    return {name for name, _ in asked}


def _requirements(name: str, extras: list[str]) -> list[Requirement]:
    entries = [Requirement(text) for text in metadata.requires(name) or []]
    return [entry for entry in entries if not entry.marker or any(entry.marker.evaluate({"extra": x}) for x in extras)]


def licence_of(content: Any) -> tuple[str, bool]:
    """(the licence, whether it is accepted) from the metadata of a distribution.

    The SPDX expression counts first, then the classifiers, then the first words of the free text.
    """
    expression = content.get("License-Expression")
    if expression:
        alternatives = [part.strip(" ()") for part in expression.split(" AND ")]
        return expression, all(any(name in ACCEPTED for name in part.split(" OR ")) for part in alternatives)
    classifiers = content.get_all("Classifier") or []
    found = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: OSI Approved :: ")]
    if not found:
        text = (content.get("License") or "").strip()
        found = [text.splitlines()[0].strip()] if text else []
    names = [ACCEPTED.get(name, name) for name in found]
    return " OR ".join(names) or "unknown", any(name in ACCEPTED for name in found)


def bill(parts: list[Part]) -> dict[str, Any]:
    """CycloneDX 1.6, without a serial number and a time: the same packages give the same file."""
    about = {part.name: _component(part) for part in parts}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about.pop(PACKAGE) | {"type": "application"}},
        "components": list(about.values()),
        "dependencies": [
            {"ref": _ref(part.name, parts), "dependsOn": [_ref(name, parts) for name in part.needs]} for part in parts
        ],
    }


def _component(part: Part) -> dict[str, Any]:
    spdx = re.fullmatch(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*", part.licence) and part.licence != "BSD"
    licence = {"expression": part.licence} if spdx else {"license": {"name": part.licence}}
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{part.name}@{part.version}",
        "name": part.name,
        "version": part.version,
        "purl": f"pkg:pypi/{part.name}@{part.version}",
        "scope": "optional" if part.extra else "required",
        "licenses": [licence],
    }


def _ref(name: str, parts: list[Part]) -> str:
    return next(f"pkg:pypi/{part.name}@{part.version}" for part in parts if part.name == name)


def table(parts: list[Part]) -> str:
    """The licences as a Markdown table."""
    rows = [f"| {part.name} | {part.version} | {part.licence} | {part.extra} |" for part in parts]
    return "\n".join(["| package | version | licence | extra |", "|---|---|---|---|", *rows, ""])


def main() -> int:
    """Write both files. Returns 1 if a licence is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    out = parser.parse_args().out
    parts = runtime_parts()
    refused = [part for part in parts if not part.accepted]
    for part in refused:
        print(f"{part.name} {part.version}: licence {part.licence!r} is not accepted", file=sys.stderr)
    if refused:
        return 1
    out.mkdir(parents=True, exist_ok=True)
    version = metadata.version(PACKAGE)
    (out / f"{PACKAGE}-{version}.cdx.json").write_text(json.dumps(bill(parts), indent=1) + "\n", encoding="utf-8")
    (out / f"{PACKAGE}-{version}.licences.md").write_text(table(parts), encoding="utf-8")
    print(f"{len(parts) - 1} packages, all under accepted licences: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
