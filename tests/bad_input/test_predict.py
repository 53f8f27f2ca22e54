"""`lidar predict`, `fit` and `validate` with options that cannot be."""

import pytest

MODEL = """
steps=1.5 | model.steps: expected int or null, got 1.5
steps=-3 | a solver needs at least 1 step, got -3
steps=many | model.steps: expected int or null, got many
scale=-1 | scale must be finite and at least 0, got -1
scale=.inf | scale must be finite and at least 0, got inf
scale=.nan | scale must be finite and at least 0, got nan
scale=strong | model.scale: expected float, got strong
temperature=.nan | temperature (lambda) must be finite and at least 0, got nan
temperature=.inf | temperature (lambda) must be finite and at least 0, got inf
temperature=1e400 | temperature (lambda) must be finite and at least 0, got inf
temperature=[1] | model.temperature: expected float or null
ess=0 | ess is a fraction of the bank in (0, 1], got 0
ess=1.5 | ess is a fraction of the bank in (0, 1], got 1.5
ess=-0.1 | ess is a fraction of the bank in (0, 1], got -0.1
ess=.nan | ess is a fraction of the bank in (0, 1], got nan
ess=half | model.ess: expected float or null, got half
start=2 | 0 <= stop <= start <= 1, got 1e-06 and 2.0
start=-1 | 0 <= stop <= start <= 1, got 1e-06 and -1.0
start=.nan | 0 <= stop <= start <= 1
stop=.nan | 0 <= stop <= start <= 1
stop=1.1 | 0 <= stop <= start <= 1, got 1.1 and 1.0
seed=abc | model.seed: expected int, got abc
seed=1.5 | model.seed: expected int, got 1.5
metrics=[3] | model.metrics: Not a valid subclass of Reward, got 3
metrics=[null] | model.metrics
metrics=[lidar_lightning.rewards.RingCont] | did you mean lidar_lightning.rewards.RingCount
metrics=[datamodules.PromptDataModule] | datamodules.PromptDataModule does not correspond to a subclass of Reward
metrics=[{class_path: lidar_lightning.rewards.QED, init_args: {flor: 1}}] | takes no 'flor': did you mean floor
metrics=[{class_path: lidar_lightning.rewards.QED, init_args: {floor: .nan}}] | must be finite, got nan
metrics=[{class_path: lidar_lightning.rewards.ElementCount, init_args: {element: Xx}}] | Xx
metrics=[lidar_lightning.rewards.JPEGCompressibility] | scores samples of modality 'image'
reward=3 | model.reward: no class '3'
reward=lidar_lightning.rewards | model.reward
reward=lidar_lightning.rewards.Reward | model.reward: Expected an instantiatable class
reward=lidar_lightning.nothing.QED | model.reward: no class 'lidar_lightning.nothing.QED'
reward.init_args.path=nothing | 'nothing' is not an import path
reward.init_args.path=os:nothing | nothing to import at 'os:nothing'
reward.init_args.path=no.module:f | nothing to import at 'no.module:f'
reward.init_args.path=math:pi | not a callable
reward.init_args.higher_is_better=maybe | model.reward.higher_is_better: expected bool, got maybe
reward.init_args.modality=image | scores samples of modality 'image'
backbone=lidar_lightning.UDLM.from_pretraind | model.backbone
backbone=os.path.join | does not correspond to a subclass of Backbone
backbone.init_args.pretrained_model_name_or_path=/ | the folder holds no config.json
backbone.init_args.pretrained_model_name_or_path=no/where/at/all | no UDLM checkpoint at 'no/where/at/all'
lookahead.init_args.n=1.5 | model.lookahead.n: expected int, got 1.5
lookahead.init_args.steps=0 | model.lookahead: lookahead steps must be at least 1, got 0
lookahead.init_args.batch_size=0 | lookahead batch_size must be at least 1, got 0
lookahead.init_args.preset=nope | no lookahead preset 'nope': use one of
lookahead.init_args.m=3 | lidar_lightning.Lookahead takes no 'm'
lookahead=lidar_lightning.Lookahed | did you mean lidar_lightning.Lookahead
training_data=/ | no SMILES file at /
training_data=kept.txt | no SMILES file at kept.txt
stepz=3 | takes no 'stepz': did you mean steps?
"""

