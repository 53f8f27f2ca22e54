"""What no reward measures in pictures: how much they differ from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor


def diversity_within(prompts: Sequence[str], samples: Tensor) -> float:
    """The root mean square difference of two samples of one prompt, averaged over pairs and then over prompts.

    Prompts with one sample are left out; the result is 0 if that leaves none.

    Args:
        prompts: n prompts, that of each sample.
        samples: pixels or latents (n, *S).
    """
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    flat = samples.flatten(1).float()
    spreads = [torch.pdist(flat[rows]).mean() / flat.shape[1] ** 0.5 for rows in places.values() if len(rows) > 1]
    return torch.stack(spreads).mean().item() if spreads else 0.0
