"""Objects in pictures, and their colours, as GenEval (arXiv 2310.11513) looks for them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.rewards.clip import CLIPScore
from lidar_lightning.utils.hub import at_revision

MOST_OBJECTS = 16
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
OTHER_NAMES = {
    "computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard",
    "couch": "sofa", "motorcycle": "motorbike", "airplane": "aeroplane",
    "potted plant": "pottedplant", "dining table": "diningtable", "tv": "tvmonitor",
}  # fmt: skip
"""GenEval's names of objects that detectors call otherwise: the first three by COCO, the rest as by Pascal VOC."""


class Detection(NamedTuple):
    """An object in a picture."""

    box: tuple[float, float, float, float]
    """left, top, right, bottom in pixels."""
    score: float
    mask: Tensor | None = None
    """(H, W) bool."""


def spellings(name: str) -> set[str]:
    """All names of an object, if it has several; otherwise the one that is given."""
    return next(({own, other} for own, other in OTHER_NAMES.items() if name in (own, other)), {name})


class Detector:
    """Finds the objects in pictures by a Mask2Former of transformers, under all their names (see `OTHER_NAMES`).

    Args:
        model: a hub repository, OWNER/REPOSITORY or OWNER/REPOSITORY@REVISION, or a local folder.
        device: the device on which it runs.
        size: the length in pixels to which the shorter side of pictures is scaled.
    """

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(
        self, model: str = "facebook/mask2former-swin-small-coco-instance", device: str = "cpu", size: int = 800
    ):
        from transformers import Mask2FormerForUniversalSegmentation

        name, revision = at_revision(model)
        try:
            found = Mask2FormerForUniversalSegmentation.from_pretrained(name, revision=revision or "main")
            self.model = found.to(device).eval()
        except ImportError as error:
            raise ValueError(f"transformers' Mask2Former lacks a package: pip install scipy ({error})") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"no Mask2Former at {model!r}, as a folder or within reach: {error}") from error
        self.device, self.size = device, size
        self.names = self.model.config.id2label

    @property
    def classes(self) -> set[str]:
        """The classes that it knows, under all their names."""
        return {spelling for name in self.names.values() for spelling in spellings(name)}

    @torch.no_grad()
    def __call__(self, picture: Tensor, confidence: float) -> dict[str, list[Detection]]:
        """Detections above that confidence, at most 16 of a kind, most certain first; picture (3, H, W) in [0, 1]."""
        height, width = picture.shape[1:]
        scale = self.size / min(height, width)
        size = [round(height * scale), round(width * scale)]
        x = torch.nn.functional.interpolate(picture[None].to(self.device), size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(value, device=self.device).view(3, 1, 1) for value in (self.MEAN, self.STD))
        output = self.model(pixel_values=(x - mean) / std)
        scores, labels = output.class_queries_logits[0].softmax(-1)[:, :-1].max(-1)
        logits = torch.nn.functional.interpolate(output.masks_queries_logits, (height, width), mode="bilinear")[0]
        masks = logits > 0
        # As Mask2Former scores instances: the class probability times the mean probability inside of the mask.
        inside = (logits.sigmoid() * masks).flatten(1).sum(1) / masks.flatten(1).sum(1).clamp_min(1)
        scores = scores * inside
        objects: dict[str, list[Detection]] = {}
        for query in scores.argsort(descending=True).tolist():
            name, mask = self.names[int(labels[query])], masks[query]
            if scores[query] < confidence or not mask.any() or len(objects.get(name, [])) == MOST_OBJECTS:
                continue
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            objects.setdefault(name, []).append(Detection(box, float(scores[query]), mask.cpu()))
        return {spelling: found for name, found in objects.items() for spelling in spellings(name)}


class ClipColours:
    """Names the colour of an object by CLIP: of ten, the one whose prompts lie nearest to the object cut out on grey.

    Args:
        model: the folder or repository of a transformers `CLIPModel`.
        device: the device on which it runs.
    """

    TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")
    GREY = 0.6

    def __init__(self, model: str = "openai/clip-vit-large-patch14", device: str = "cpu"):
        self.clip = CLIPScore(model, device=device)
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, picture: Tensor, found: Sequence[Detection], name: str) -> list[str]:
        self.clip.network.to(self.device)
        texts = [template.format(colour=colour, name=name) for colour in COLOURS for template in self.TEMPLATES]
        prompts = self.clip.embed_prompts(texts).unflatten(0, (len(COLOURS), -1)).mean(1)
        prompts = torch.nn.functional.normalize(prompts, dim=-1)
        return [COLOURS[int((self.clip.embed_images(self._cut(picture, one)) @ prompts.mT).argmax())] for one in found]

    def _cut(self, picture: Tensor, one: Detection) -> Tensor:
        """The object (1, 3, h, w), alone."""
        left, top, right, bottom = (round(edge) for edge in one.box)
        if one.mask is not None:
            picture = torch.where(one.mask.to(picture.device), picture, self.GREY)
        return picture[None, :, top : max(bottom, top + 1), left : max(right, left + 1)].to(self.device)
