"""Examples of the shapes task by seed and index, in batches of training, validation and prediction."""

import math

import pytest
import torch

from datamodules import ShapesDataModule
from datamodules.shapes import HARDEST, Claims, Scenes, side
from lidar_lightning.shapes import held_out_prompts, parse, render, verdicts
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


def test_claims_are_true_of_just_the_scenes_that_show_them():
    data = Claims(600, seed=2)
    batch = data.__getitems__(range(600))
    assert batch["image"].shape == (1200, 3, 64, 64) and batch["true"].shape == (1200, 4)
    rows = torch.arange(1200)
    # The program that reads pictures agrees with the scenes, of each of the four captions; where it does not, a sliver
    # of another colour is dirt to it.
    for k in range(4):
        seen = verdicts(batch["image"], [claims[k] for claims in batch["claims"]])
        read, true = torch.tensor([verdict.correct for verdict in seen]), batch["true"][:, k].bool()
        assert not (true & ~read).any() and (read == true).float().mean() > 0.98
    assert (batch["true"][rows % 2 == 0, 0] == 1).all() and (batch["true"][rows % 2 == 1, 0] == 0).all()
    # One half of the second pictures shows the twin, and the others none of the four but by chance.
    assert 0.43 < batch["true"][rows % 2 == 1, 1].mean() < 0.57
    captions = [parse(text) for claims in batch["claims"] for text in claims]
    assert not any(caption.held_out for caption in captions)
    hard = sum(parse(claims[0]).category in HARDEST for claims in batch["claims"]) / 1200
    assert 0.6 < hard < 0.73
    again = Claims(10, seed=2).__getitems__([7, 3])
    assert torch.equal(again["image"][:2], batch["image"][14:16]) and again["claims"][2] == batch["claims"][6]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        ShapesDataModule(count=0, claims=True)


def test_two_coloured_objects_change_colour_at_a_line():
    data = Claims(100)
    parted = [(index, one) for index in range(100) for one in data.shown(index) if one.repainted]
    assert 10 < len(parted) < 40
    for index, one in parted[:5]:
        plain, other = render([one.scene]), render([one.repainted])
        (place,) = [i for i, (a, b) in enumerate(zip(one.scene.items, one.repainted.items, strict=True)) if a != b]
        assert one.scene.items[place]._replace(colour="red") == one.repainted.items[place]._replace(colour="red")
        image, beyond = data[index]["image"][1], side(one.line)
        assert torch.equal(image[:, beyond], other[0][:, beyond]) and torch.equal(
            image[:, ~beyond], plain[0][:, ~beyond]
        )
        assert data[index]["true"][1].sum() == 0


def test_a_line_parts_the_pixels():
    beyond = side((10.0, 20.0, 0.0))
    assert beyond[:, 10:].all() and not beyond[:, :10].any()
    down = side((10.0, 20.0, math.pi / 2))
    assert down[20:].all() and not down[:20].any()
