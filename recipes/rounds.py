"""Rounds of drawing, scoring, fine-tuning and guiding, in which each model proposes the next bank: `lidar rounds`."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import Backbone, BankStore, DPOModule, LiDARModule, Lookahead, Reward
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead.stored import StoredBanks
from lidar_lightning.modules.checkpoint_file import read_checkpoint
from lidar_lightning.modules.checkpoint_io import WholeCheckpointIO
from lidar_lightning.modules.checkpoints import LAST, last_checkpoint, save_last
from lidar_lightning.modules.trained import trained_state
from lidar_lightning.rewards import scored_rewards
from lidar_lightning.rewards.remembered import calls_of, remembered
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.inputs import check_counts, check_parts, check_prompts
from lidar_lightning.runs.parts import Part, join
from lidar_lightning.runs.pool import bank_of, best, joined, top
from lidar_lightning.runs.rounds import DRAWN, GUIDED, TRAINED, report_rounds
from lidar_lightning.runs.summary import sample_metrics
from lidar_lightning.utils.files import expand, sweep, write_atomically
from lidar_lightning.utils.prompts import prompts_of
from lidar_lightning.utils.seeding import stream_seed

logger = logging.getLogger(__name__)
Numbers = dict[str, float]
POOL, FOUND = "pool", "found"
TOLD = {DRAWN: "draw and score", TRAINED: "fine-tune", GUIDED: "guide"}
TOP = 10


class Rounds:
    """Puts what a bank gains into the weights of the model, whose samples then make the next, better bank.

    Round k

    1. draws a bank for each prompt from the model of round k - 1, which at first is the backbone itself, and scores it;
    2. adds the best `keep` samples of all rounds before, and fine-tunes by DPO on the best against the worst;
    3. draws samples from the new model, guided by this bank, and scores them.

    No sample is scored twice (see `Remembered`). Every stage is finished on disk before the next begins, so that a
    killed run goes on where it stopped, and a finished run goes on if more rounds are asked for. It runs on one device.

    Args:
        backbone: the model.
        reward: the reward to raise (it is lowered if its `higher_is_better` is False).
        out: the folder of the run, see `runs.rounds`.
        prompts: the prompts, or the path of a file of them. A model without prompts takes any label.
        rounds: number of rounds.
        lookahead: how the bank of each round is drawn.
        samples: number of guided samples per prompt in each round.
        steps: number of network calls of the full solver that draws guided samples.
        guidance: the settings of the guidance, see `LiDARSettings`.
        keep: number of the best samples of all rounds before that are added to each bank.
        lora: adapters, or None for full fine-tuning.
        beta, lr, draws: see `DPOModule`; the reference is the backbone in all rounds.
        tuning_steps: number of optimizer steps in each round.
        pairs, fraction, batch_size: see `PreferenceDataModule`.
        metrics: further rewards that are scored and tabulated, but do not guide.
        precision: the precision of Lightning's trainer.
        seed: determines all random numbers.
        training_data: for molecules, the SMILES file against which novelty is measured; None takes QM9.

    Raises:
        ValueError: if a setting is out of range, if parts do not fit together, or, during a run, if all samples of a
            bank have the same score, so that there are no preferences.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        out: str,
        prompts: list[str] | str = "molecule",
        rounds: int = 5,
        lookahead: Lookahead = Lookahead(),  # noqa: B008
        samples: int = 200,
        steps: int = 8,
        guidance: LiDARSettings = LiDARSettings(ess=0.9, restart=0.4),  # noqa: B008
        keep: int = 100,
        lora: LoRA | None = LoRA(),  # noqa: B008
        beta: float = 0.2,
        lr: float = 3e-4,
        draws: int = 2,
        tuning_steps: int = 50,
        pairs: int = 2048,
        fraction: float = 0.25,
        batch_size: int = 32,
        metrics: list[Reward] | None = None,
        precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
        seed: int = 0,
        training_data: str | None = None,
    ):
        check_parts(backbone, reward, metrics, training_data)
        check_counts(rounds=rounds, samples=samples, steps=steps, tuning_steps=tuning_steps)
        if not isinstance(keep, int) or keep < 0:
            raise ValueError(f"keep, the number of samples that join the next bank, must be at least 0, got {keep}")
        self.prompts = prompts_of(prompts)
        check_prompts(scored_rewards(reward, metrics or []), self.prompts)
        lookahead.check_size(backbone)
        self.out, self.rounds, self.seed, self.keep = expand(out), rounds, seed, keep
        self.backbone, self.lookahead, self.guidance = backbone, lookahead, guidance
        self.samples, self.steps, self.metrics = samples, steps, metrics or []
        self.tuning_steps, self.pairs, self.fraction, self.batch_size = tuning_steps, pairs, fraction, batch_size
        self.precision: Any = precision
        self.training_data = training_data
        self.settings: dict[str, Any] = {
            "modality": backbone.modality, "backbone": backbone.name, "fingerprint": backbone.fingerprint(),
            "reward": reward.described(), "scored": {r.name: r.identity for r in scored_rewards(reward, self.metrics)},
            "prompts": self.prompts, "lookahead": lookahead.origin(backbone), "samples": samples, "steps": steps,
            "guidance": asdict(guidance), "keep": keep, "lora": lora and asdict(lora), "beta": beta, "lr": lr,
            "draws": draws, "tuning_steps": tuning_steps, "pairs": pairs, "fraction": fraction,
            "batch_size": batch_size, "precision": precision, "seed": seed,
        }  # fmt: skip
        L.seed_everything(seed, verbose=False)
        export = str(self.out / "lora") if lora and backbone.modality == "image" else None
        self.module = DPOModule(backbone, beta, lora, lr, draws, export=export)
        self.first = {name: value.detach().clone() for name, value in trained_state(self.module).items()}
        self.data(0)  # checks its settings
        self.reward = remembered(reward, self.out / "scores")

    def open(self) -> None:
        """Begins or continues the run. Raises ValueError if the folder holds a run with other settings."""
        for folder in (self.out, self.out / "stages", self.out / "scores"):
            sweep(folder)
        RunFolder(self.out, self.settings).open()

    def run(self) -> Path:
        """Goes through all rounds and returns the path of the report."""
        self.open()
        rows = []
        for number in range(1, self.rounds + 1):
            stages = {DRAWN: self.draw, TRAINED: self.tune, GUIDED: self.guide}
            rows.append({name: self.stage(name, number, work) for name, work in stages.items()})
        checkpoint = self.folder(TRAINED, self.rounds) / LAST
        write_atomically(self.out / LAST, checkpoint.read_bytes())
        names = self.reward.name, self.reward.higher_is_better, self.backbone.modality
        return report_rounds(self.out, rows, self.settings, *names)

    def folder(self, stage: str, number: int) -> Path:
        """The folder in which a stage of a round leaves its results."""
        return self.out / f"{stage}-{number}"

    def stage(self, name: str, number: int, work: Callable[[int], Numbers]) -> Numbers:
        """The numbers of a stage, which are read if it is finished; otherwise its work is done now."""
        path = self.out / "stages" / f"{name}-{number}.json"
        if not path.exists():
            logger.info("round %d of %d: %s ...", number, self.rounds, TOLD[name])
            L.seed_everything(stream_seed(self.seed, name, number) % 2**32, verbose=False)
            numbers = work(number)
            write_atomically(path, json.dumps({**numbers, "scoring_calls": calls_of(self.reward)}, indent=1).encode())
        return json.loads(path.read_text())

    def policy(self, number: int) -> None:
        """Gives the backbone the weights of the model of a round; those of round 0 are its own."""
        state = self.first
        if number:
            state = read_checkpoint(self.folder(TRAINED, number) / LAST)["state_dict"]
        self.module.load_state_dict(state, strict=False)
        self.backbone.eval()

    def trainer(self, **settings: Any) -> L.Trainer:
        given = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, **settings}
        return L.Trainer(devices=1, precision=self.precision, plugins=[WholeCheckpointIO()], **given)

    def draw(self, number: int) -> Numbers:
        """Draws the banks of a round, and joins to them the best samples found before; these banks teach and guide."""
        self.policy(number - 1)
        strategy: Any = self.trainer().strategy
        self.backbone.to(strategy.root_device)
        store, pools = (BankStore(self.folder(stage, number)) for stage in (DRAWN, POOL))
        rewards, seed, parts = scored_rewards(self.reward, self.metrics), stream_seed(self.seed, DRAWN, number), []
        for prompt in self.prompts:
            with strategy.precision_plugin.forward_context():
                bank = self.lookahead.bank(self.backbone, prompt, seed, rewards, store)
                decoded = self.backbone.decode(bank.samples) if self.backbone.modality == "molecule" else []
            indices = list(range(len(bank.samples)))
            parts.append(Part([prompt] * len(indices), indices, bank.samples, decoded, bank.rewards, bank.seconds, 0))
            before = [bank_of(self.folder(FOUND, number - 1), prompt)] if number > 1 and self.keep else []
            pools.put(joined([bank, *before]))
        numbers = sample_metrics(parts, self.reward, self.backbone.modality, self.training_data)
        return {**numbers, "network_calls": self.lookahead.n * self.lookahead.steps * len(self.prompts)}

    def data(self, number: int) -> PreferenceDataModule:
        """The preference pairs of a round."""
        reward = getattr(self, "reward", None)
        return PreferenceDataModule(
            str(self.folder(POOL, number)), reward, self.pairs, self.fraction, 0.0, self.batch_size,
            stream_seed(self.seed, TRAINED, number),
        )  # fmt: skip

    def tune(self, number: int) -> Numbers:
        """Fine-tunes the model of the round before."""
        self.policy(number - 1)
        self.module.seed, home = None, self.folder(TRAINED, number)
        trainer = self.trainer(
            max_steps=self.tuning_steps,
            callbacks=[save_last(home, every_n_train_steps=min(25, self.tuning_steps))],
            enable_checkpointing=True,
            logger=CSVLogger(home, "csv"),
            log_every_n_steps=min(5, self.tuning_steps),
            limit_val_batches=0,
        )
        data = self.data(number)
        trainer.fit(self.module, data, ckpt_path=last_checkpoint(home))
        pairs = min(self.batch_size, len(data.training)) * self.module.draws  # type: ignore[arg-type]
        return {"tuning_calls": 4 * pairs * self.tuning_steps}  # chosen and rejected, by policy and reference

    def guide(self, number: int) -> Numbers:
        """Draws guided samples of the new model, and keeps the best samples of all rounds so far."""
        self.policy(number)
        home, pool = self.folder(GUIDED, number), StoredBanks(str(self.folder(POOL, number)))
        lidar = LiDARModule(
            self.backbone, self.reward, pool, self.steps, self.metrics, stream_seed(self.seed, GUIDED, number),
            home.name, str(home), self.training_data, **asdict(self.guidance),
        )  # fmt: skip
        data = PromptDataModule(self.prompts, self.samples, max(self.samples, 256))
        whole = join(self.trainer().predict(lidar, data))  # type: ignore[arg-type]
        found, tops = BankStore(self.folder(FOUND, number)), []
        for prompt in self.prompts:
            part = whole.take([place for place, (its, _) in enumerate(whole.rows()) if its == prompt])
            bank = bank_of(self.folder(POOL, number), prompt)
            known = joined([bank, replace(bank, samples=part.samples, rewards=part.scores)])
            found.put(best(known, self.backbone, self.reward, max(self.keep, TOP)))
            tops.append(top(known, self.backbone, self.reward, TOP))
        numbers = json.loads((home / "summary.json").read_text())["methods"][home.name]
        return {**numbers, "network_calls": numbers["calls"] * len(whole.indices), "top_10": sum(tops) / len(tops)}


def rounds(**settings: Any) -> str:
    """Draws, scores, fine-tunes and guides in rounds; returns the path of the report.

    Args:
        settings: the arguments of `Rounds`.

    Raises:
        ValueError: as `Rounds` does.
    """
    return str(Rounds(**settings).run())
