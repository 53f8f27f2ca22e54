"""LiDAR sampling of any backbone with `trainer.predict`."""

from typing import Any

from lidar_lightning.backbones import Backbone
from lidar_lightning.guidance.settings import RECOMMENDED, LiDARSettings
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.modules.sampling import SamplingModule
from lidar_lightning.rewards import Reward
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.lidar import LiDAR


class LiDARModule(SamplingModule):
    """Draws samples whose reward is raised by lookahead banks: `SamplingModule` with `samplers.LiDAR`.

    For each prompt a bank of few-step samples is drawn, or found in `out`/banks, and scored. Then the full solver runs,
    guided by the closed form of the bank, from pure noise or, with `restart`, from noised members of the bank.

    As long as no setting is changed from its default, those of `RECOMMENDED` are taken: molecules climb in rounds,
    pictures move from the best lookaheads. Any setting that is given makes all others what `LiDARSettings` says, so
    that `ess=0.1` is the published form.

    Args:
        backbone: the model to guide; `--ckpt_path` may give it weights or adapters trained by `DPOModule`.
        reward: what to raise (lowered if its `higher_is_better` is False).
        lookahead: how banks are drawn; None samples the plain model.
        steps: network calls of the full solver, per sample, of which those below `restart` run. None takes the
            recommended 8 with the recommended settings, and otherwise 32.
        metrics: further rewards that are scored and stored, but do not guide.
        seed: fixes all random numbers of the run.
        method: the name of this run in its tables.
        out: the folder of the run; None only returns predictions.
        training_data: a SMILES file against which novelty is measured; None takes QM9.
        settings: scale, temperature, ess, start, stop, restart, candidates, rounds, moves and smoothing, see
            `LiDARSettings`. With rounds, all samples of a prompt share their candidates; otherwise each sample has its
            own.

    Raises:
        ValueError: if a setting is out of range, or a checkpoint is of another architecture.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        lookahead: Lookahead | None = Lookahead(),  # noqa: B008
        steps: int | None = None,
        metrics: list[Reward] | None = None,
        seed: int = 0,
        method: str = "lidar",
        out: str | None = None,
        training_data: str | None = None,
        **settings: Any,
    ):
        if lookahead is not None and not isinstance(lookahead, Lookahead):
            raise ValueError(f"lookahead must be a Lookahead, or None for the plain model, got {lookahead!r}")
        if lookahead is not None and LiDARSettings(**settings) == LiDARSettings():
            settings = dict(RECOMMENDED.get(getattr(backbone, "modality", ""), {}))
            recommended = settings.pop("steps", None)
            steps = recommended if steps is None else steps
        guided = LiDAR(lookahead or Lookahead(), pooled=settings.get("rounds", 1) > 1, **settings)
        sampler: Sampler = guided if lookahead else BestOfN(1)
        super().__init__(
            backbone, reward, sampler, 32 if steps is None else steps,
            metrics=metrics, seed=seed, method=method, out=out, training_data=training_data,
        )  # fmt: skip
