"""Banks of one's own pictures, latents and molecules."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import PreferenceDataModule
from lidar_lightning import LookaheadBank, backbones, guide
from lidar_lightning.lookahead import BankStore
from lidar_lightning.utils.pictures import as_pixels
from tests.pipelines import build

SIZE = 32


@pytest.fixture(scope="module")
def model():
    return backbones.StableDiffusion(build("StableDiffusion"), height=SIZE, width=SIZE)


@pytest.fixture(scope="module")
def bytes_of_pictures():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def test_every_form_of_a_picture_is_the_same_picture(bytes_of_pictures):
    pixels = torch.from_numpy(bytes_of_pictures).permute(0, 3, 1, 2).float() / 255
    forms = [
        bytes_of_pictures, list(bytes_of_pictures), pixels, list(pixels), pixels.numpy().transpose(0, 2, 3, 1),
        [Image.fromarray(one) for one in bytes_of_pictures], torch.from_numpy(bytes_of_pictures).permute(0, 3, 1, 2),
    ]  # fmt: skip
    for form in forms:
        torch.testing.assert_close(as_pixels(form), pixels)
    torch.testing.assert_close(as_pixels(Image.fromarray(bytes_of_pictures[0])), pixels[:1])
    torch.testing.assert_close(as_pixels(pixels[0]), pixels[:1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one picture"),
        ("cat.png", "PIL images, arrays or tensors, or a list of these, got str"),
        (["cat.png"], "got str"),
        ([np.zeros((4, 4))], r"got an array or tensor of shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 4)), r"of shape \(4, 4, 4\)"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))], r"one size, got \(height, width\) in \[\(4, 4\), \(4, 5\)\]"),
        ([np.full((4, 4, 3), 200.0)], "values from 200 to 200"),
    ],
)
def test_what_is_no_picture_is_named(images, message):
    with pytest.raises(ValueError, match=message):
        as_pixels(images)


def test_pictures_become_the_latents_of_the_model_and_guide_its_pipeline(model, bytes_of_pictures):
    bank = LookaheadBank.from_images(model, bytes_of_pictures, [0.0, 1.0, 0.5], "a cat")
    torch.testing.assert_close(bank.samples, model.x0_of(as_pixels(bytes_of_pictures)))
    assert bank.rewards["score"].tolist() == [0.0, 1.0, 0.5] and bank.provenance.prompt == "a cat"

    def drawn(**settings):
        generator = torch.Generator().manual_seed(0)
        return model.pipe("a cat", num_inference_steps=4, generator=generator, output_type="latent", **settings).images

    plain = drawn()
    with guide(model.pipe, bank, temperature=300.0):
        steered = drawn()
    assert not torch.equal(plain, steered)


def test_molecules_become_tokens_and_preferences(udlm, carbon_reward, tmp_path):
    strings = ["CCO", "CC", "CCN", "C"]
    bank = LookaheadBank.from_smiles(udlm, strings, {"carbons": [2.0, 2.0, 2.0, 1.0]})
    assert udlm.decode(bank.samples) == strings and list(bank.rewards) == ["carbons"]
    BankStore(tmp_path).put(bank)
    pairs = PreferenceDataModule(str(tmp_path), carbon_reward, validation=0.0)
    pairs.setup()
    assert udlm.decode(pairs.training[0]["rejected"][None]) == ["C"]


def test_a_bank_comes_back_from_its_file(udlm, tmp_path):
    bank = LookaheadBank.from_smiles(udlm, ["CCO", "CC"], [1.0, 0.0], higher_is_better=False)
    bank.save(tmp_path / "own.safetensors")
    read = LookaheadBank.load(tmp_path / "own.safetensors")
    assert read.provenance == bank.provenance and read.higher_is_better == {"score": False}
    other = LookaheadBank.from_smiles(udlm, ["CCO", "CN"], [1.0, 0.0])
    assert other.provenance.key() != bank.provenance.key()


def test_what_is_no_sample_of_the_model_is_named(udlm, model):
    good = udlm.x0_of(["CC", "CO"])
    for latents, scores, prompt, message in (
        (good[:, :5], [0, 1], "molecule", r"takes samples \(n, 12\), got \(2, 5\)"),
        (good.float(), [0, 1], "molecule", "takes samples of torch.int64, got samples of torch.float32"),
        (good + 100, [0, 1], "molecule", "has tokens 0 to"),
        (good, [0, 1, 2], "molecule", "one finite score for each of 2 samples"),
        (good, [0, float("nan")], "molecule", "1 not finite"),
        (good, [0, 1], " ", "must not be empty"),
        (good[:0], [], "molecule", "at least one sample"),
    ):
        with pytest.raises(ValueError, match=message):
            LookaheadBank.from_latents(udlm, latents, scores, prompt)
    with pytest.raises(ValueError, match="samples must be finite, 1 of 2 are not"):
        latents = torch.zeros(2, *model.x0_of(torch.zeros(1, 3, SIZE, SIZE)).shape[1:])
        latents[1, 0, 0, 0] = float("nan")
        LookaheadBank.from_latents(model, latents, [0.0, 1.0], "a cat")
    with pytest.raises(ValueError, match="pictures must be"):
        LookaheadBank.from_images(model, np.zeros((1, 8, 8, 3), np.uint8), [1.0], "a cat")
    with pytest.raises(ValueError, match="no-molecule|cannot|hold"):
        LookaheadBank.from_smiles(udlm, ["no-molecule!"], [1.0])
