"""Text in pictures: what optical character recognition reads against what the prompt asks for."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.images import check_images
from lidar_lightning.rewards.network import check_prompts

PACKAGE = "rapidocr-onnxruntime"
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」|(?<!\w)['‘]([^'’]+)['’](?!\w)")


class OCRMatch(Reward):
    """1 - d(wanted, read) / max(|wanted|, |read|), with the edit distance d, in [0, 1]; 0 if there is no text.

    Only letters and digits count, whatever their case, accents and spaces. It is 1 if nothing but the wanted text can
    be read; other text in the picture lowers it. The network (PP-OCRv4, English and Chinese) runs on the CPU and comes
    with the package, which the extra "ocr" installs (Python below 3.13); its version is part of the reward's. Letters
    should be at least about 20 pixels high.

    Args:
        text: that is wanted in every picture; None takes what stands in quotation marks in the prompt.

    Raises:
        ValueError: if the text holds no letter or digit, or the package is missing.
    """

    name = "ocr_match"
    modality = "image"

    def __init__(self, text: str | None = None):
        if text is not None and not letters(text):
            raise ValueError(f"reward {self.name!r} wants a text of letters or digits, got {text!r}")
        try:
            version = metadata.version(PACKAGE)
        except metadata.PackageNotFoundError as error:
            raise ValueError(
                f"reward {self.name!r} needs the package {PACKAGE}, which has no Python above 3.12: "
                "pip install 'lidar-lightning[ocr]'"
            ) from error
        self.text = text
        self.version = f"1, {PACKAGE}={version}, text={text}"

    @cached_property
    def engine(self) -> Any:
        from rapidocr_onnxruntime import RapidOCR

        return RapidOCR()

    def wanted(self, prompt: str) -> str:
        """The text that a picture of this prompt should show.

        Raises:
            ValueError: naming the prompt, if none is given and it quotes none.
        """
        found = self.text or " ".join(filter(None, (part for match in QUOTED.findall(prompt) for part in match)))
        if not letters(found):
            raise ValueError(
                f"reward {self.name!r} finds no text in quotation marks in the prompt {prompt!r}: "
                'write it as in: a shop sign that says "Fresh Bread", or give the text as an argument'
            )
        return found

    def check_prompts(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            self.wanted(prompt)

    def read(self, picture: Tensor) -> str:
        """The lines of text in a picture (3, H, W) in [0, 1], from top to bottom, joined by spaces."""
        pixels = (picture.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        lines, _ = self.engine(np.ascontiguousarray(pixels[:, :, ::-1]))
        return " ".join(text for _, text, _ in lines or [])

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of pictures (n, 3, H, W) in [0, 1], on their device.

        Raises:
            ValueError: if the samples are no such pictures, one per prompt, or a prompt quotes no text.
        """
        images = check_images(self.name, samples)
        wanted = [self.wanted(prompt) for prompt in check_prompts(self.name, prompts, len(images))]
        scores = [match(text, self.read(picture)) for text, picture in zip(wanted, images, strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=images.device)


def match(wanted: str, read: str) -> float:
    """1 - d / (length of the longer), of the letters and digits of two texts; 0 if either has none."""
    from torchmetrics.functional.text import edit_distance

    first, second = letters(wanted), letters(read)
    if not first or not second:
        return 0.0
    return 1 - int(edit_distance(second, first, reduction="sum")) / max(len(first), len(second))


def letters(text: str) -> str:
    """The letters and digits of a text, in lower case and without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())
