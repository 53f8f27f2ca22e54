"""Every setting of a class is a plain argument on the command line and in YAML, also those that it hands on."""

import pytest

from lidar_lightning import UDLM, Backbone, Flux, LiDARModule, StableDiffusion
from lidar_lightning.cli import main
from lidar_lightning.commands.lightning import Parser
from lidar_lightning.samplers import Sampler
from lidar_lightning.utils.parser import SettingsParser
from tests.pipelines import build

PIPELINE = {"guidance_scale", "scheduler", "eta", "lora_scales", "offload", "name", "dtype", "variant", "vae_tiling"}
GUIDANCE = {"scale", "temperature", "ess", "start", "stop", "restart", "candidates"}
PARTICLES = {"particles", "threshold", "resampling", "keep"}


@pytest.mark.parametrize(
    "made, settings",
    [
        (StableDiffusion.from_pretrained, PIPELINE),
        (Flux.from_pretrained, PIPELINE | {"true_cfg_scale", "max_sequence_length"}),
        (UDLM.from_pretrained, {"pretrained_model_name_or_path"}),
    ],
)
def test_a_class_method_takes_the_settings_of_its_class(made, settings):
    assert settings <= set(SettingsParser().add_function_arguments(made))


@pytest.mark.parametrize(
    "base, name, settings",
    [
        (Sampler, "lidar_lightning.samplers.LiDAR", GUIDANCE | {"lookahead", "rounds"}),
        (Sampler, "lidar_lightning.samplers.SMC", PARTICLES | {"potential", "every"}),
        (Sampler, "lidar_lightning.samplers.DAS", PARTICLES | {"gamma"}),
        (Sampler, "lidar_lightning.samplers.DPS", {"scale", "norm", "start", "stop", "damped"}),
        (Backbone, "lidar_lightning.Flux", {"guidance_scale", "scheduler", "true_cfg_scale"}),
        (LiDARModule, "lidar_lightning.LiDARModule", GUIDANCE | {"backbone", "reward", "out", "method"}),
    ],
)
def test_help_lists_them(base, name, settings, capsys):
    parser = SettingsParser()
    parser.add_subclass_arguments(base, "made")
    with pytest.raises(SystemExit):
        parser.parse_args(["--made.help", name])
    shown = capsys.readouterr().out
    assert not {setting for setting in settings if f"--made.{setting} " not in shown}


def test_they_are_plain_arguments_of_a_yaml(tmp_path):
    build("StableDiffusion").save_pretrained(tmp_path)
    parser = Parser()
    parser.add_subclass_arguments(Backbone, "backbone")
    arguments = {"pretrained_model_name_or_path": str(tmp_path), "guidance_scale": 2.5, "lora_scales": None}
    made = {"class_path": "lidar_lightning.StableDiffusion.from_pretrained", "init_args": arguments}
    assert parser.instantiate_classes(parser.parse_object({"backbone": made})).backbone.guidance_scale == 2.5
    made["init_args"]["guidance_scal"] = 1.0
    with pytest.raises(Exception, match="guidance_scal"):
        parser.parse_object({"backbone": made})


@pytest.mark.parametrize("option", ["-c", "--config"])
@pytest.mark.parametrize("command", ["fit", "predict", "compare"])
def test_every_command_takes_both_names_of_its_configuration(command, option, tmp_path, capsys):
    assert main([command, option, str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