DATA = """
samples=-1 | data: samples and batch_size must be at least 1, got -1
samples=some | data.samples: expected int, got some
batch_size=0 | samples and batch_size must be at least 1
batch_size=-4 | samples and batch_size must be at least 1
batch_size=1.5 | data.batch_size: expected int, got 1.5
prompts=[] | data: prompts must not be empty
prompts=[a,b,a] | stand twice, e.g. 'a'
prompts=[a,' '] | prompt 1 is ' '
prompts=[a,null] | data.prompts
prompts=nowhere.txt | no prompt file at nowhere.txt
prompts=nowhere.json | no prompt file at nowhere.json
prompts=nowhere.parquet | no prompt file at nowhere.parquet
prompt=a | takes no 'prompt': did you mean prompts
"""

TRAINER = """
devices=-2 | the trainer cannot run with these settings
devices=many | trainer
devices=[0,0] | devices
accelerator=quantum | the trainer cannot run with these settings (accelerator quantum
strategy=nope | the trainer cannot run with these settings (accelerator cpu, devices auto, strategy nope)
precision=3 | trainer.precision: expected 64 or 32 or 16
max_epochs=-5 | `max_epochs` must be a non-negative integer or -1
limit_predict_batches=all | trainer.limit_predict_batches: expected int or float or null, got all
limit_predict_batches=-1 | limit_predict_batches
logger=nope.Logger | trainer.logger
callbacks=3 | trainer.callbacks
callbacks=[nope.Callback] | trainer.callbacks: no class 'nope.Callback'
profiler=nope | it can only be one of ['simple', 'advanced', 'pytorch', 'xla']
inference_mode=maybe | trainer.inference_mode: expected bool, got maybe
fast_dev_run=-1 | fast_dev_run
device=1 | there is no option --trainer.device: did you mean --trainer.devices
max_stepz=1 | did you mean --trainer.max_steps
"""

OTHER = """
--seed_everything=abc | seed_everything: expected bool or int, got abc
--return_predictions=maybe | return_predictions
--ckpt_pat_h=last.ckpt | there is no option --ckpt_pat_h: did you mean --ckpt_path
--data=datamodules.Nope | data: no class 'datamodules.Nope'
--data=lidar_lightning.LiDARModule | does not correspond to a subclass of LightningDataModule
--model=datamodules.PromptDataModule | does not correspond to a subclass of LightningModule
--model=lidar_lightning | model
--model= | model
--config=missing.yaml | File does not exist
--config=. | Path is not a file
--verbose | there is no option --verbose
extra | there is no option extra
"""


def rows(table: str, prefix: str = "") -> list[tuple[str, str]]:
    """Pairs of an option and what its line holds."""
    return [(prefix + option, message) for option, message in (row.split(" | ") for row in table.strip().split("\n"))]


ROWS = [*rows(MODEL, "--model.init_args."), *rows(DATA, "--data.init_args.")]
ROWS += [*rows(TRAINER, "--trainer."), *rows(OTHER)]


@pytest.mark.parametrize(("option", "message"), ROWS, ids=lambda value: value[:60])
def test_predict(refused, option, message):
    refused(message, "predict", "-c", "run.yaml", option)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fitt"], "unknown command 'fitt'"),
        (["--version"], "unknown command '--version'"),
        (["predict"], "the following arguments are required: predict.data, predict.model"),
        (["fit"], "the following arguments are required: fit.data, fit.model"),
        (["fit", "-c", "missing.yaml"], "File does not exist"),
        (["validate", "-c", "missing.yaml"], "File does not exist"),
        (["predict", "-c"], "expected one argument"),
        (["demo", "--steps", "3"], "there is no option --steps"),
        (["demo", "--see", "3"], "there is no option --see: did you mean --seed?"),
        (["rounds", "--roun", "3"], "there is no option --roun: did you mean --rounds or --out?"),
        (["predict", "-c", "run.yaml", "--see", "3"], "there is no option --see"),
        (["demo", "--seed", "x"], "seed: expected int, got x"),
        (["demo", "--out", "run.yaml"], "run.yaml is a file; give another folder as out"),
        (["report"], "the following arguments are required: run"),
        (["report", "run"], "holds no summary.json"),
        (["report", "nowhere"], "'nowhere' is not a folder"),
        (["report", "run.yaml"], "'run.yaml' is not a folder"),
        (["report", "run", "again"], "there is no option again"),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_commands(refused, arguments, message):
    refused(message, *arguments)
