"""A trained LoRA goes to a hub that stands in for the real one, and its card says what it is."""

import json

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import save_file

from lidar_lightning import cli
from lidar_lightning.runs.push import CARD, FILES, TRAINING, WEIGHTS, card, push

TOLD = {"method": "DPO", "base": "owner/base", "settings": {"beta": 100.0, "lr": 1e-5}, "steps": 7, "version": "0.1.0"}


@pytest.fixture
def folder(tmp_path):
    save_file({"transformer.x.lora_A.weight": torch.ones(2, 3)}, tmp_path / WEIGHTS)
    (tmp_path / TRAINING).write_text(json.dumps(TOLD))
    (tmp_path / "notes.txt").write_text("not for others")
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the hub."""
    asked = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, **rest: asked.append((name, rest)) or f"https://{name}"
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **rest: asked.append(rest))
    return asked


def test_dry_run_writes_the_card_and_sends_nothing(folder, hub, capsys):
    assert cli.main(["push", str(folder), "me/mine", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert not hub and all(name in said for name in FILES) and "notes.txt" not in said
    text = (folder / CARD).read_text()
    assert "base_model: owner/base" in text and "- dpo" in text and "| beta | 100.0 |" in text
    assert 'pipe.load_lora_weights("me/mine")' in text and "in 7 steps" in text


def test_push_uploads_what_was_shown_and_keeps_an_edited_card(folder, hub):
    (folder / CARD).write_text("my own words")
    assert push(str(folder), "me/mine", private=True).startswith("https://me/mine holds")
    (made, sent) = hub
    assert made == ("me/mine", {"private": True, "exist_ok": True})
    assert sent["repo_id"] == "me/mine" and sent["folder_path"] == folder and sent["allow_patterns"] == list(FILES)
    assert (folder / CARD).read_text() == "my own words"


def test_a_base_that_is_a_folder_is_no_link():
    assert "base_model" not in card({**TOLD, "base": "my-folder"}, "me/mine")


@pytest.mark.parametrize("name", ["mine", "me/mine/too", "me/-mine-"])
def test_names_that_are_none_of_the_hub_are_refused(folder, hub, name):
    with pytest.raises(ValueError, match="is no repository of the hub"):
        push(str(folder), name)
    assert not hub


def test_what_holds_no_lora_or_a_broken_one_is_refused(folder, hub, tmp_path):
    with pytest.raises(ValueError, match="no exported LoRA at .*nothing"):
        push(str(tmp_path / "nothing"), "me/mine")
    save_file({"x.lora_A.weight": torch.full((2,), torch.nan)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="NaN or infinite"):
        push(str(folder), "me/mine")
    assert not hub


def test_a_hub_out_of_reach_says_how_to_log_in(folder, monkeypatch):
    def create_repo(self, name, **rest):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    with pytest.raises(ValueError, match=r"did not take 'me/mine' \(offline\): log in by `hf auth login`"):
        push(str(folder), "me/mine")
