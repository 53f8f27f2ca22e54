"""`lidar compare` with options that cannot be."""

import pytest

from tests.bad_input.test_predict import rows

TABLE = """
processes=0 | processes must be at least 1, got 0
processes=two | processes: expected int, got two
samples=-1 | samples must be at least 1, got -1
samples=x | samples: expected int, got x
steps=0 | steps must be at least 1, got 0
steps=2.5 | steps: expected int, got 2.5
batch_size=x | batch_size: expected int, got x
temperature=-1 | temperature (lambda) must be finite and at least 0, got -1
temperature=.nan | temperature
temperature=.inf | temperature
budgets=[] | a comparison needs samplers
budgets=[0] | needs at least 4 network calls per sample
budgets=[-8] | needs at least 4 network calls per sample
budgets=[8,8] | budgets must differ from each other
budgets=[x] | budgets: expected float, got x
budgets=8.5 | budgets
seeds=[] | a comparison needs samplers
seeds=[0,0] | seeds must differ from each other
seeds=[x] | seeds: expected int, got x
prompts=[] | prompts must not be empty
prompts=[a,a] | stand twice
prompts=nowhere.csv | no prompt file at nowhere.csv
samplers={} | a comparison needs samplers
samplers=3 | samplers: expected dict, got 3
samplers={vanilla: lidar_lightning.samplers.BestOfN} | none of them called 'vanilla'
samplers={a: lidar_lightning.samplers.Best} | samplers.a: no class 'lidar_lightning.samplers.Best'
samplers={a: lidar_lightning.rewards.QED} | does not correspond to a subclass of Sampler
samplers={a: lidar_lightning.samplers.DATE} | DATE differentiates the reward, and 'carbons' is not
samplers.smc.init_args.particles=0 | samplers.smc: SMC needs at least 1 particle, got 0
samplers.smc.init_args.particles=x | samplers.smc.particles: expected int, got x
samplers.smc.init_args.particle=1 | takes no 'particle': did you mean particles
samplers.smc.init_args.potential=none | samplers.smc.potential: expected 'diff'
samplers.smc.init_args.every=0 | samplers.smc
samplers.smc.init_args.start=2 | samplers.smc
samplers.smc.init_args.resampling=none | none
samplers.best.init_args.n=0 | samplers.best: best-of-N needs at least 1 particle, got 0
metrics=[QEDD] | did you mean lidar_lightning.rewards.QED
metrics=3 | metrics: expected list[Reward] or null, got 3
reward=lidar_lightning.rewards.Nope | reward: no class 'lidar_lightning.rewards.Nope'
reward=lidar_lightning.rewards.JPEGCompressibility | scores samples of modality 'image'
backbone=lidar_lightning.Nope | backbone: no class 'lidar_lightning.Nope'
training_data=nowhere.smi | no SMILES file at nowhere.smi
bugdets=[8] | there is no option --bugdets: did you mean --budgets
"""


@pytest.mark.parametrize(("option", "message"), rows(TABLE, "--"), ids=lambda value: value[:60])
def test_compare(refused, option, message):
    refused(message, "compare", "--config", "compare.yaml", option)
