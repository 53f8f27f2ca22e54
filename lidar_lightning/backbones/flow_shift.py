"""The resolution-dependent shift of flow-matching time grids."""

from typing import Any

from diffusers.pipelines.flux.pipeline_flux import calculate_shift


def flow_grid(scheduler: Any, tokens: int, max_shift: float = 1.15) -> dict[str, float]:
    """The argument `mu` of a dynamically shifted scheduler for a picture of `tokens` tokens; {} for any other one.

    mu rises linearly from base_shift at base_image_seq_len tokens to max_shift at max_image_seq_len (Esser et al.,
    arXiv 2403.03206, section 5.3.2).
    """
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    mu = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", max_shift),
    )
    return {"mu": mu}
