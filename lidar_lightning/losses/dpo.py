"""The preference loss of Diffusion-DPO, for any denoising error."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class DPOTerms(NamedTuple):
    """What `dpo_loss` computes for each pair; every tensor is (B,)."""

    loss: Tensor
    margin: Tensor
    """Implicit reward of the chosen less that of the rejected sample; positive where the policy agrees."""


def dpo_loss(chosen: Tensor, rejected: Tensor, chosen_ref: Tensor, rejected_ref: Tensor, beta: float) -> DPOTerms:
    """The loss of each pair: -log sigmoid(margin), margin = -(beta / 2) [(e_w - e_w^ref) - (e_l - e_l^ref)].

    Args:
        chosen, rejected: denoising errors e_w, e_l of the policy (B,), drawn with the same t and noise.
        chosen_ref, rejected_ref: those of the reference (B,), with the same draws.
        beta: 5000 is the published value for latent-mean squared errors, about 100 for flow velocities; for the
            per-sequence NELBO in nats it is twice the beta of the usual DPO on log-likelihoods.

    Source: Wallace et al., "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, eq. 14.
    """
    margin = -(beta / 2) * ((chosen - chosen_ref) - (rejected - rejected_ref))
    return DPOTerms(-F.logsigmoid(margin), margin)
