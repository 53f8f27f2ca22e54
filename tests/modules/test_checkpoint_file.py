"""Checkpoints that no run may load: each ends in one line before anything is drawn or claimed."""

import os
import pickle

import pytest
import torch
import yaml

from lidar_lightning.modules.trained import prepare_for_checkpoint
from tests.conftest import tiny
from tests.modules.test_lidar_module import configuration
from tests.test_cli import failing

VERSION = {"pytorch-lightning_version": "2.6.0"}


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


def weights():
    return {f"backbone.{name}": value for name, value in tiny().state_dict().items()}


def saved(path, content) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]


def short(state):
    return dict(list(state.items())[:-1])


FILES = {
    "empty": (lambda path: b"", "is empty"),
    "random bytes": (lambda path: bytes(range(256)) * 20, "cannot be read"),
    "text": (lambda path: b"hello world\n", "cannot be read"),
    "begin": (lambda path: saved(path, {"state_dict": weights(), **VERSION})[:100], "cannot be read"),
    "half": (lambda path: saved(path, {"state_dict": weights(), **VERSION})[:50_000], "cannot be read"),
    "last bytes cut": (lambda path: saved(path, {"state_dict": weights(), **VERSION})[:-10], "cannot be read"),
    "flipped byte": (lambda path: flipped(saved(path, {"state_dict": weights(), **VERSION})), "cannot be read"),
    "no state_dict": (
        lambda path: saved(path, {"weights": weights(), **VERSION}),
        "no weights under state_dict, but wei",
    ),
    "bare weights": (lambda path: saved(path, weights()), "no weights under state_dict"),
    "a list": (lambda path: saved(path, [1]), "no weights under state_dict, but list"),
    "no tensors": (lambda path: saved(path, {"state_dict": {"a": 1}, **VERSION}), "no weights under state_dict"),
    "no version": (lambda path: saved(path, {"state_dict": weights()}), "does not say which pytorch-lightning_version"),
    "wrong keys": (
        lambda path: saved(path, {"state_dict": {"a": torch.ones(1)}, **VERSION}),
        "no weights of a backbone",
    ),
    "a tensor less": (lambda path: saved(path, {"state_dict": short(weights()), **VERSION}), "and 1 are missing"),
    "adapters": (
        lambda path: saved(path, {"state_dict": weights(), "adapters": [1], **VERSION}),
        "describes its adapters",
    ),
    "rank": (
        lambda path: saved(path, {"state_dict": weights(), "adapters": {"lora": {"rnk": 1}, "base": ""}, **VERSION}),
        "unexpected keyword argument 'rnk'",
    ),
    "malicious": (lambda path: pickle.dumps(Malicious()), "would run code"),
    "malicious zip": (lambda path: saved(path, {"state_dict": Malicious(), **VERSION}), "would run code"),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return configuration(tmp_path_factory.mktemp("model"), "run", samples=4)


@pytest.mark.parametrize("kind", FILES)
def test_bad_checkpoints(capsys, tmp_path, monkeypatch, config, kind):
    monkeypatch.chdir(tmp_path)
    content, message = FILES[kind]
    path = tmp_path / "a.ckpt"
    path.write_bytes(content(path))
    assert message in failing(capsys, "predict", "-c", str(config), f"--ckpt_path={path}")
    assert not (config.parent / "run").exists() and not (tmp_path / "malicious").exists()


@pytest.mark.parametrize("command", ["predict", "fit", "validate"])
@pytest.mark.parametrize(("name", "message"), [("nowhere.ckpt", "that is no file"), ("", "that is a folder")])
def test_no_file(capsys, tmp_path, config, command, name, message):
    assert message in failing(capsys, command, "-c", str(config), f"--ckpt_path={tmp_path}/{name}")


def test_weights_alone_are_nothing_to_go_on_from(capsys, tmp_path):
    torch.save({"state_dict": weights(), **VERSION}, tmp_path / "weights.ckpt")
    backbone = {"class_path": "lidar_lightning.UDLM", "init_args": {"hidden_dim": 32, "n_heads": 2, "n_blocks": 1}}
    config = {
        "model": {"class_path": "lidar_lightning.PretrainModule", "init_args": {"backbone": backbone}},
        "data": {"class_path": "datamodules.QM9DataModule"},
        "trainer": {"logger": False, "accelerator": "cpu"},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    line = failing(capsys, "fit", "-c", str(tmp_path / "fit.yaml"), f"--ckpt_path={tmp_path}/weights.ckpt")
    assert "it lacks epoch, global_step, loops, optimizer_states, lr_schedulers" in line


def test_from_python_too():
    for checkpoint in ({}, {"state_dict": {"a": torch.ones(1)}}):
        with pytest.raises(ValueError, match="holds no weights of a backbone"):
            prepare_for_checkpoint(tiny(), checkpoint, "")
