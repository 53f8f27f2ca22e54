"""What a reward is given: a copy of the samples; and what it may return: one real number per sample."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor


def own_copy(samples: Any) -> Any:
    """A copy of the samples for one reward, which may edit it: a tensor of pixels, or a list of anything else.

    Gradients flow back through the copy of a tensor.
    """
    if isinstance(samples, Tensor):
        return samples.clone()
    if isinstance(samples, np.ndarray):
        return samples.tolist() if samples.dtype.kind in "OSU" else samples.copy()
    return samples if isinstance(samples, str) else list(samples)


def as_scores(name: str, values: Any) -> Tensor:
    """Scores as a float32 tensor, from a tensor, an array, a column of a table or a sequence of numbers.

    Args:
        name: the name of the reward, for messages.

    Raises:
        ValueError: if these are not real numbers, or if an index leaves their order open. The message names the reward.
    """
    kind = type(values).__name__
    if isinstance(values, pd.Series):
        if values.index.tolist() != list(range(len(values))):
            raise ValueError(
                f"reward {name!r} returned a Series whose index is not 0, 1, ..., {len(values) - 1} but "
                f"{values.index.tolist()[:5]}...: return an array in the order of the samples, e.g. by .to_numpy()"
            )
        values = values.to_numpy(na_value=np.nan)
    try:
        if isinstance(values, np.ndarray):
            values = np.array(np.ma.filled(values, np.nan) if np.ma.is_masked(values) else values)
        elif isinstance(values, list | tuple) and values and all(isinstance(value, Tensor) for value in values):
            values = torch.stack([value.reshape(()) for value in values])
        scores = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"reward {name!r} returned {kind}, which is not a sequence of numbers: {error}") from error
    if scores.is_complex():
        raise ValueError(f"reward {name!r} returned complex numbers ({kind}): scores are real, such as .real or .abs()")
    return scores.float()
