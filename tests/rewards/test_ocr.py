"""The text in pictures: rendered text, read for real (the package has no Python above 3.12), and the measure."""

import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from lidar_lightning.rewards import OCRMatch, score
from lidar_lightning.rewards.ocr import PACKAGE, letters, match

real = pytest.mark.skipif(sys.version_info >= (3, 13), reason="rapidocr-onnxruntime has no Python above 3.12")


def rendered(text, size=40):
    """A picture (3, 192, 256) with that text in black on white."""
    image = Image.new("RGB", (256, 192), "white")
    ImageDraw.Draw(image).multiline_text((10, 40), text, fill="black", font=ImageFont.load_default(size))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def reward():
    return OCRMatch()


@real
def test_rendered_text_is_read(reward):
    """Matching text is above 0.9, other text low, a part between, and no text 0."""
    texts = ["Fresh Bread", "OPEN\n24 hours", "Quantum", "Fresh", ""]
    prompts = ['a sign that says "fresh bread"', "a door with “Open 24 hours” on it", *['a sign: "fresh bread"'] * 3]
    scores = score(reward, torch.stack([rendered(text) for text in texts]), prompts).tolist()
    assert min(scores[:2]) > 0.9 and scores[2] < 0.35 and 0.3 < scores[3] < 0.7 and scores[4] == 0


@real
def test_a_text_for_all_prompts_and_noise(reward):
    given = OCRMatch("LiDAR 42")
    given.__dict__["engine"] = reward.engine
    pixels = torch.stack([rendered("lidar 42"), torch.rand(3, 192, 256, generator=torch.Generator().manual_seed(0))])
    assert given.identity != reward.identity
    scores = score(given, pixels.double(), ["anything"] * 2)
    assert scores[0] > 0.9 and scores[1] == 0


@pytest.mark.parametrize(
    ("wanted", "read", "value"),
    [
        ("Hello World", "HELLO  world!", 1), ("abcd", "abxd", 0.75), ("abcd", "abcdefgh", 0.5), ("ab", "", 0),
        ("ab", "xy", 0), ("Café", "cafe", 1), ("kitten", "sitting", 1 - 3 / 7),
    ],
)  # fmt: skip
def test_the_measure(wanted, read, value):
    assert match(wanted, read) == pytest.approx(value) == pytest.approx(match(read, wanted))


def test_letters():
    assert letters(" Crème brûlée, 2 €! ") == "cremebrulee2"


@real
@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign "Stop"', "Stop"), ("a cat's 'hello there' sign", "hello there"), ("‘one’ and «two»", "one two"),
        ('"a" above "b"', "a b"), ("「你好」", "你好"),
    ],
)  # fmt: skip
def test_what_a_prompt_quotes(reward, prompt, text):
    assert reward.wanted(prompt) == text


@real
@pytest.mark.parametrize("prompt", ["a cat", "a cat's dog's hat", 'a sign "!!"', '""'])
def test_a_prompt_without_text_is_refused_before_anything_is_drawn(reward, prompt):
    with pytest.raises(ValueError, match="no text in quotation marks"):
        reward.check_prompts(['"fine"', prompt])


def test_settings_are_checked(monkeypatch):
    with pytest.raises(ValueError, match="'  !'"):
        OCRMatch("  !")

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ValueError, match=rf"needs the package {PACKAGE}.*lidar-lightning\[ocr\]"):
        OCRMatch("text")
