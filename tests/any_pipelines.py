"""Tiny genuine pipelines of every class in the table of docs/how-to/any-pipeline.md, as `AnyPipeline`."""

import torch

from lidar_lightning import AnyPipeline
from tests import modern_pipelines, pipelines

NAMES = [*pipelines.BUILDERS, *modern_pipelines.BUILDERS]


def make(name, **settings):
    """A tiny pipeline and what it is called with."""
    if name in pipelines.BUILDERS:
        pipe, call = pipelines.build(name), {"height": 32, "width": 32, "guidance_scale": 3.0}
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
    else:
        pipe, call = modern_pipelines.build(name), {**modern_pipelines.SIZE, **modern_pipelines.CALLS[name]}
    return AnyPipeline(pipe, call, name=name, **settings)
