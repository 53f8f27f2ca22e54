"""What tells one object from another, as JSON: for the settings of a run folder."""

from typing import Any

from torch import nn

from lidar_lightning.backbones.base import Backbone, fingerprint
from lidar_lightning.rewards.base import Reward


def describe(value: Any) -> Any:
    """An object, and what it is made of, as JSON.

    That is class names and public settings; of networks a fingerprint of their weights; of rewards name and version; of
    functions the name alone.
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    kind = type(value).__name__
    if isinstance(value, nn.Module):
        weights = value.fingerprint() if isinstance(value, Backbone) else fingerprint(kind, value.state_dict())
        return {"class": kind, "fingerprint": weights}
    if isinstance(value, Reward):
        return f"{value.name} {value.version}"
    if hasattr(value, "__name__"):
        return value.__name__
    public = {key: item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    return {"class": kind, **{key: describe(item) for key, item in public.items()}}
