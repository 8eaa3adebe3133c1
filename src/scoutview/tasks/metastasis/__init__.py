"""Metastases in slices of volumes (spec section 6, "2.5D"): masks by a U-Net, then a ResNet that sees them.

In: an encoder, masks of a finding in volumes. Out: a job of two stages for the loop, a slice's probability.
"""

from scoutview.tasks.metastasis.job import MetastasisSettings, evaluate_metastasis, metastasis_job

__all__ = ["MetastasisSettings", "evaluate_metastasis", "metastasis_job"]
