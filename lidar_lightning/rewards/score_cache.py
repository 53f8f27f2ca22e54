"""Scores on disk, one small file each: what a server has scored is never asked for again."""

import hashlib
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import torch

from lidar_lightning.utils.files import expand, write_atomically

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """$XDG_CACHE_HOME/lidar-lightning/scores, by default in ~/.cache."""
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lidar-lightning" / "scores"


class ScoreCache:
    """Scores by what was scored and how.

    Args:
        folder: made when first written to; None takes `default_folder`.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = expand(folder) if folder else default_folder()

    @staticmethod
    def key(settings: Any, prompt: str, sample: Any) -> str:
        """64 hexadecimal digits of the settings (JSON), the prompt, and a picture (3, H, W) in [0, 1] or a string.

        A picture is told by its bytes (0 to 255), as it is sent.
        """
        parts = [json.dumps(settings, sort_keys=True), prompt]
        if isinstance(sample, str):
            content = sample.encode()
        else:
            parts.append(str(tuple(sample.shape)))
            content = (sample.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy().tobytes()
        return hashlib.sha256(json.dumps(parts).encode() + content).hexdigest()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"

    def get(self, key: str) -> float | None:
        """The score; None if there is none, or its file is damaged, which is logged."""
        path = self.path(key)
        try:
            score = json.loads(path.read_bytes())["score"]
            if isinstance(score, float) and math.isfinite(score):
                return score
            raise ValueError(f"its score is {score!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the stored score %s cannot be read (%s): it is asked for again", path, error)
            return None

    def put(self, key: str, score: float) -> None:
        """Raises OSError naming the file if it cannot be written."""
        write_atomically(self.path(key), json.dumps({"score": score}).encode())
