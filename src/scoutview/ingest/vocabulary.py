"""Words that may leave a header: known vendors, modalities and registered UIDs. All else may be free text."""

from __future__ import annotations

import re

VENDORS = (
    "AGFA", "ALOKA", "ATL", "BRUKER", "CANON", "CARESTREAM", "DEL MEDICAL", "ELSCINT", "ESAOTE", "FISCHER", "FUJI",
    "GE", "GENERAL ELECTRIC", "HITACHI", "HOLOGIC", "HYPERFINE", "KODAK", "KONICA", "LODOX", "LORAD", "MARCONI",
    "MEDISON", "MINDRAY", "NEUSOFT", "PHILIPS", "PICKER", "PLANMECA", "SAMSUNG", "SECTRA", "SHIMADZU", "SIEMENS",
    "SONOSITE", "SUPERSONIC", "SWISSRAY", "TOSHIBA", "UNITED IMAGING", "VIDAR", "ZIEHM", "ZONARE",
)  # fmt: skip

MODALITIES = frozenset({
    "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CR", "CT", "CTPROTOCOL", "DG", "DOC", "DX", "ECG", "EPS", "ES", "FID",
    "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP",
    "OPM", "OPT", "OPV", "OSS", "OT", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE",
    "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "TG", "US", "VA", "XA", "XC",
})  # fmt: skip
"""Defined terms of Modality (PS3.3 C.7.3.1.1.1)."""


def vendor_in(text: str) -> str:
    """The known vendor that a text names as a word or the beginning of one, or ""."""
    words = f" {re.sub(r'[^A-Z0-9]+', ' ', text.upper())} "
    found = [name for name in VENDORS if f" {name} " in words or (len(name) > 3 and f" {name}" in words)]
    return max(found, key=len, default="")


def known_modality(text: str) -> str:
    """A defined term as it is; anything else is "of no defined term"."""
    return text if text in MODALITIES else "of no defined term"


def registered(uid: str) -> str:
    """A UID of the DICOM standard as it is; anything else is "private"."""
    return uid if re.fullmatch(r"1\.2\.840\.10008(\.\d{1,8}){1,10}", uid) else "private"
