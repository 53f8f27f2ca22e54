"""Examples of the shapes task by seed and index, in batches of training, validation and prediction."""

import pytest
import torch

from datamodules import ShapesDataModule
from datamodules.shapes import Scenes
from lidar_lightning.shapes import held_out_prompts, parse
from tests.shapes.scenes import share


def test_examples_depend_on_seed_and_index_alone():
    scenes = Scenes(100, seed=3)
    together = scenes.__getitems__(range(8))
    for index in (7, 0, 3):
        alone = Scenes(100, seed=3)[index]
        assert torch.equal(alone["image"][0], together["image"][index])
        assert alone["prompt"] == [together["prompt"][index]]
    assert Scenes(100, seed=4)[0]["prompt"] != alone["prompt"] or not torch.equal(
        Scenes(100, seed=4)[0]["image"], Scenes(100, seed=3)[0]["image"]
    )
    both = Scenes(100, seed=3, twins=True).__getitems__([5])
    assert torch.equal(both["image"][0], together["image"][5]) and both["prompt"][0] == together["prompt"][5]
    assert both["prompt"][1] == twin_of(scenes, 5)


def twin_of(scenes: Scenes, index: int) -> str:
    return Scenes(scenes.count, scenes.seed, twins=True).scenes(index)[1].prompt.text


def test_data_module_trains_validates_and_predicts():
    data = ShapesDataModule(count=20, validation=12, samples=3, batch_size=8, seed=1)
    batches = list(data.train_dataloader())
    assert len(batches) == 2 and batches[0]["image"].shape == (8, 3, 64, 64) and len(batches[0]["prompt"]) == 8
    assert share(batches[0]["image"], batches[0]["prompt"]) == 1
    assert not any(parse(text).held_out for batch in batches for text in batch["prompt"])
    assert [text for batch in data.val_dataloader() for text in batch["prompt"]] == held_out_prompts()[:12]
    seen = [(p, i) for batch in data.predict_dataloader() for p in batch["prompts"] for i in batch["indices"]]
    assert sorted(seen) == sorted((prompt, index) for prompt in held_out_prompts() for index in range(3))
    with pytest.raises(ValueError, match="samples and batch_size must be at least 1"):
        ShapesDataModule(samples=0)
    with pytest.raises(ValueError, match="split is 'train' or 'validation'"):
        Scenes(3, split="test")
