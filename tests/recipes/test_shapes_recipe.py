"""`recipes.shapes` on tiny models of the two classes: banks, DPO on them, tuning by the reward, and guided samples."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from lidar_lightning.cli import main
from lidar_lightning.lookahead.bank import LookaheadBank
from lidar_lightning.rewards import ShapesVerdict, score
from lidar_lightning.sampling import sample
from lidar_lightning.shapes.grammar import held_out_prompts, parse
from lidar_lightning.shapes.networks import autoencoder, flux, save_half, stable_diffusion
from lidar_lightning.shapes.scorer import ShapesScorer
from lidar_lightning.utils.seeding import Generators, stream_seed
from recipes import demo, shapes


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    vae = autoencoder((16, 16, 16))
    save_half(stable_diffusion(vae, (16, 32, 32), text_width=32), folder / "StableDiffusion")
    save_half(flux(vae, width=32, double=1, single=1, text_width=32), folder / "Flux")
    ShapesScorer(32, 1).save_pretrained(folder / "reward")
    return folder


def moved(model):
    """Network calls of a sample that restarts at 0.6 and makes four moves, by a solver of eight steps."""
    return (1 + 4) * int((shapes.load(model).random_solver(8).times[:-1] <= 0.6).sum())


@pytest.mark.parametrize("kind", ["StableDiffusion", "Flux"])
def test_banks_of_training_captions_then_dpo_then_both(kind, models, tmp_path):
    model, reward = str(models / kind), str(models / "reward")
    banks = shapes.banks(str(tmp_path / "banks"), model, "dpm-3", n=4, prompts=3, reward=reward)
    captions = [LookaheadBank.load(path).provenance.prompt for path in (tmp_path / "banks").glob("*.safetensors")]
    assert len(set(captions)) == 3 and not any(parse(caption).held_out for caption in captions)
    checkpoint = shapes.dpo(banks, str(tmp_path / "dpo"), model, steps=1, pairs=4, batch_size=4, reward=reward)
    tuned = shapes.load(model, lora=str(tmp_path / "dpo" / "lora"))
    assert tuned.lora_scales == {"tuned": 1.0} and tuned.fingerprint() != shapes.load(model).fingerprint()
    settings = {"model": model, "n": 4, "steps": 3, "prompts": 2, "samples": 2, "batch_size": 4, "reward": reward}
    shapes.lidar(str(tmp_path / "both"), method="dpo+lidar", checkpoint=checkpoint, **settings)
    shapes.lidar(str(tmp_path / "plain"), method="vanilla", **{**settings, "preset": None})
    for run, method, calls in (("both", "dpo+lidar", 4 * 5 / 2 + moved(model)), ("plain", "vanilla", 3)):
        (row,) = json.loads((tmp_path / run / "summary.json").read_text())["methods"].items()
        assert row[0] == method and row[1]["nfe"] == calls and 0 <= row[1]["shapes_verdict"] <= 1
        table = pd.read_csv(tmp_path / run / "samples.csv")
        assert len(table) == 4 and all(parse(caption).held_out for caption in table["prompt"])


def test_dpo_is_the_same_again_and_heeds_its_settings(models, tmp_path):
    model, reward = str(models / "StableDiffusion"), str(models / "reward")
    banks = shapes.banks(str(tmp_path / "banks"), model, "dpm-3", n=4, prompts=3, reward=reward)

    def run(name, **settings):
        out = str(tmp_path / name)
        path = shapes.dpo(banks, out, model, steps=2, pairs=4, batch_size=4, reward=reward, **settings)
        saved = torch.load(path, weights_only=True)
        return torch.cat([w.flatten() for w in saved["state_dict"].values()]), saved["lr_schedulers"][0]["_last_lr"]

    (first, rate), (again, _), (wider, _), (_, kept) = run("a"), run("b"), run("c", fraction=0.5), run("d", decay=0.0)
    assert torch.equal(first, again) and not torch.equal(first, wider) and rate == [0] and kept[0] > 0


@pytest.mark.parametrize("name", ["shapes-sd", "shapes-flux"])
def test_shipped_models_draw_what_simple_captions_ask_for(name):
    model = shapes.load(name)
    captions = [caption for caption in held_out_prompts() if parse(caption).category == "single_object"][:12]
    generators = Generators([stream_seed(0, caption, 0) for caption in captions])
    with torch.no_grad():
        drawn = sample(model, model.solver(25), generators, model.encode(captions)).samples
        others = captions[1:] + captions[:1]  # of another shape each
        right, wrong = (score(ShapesVerdict(), model.decode(drawn), texts) for texts in (captions, others))
    assert right.mean() >= 0.6 and wrong.mean() <= 0.2


@pytest.mark.parametrize("method", ["refl", "draft"])
def test_tuning_by_the_reward_then_predict(method, models, tmp_path):
    model, reward = str(models / "StableDiffusion"), str(models / "reward")
    checkpoint = shapes.tune(
        str(tmp_path / method), method, model, calls=2, steps=2, lr=0.1, batch_size=2, reward=reward
    )
    assert (tmp_path / method / "lora" / "pytorch_lora_weights.safetensors").is_file()
    pictures = []
    for run in ("plain", "tuned"):
        options = {
            "model.init_args.backbone.init_args.pretrained_model_name_or_path": model,
            "model.init_args.reward.init_args.model": reward,
            "model.init_args.lookahead.init_args.n": 2,
            "model.init_args.steps": 2,
            "model.init_args.out": tmp_path / run,
            "data": "datamodules.PromptDataModule",
            "data.init_args.prompts": "['a ring', 'four rings']",
            "data.init_args.samples": 2,
            "trainer.accelerator": "cpu",
            "trainer.logger": "false",
        } | ({"ckpt_path": checkpoint} if run == "tuned" else {})
        config = Path(__file__).parents[2] / "configs" / "shapes" / "lidar.yaml"
        assert main(["predict", "-c", str(config), *(f"--{name}={value}" for name, value in options.items())]) == 0
        pictures.append(pd.read_csv(tmp_path / run / "samples.csv")["shapes_reward"])
    assert len(pictures[0]) == 4 and (pictures[0] != pictures[1]).all()


def test_demo_of_pictures(models, tmp_path):
    settings = {"prompts": 2, "n": 4, "steps": 2, "banks": 2, "dpo_steps": 1, "reward": str(models / "reward")}
    report = demo.pictures(str(tmp_path), str(models / "StableDiffusion"), **settings)
    methods = json.loads((tmp_path / "summary.json").read_text())["methods"]
    assert list(methods) == ["vanilla", "lidar", "dpo", "dpo+lidar"]
    for name, row in methods.items():
        calls = 4 * 5 / 4 + moved(str(models / "StableDiffusion")) if "lidar" in name else 2
        assert row["nfe"] == calls and "shapes_verdict" in row
    assert (tmp_path / "report.html").read_text().count("<img") >= 4 * 8 and report.endswith("report.html")


def test_missing_model_is_named():
    with pytest.raises(ValueError, match="no model of the shapes task at 'nowhere'"):
        shapes.load("nowhere")
