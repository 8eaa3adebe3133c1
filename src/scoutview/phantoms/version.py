"""The version of the drawing. Every bar that was measured on phantoms names it."""

GENERATOR_VERSION = "1"
"""Bump it when the pixels of any modality change for a given seed and index."""
