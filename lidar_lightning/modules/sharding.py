"""A network whose weights are spread over the processes that train it (FSDP2)."""

from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(network: nn.Module, mesh: Any) -> None:
    """Spreads the weights of a network over a mesh of processes; each block is whole only while it computes.

    Args:
        network: a network of diffusers, which names the classes of its blocks; one that is sharded is left as it is.
        mesh: a one-dimensional device mesh.
    """
    if isinstance(network, FSDPModule):
        return
    blocks = set(getattr(network, "_no_split_modules", None) or ())
    for module in reversed(list(network.modules())[1:]):  # what is inside of others first
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)
