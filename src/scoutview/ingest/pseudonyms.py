"""Keyed pseudonyms: identifiers become HMAC-SHA256 values under a secret that never lies in a store.

Without the secret a key cannot be recomputed from a guessed identifier, which a plain hash would allow.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from scoutview.errors import UsageError
from scoutview.files import sync

Kind = Literal["patient", "study", "series", "stack", "instance", "file", "path", "name", "stamp"]

VARIABLE = "SCOUTVIEW_KEY"


@dataclass(frozen=True)
class Pseudonyms:
    """Makes keys under `secret`. Small, and cheap to send to another process."""

    secret: bytes

    def __repr__(self) -> str:
        return f"Pseudonyms(salt_id={self.salt_id()!r})"

    @classmethod
    def from_environment(cls) -> Self:
        """The secret of SCOUTVIEW_KEY, else of the user's key file, which is created on first use.

        Raises:
            UsageError: if the key file is readable by others, is empty, or cannot be read or made.
        """
        value = os.environ.get(VARIABLE, "")
        return cls(value.encode() if value else _secret_of_file(key_file()))

    @classmethod
    def for_rehearsal(cls) -> Self:
        """The secret as `from_environment` gives it, or one that is forgotten again where none was made yet."""
        if os.environ.get(VARIABLE) or key_file().exists():
            return cls.from_environment()
        return cls(os.urandom(32))

    def key(self, kind: Kind, value: str) -> str:
        """32 hex digits that stand for `value`; different kinds never share keys; "" stays ""."""
        if not value:
            return ""
        return hmac.new(self.secret, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:32]

    def salt_id(self) -> str:
        """8 hex digits that name the secret without telling it: stores made under one secret can be joined."""
        return hmac.new(self.secret, b"salt id", "sha256").hexdigest()[:8]


def key_file() -> Path:
    """Where the secret lies when SCOUTVIEW_KEY does not give it."""
    configuration = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(configuration) if configuration else Path.home() / ".config") / "scoutview" / "key"


def stem_of(name: str) -> str:
    """A file name without its picture or volume suffix ("scan.nii.gz" -> "scan"); other dots belong to the name."""
    for suffix in (".nii.gz", ".nii", ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _secret_of_file(path: Path) -> bytes:
    try:
        if not path.exists():
            _create(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise UsageError(
                f"the key file {path} can be read by others (mode {mode:04o}): run chmod 600 on it, or set {VARIABLE}"
            )
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(
            f"the key file {path} cannot be used ({error.strerror}): set {VARIABLE} to a secret of your own"
        ) from error
    if len(secret) < 16:
        raise UsageError(f"the key file {path} holds no secret: restore it from a copy, or remove it")
    return secret


def _create(path: Path) -> None:
    """Write a fresh secret; when two processes do so at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".key.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, hashlib.sha256(os.urandom(64)).hexdigest().encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
        sync(path.parent)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
