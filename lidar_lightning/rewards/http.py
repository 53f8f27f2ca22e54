"""Rewards that a server gives over HTTP: many requests at once, asked again where it fails, each score kept on disk."""

import base64
import math
import threading
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.images import check_images
from lidar_lightning.rewards.network import check_prompts
from lidar_lightning.rewards.score_cache import ScoreCache
from lidar_lightning.utils.json_client import JSONClient, ServerError, shown
from lidar_lightning.utils.pictures import to_png
from lidar_lightning.utils.progress import advance, working

Item = tuple[Any, str]
"""A picture (3, H, W) in [0, 1] or a string, and its prompt."""


class HTTPReward(Reward):
    """Scores samples by a server. Each score is on disk as soon as it is given (see `ScoreCache`).

    So a server that dies loses nothing: the error says how many samples are scored, and the same command goes on with
    the others. Where the server is, how it is asked and its key are no part of the identity; what its scores depend on
    is. A subclass makes a request of samples in `ask`.

    Args:
        name: of the scores, in banks and reports.
        url: where requests are posted.
        settings: what the scores depend on beside sample and prompt, as JSON; part of the version.
        api_key_env: the environment variable that holds the key of the server; None sends none.
        batch_size: samples of one request.
        concurrency: requests that are under way at the same time.
        timeout, retries, backoff: see `JSONClient`.
        cache: folder of the scores; None is `~/.cache/lidar-lightning/scores`.

    Raises:
        ValueError: if the address is none or holds a key, or a number is out of range.
    """

    def __init__(
        self,
        name: str,
        url: str,
        settings: dict[str, Any],
        api_key_env: str | None,
        batch_size: int,
        concurrency: int,
        timeout: float,
        retries: int,
        backoff: float,
        cache: str | None,
    ):
        if batch_size < 1 or concurrency < 1:
            raise ValueError(
                f"reward {name!r} needs batch_size and concurrency of at least 1, got {batch_size} and {concurrency}"
            )
        self.name, self.batch_size, self.concurrency = name, batch_size, concurrency
        self.version = ", ".join(["1", *(f"{key}={value}" for key, value in sorted(settings.items()))])
        try:
            self.client = JSONClient(url, api_key_env, timeout, retries, backoff, concurrency)
        except ValueError as error:
            raise ValueError(f"reward {name!r}: {error}") from error
        self.cache = ScoreCache(cache)

    @abstractmethod
    def ask(self, items: Sequence[Item]) -> list[float]:
        """One score for each of a batch of samples, from one request.

        Raises:
            ServerError: naming what was received.
        """

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raises ValueError if the key of the server is missing, before anything is drawn."""
        try:
            _ = self.client.key
        except ValueError as error:
            raise ValueError(f"reward {self.name!r}: {error}") from error

    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of n samples, on the device of the samples. Equal samples of a prompt are asked for once.

        Raises:
            ValueError: if the samples are no pictures or strings, as the modality says, with one prompt each, or the
                server failed; it says how many are scored.
        """
        device = samples.device if isinstance(samples, Tensor) else None
        prompts = check_prompts(self.name, prompts, len(samples))
        self.check_prompts(prompts)
        items = list(zip(self._checked(samples), prompts, strict=True))
        settings = [type(self).__name__, self.name, self.identity]
        keys = [self.cache.key(settings, prompt, sample) for sample, prompt in items]
        scores = {key: score for key in dict.fromkeys(keys) if (score := self.cache.get(key)) is not None}
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in scores}
        try:
            scores |= self._ask_all(missing)
        except ServerError as error:
            done = sum(self.cache.get(key) is not None for key in keys)
            raise ValueError(
                f"reward {self.name!r}: {error}; {done} of {len(keys)} samples are scored and kept in "
                f"{self.cache.folder}: the same command goes on with the other {len(keys) - done}"
            ) from error
        return torch.tensor([scores[key] for key in keys], dtype=torch.float32, device=device)

    def _checked(self, samples: Any) -> list[Any]:
        if self.modality == "image":
            return list(check_images(self.name, samples).detach().cpu())
        if wrong := [sample for sample in samples if not isinstance(sample, str)]:
            raise ValueError(f"reward {self.name!r} scores strings, got a {type(wrong[0]).__name__}")
        return list(samples)

    def _ask_all(self, missing: dict[str, Item]) -> dict[str, float]:
        keys = list(missing)
        batches = [keys[start : start + self.batch_size] for start in range(0, len(keys), self.batch_size)]
        found: dict[str, float] = {}
        stop = threading.Event()
        with working(f"scores of {self.name}", len(keys)), ThreadPoolExecutor(self.concurrency) as pool:
            waited = [pool.submit(self._ask_and_keep, {key: missing[key] for key in batch}, stop) for batch in batches]
            try:
                for future in as_completed(waited):
                    found |= future.result()
                    advance(len(future.result()))
            finally:
                stop.set()
        return found

    def _ask_and_keep(self, batch: dict[str, Item], stop: threading.Event) -> dict[str, float]:
        """The scores of one request; none once another has failed, after which what is under way is still kept."""
        if stop.is_set():
            return {}
        try:
            scores = dict(zip(batch, self.ask(list(batch.values())), strict=True))
        except BaseException:
            stop.set()
            raise
        for key, score in scores.items():
            self.cache.put(key, score)
        return scores


class HTTPScorer(HTTPReward):
    """Any scorer behind a few lines of a server: HPSv3, or whatever needs a machine or an environment of its own.

    One request posts {"prompts": [n strings], "images": [n PNG files in base64]}, for molecules with "smiles": [n
    strings] in place of images, and is answered by a JSON list of n numbers. docs/how-to/http-rewards.md has a server.

    Args:
        name: of the scores, which tells this scorer from others; an address does not, since it may change.
        url: where requests are posted, such as "http://127.0.0.1:8000".
        modality: "image" or "molecule".
        higher_is_better: what the numbers mean.
        version: change it whenever the server gives other scores, so that stored ones are asked for again.
        api_key_env, batch_size, concurrency, timeout, retries, backoff, cache: see `HTTPReward`.

    Raises:
        ValueError: as `HTTPReward`, or for another modality.
    """

    def __init__(
        self,
        name: str,
        url: str,
        modality: Literal["image", "molecule"] = "image",
        higher_is_better: bool = True,
        version: str = "1",
        api_key_env: str | None = None,
        batch_size: int = 8,
        concurrency: int = 2,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 2.0,
        cache: str | None = None,
    ):
        if modality not in ("image", "molecule"):
            raise ValueError(f"reward {name!r} scores modality 'image' or 'molecule', got {modality!r}")
        self.modality, self.higher_is_better = modality, higher_is_better
        settings = {"modality": modality, "version": version}
        how = (api_key_env, batch_size, concurrency, timeout, retries, backoff, cache)
        super().__init__(name, url, settings, *how)

    def ask(self, items: Sequence[Item]) -> list[float]:
        body: dict[str, list[str]] = {"prompts": [prompt for _, prompt in items]}
        if self.modality == "image":
            body["images"] = [base64.b64encode(to_png(picture)).decode() for picture, _ in items]
        else:
            body["smiles"] = [smiles for smiles, _ in items]
        answer = self.client.post(body)
        if not isinstance(answer, list) or len(answer) != len(items):
            received = f"a list of {len(answer)}" if isinstance(answer, list) else f"a JSON {type(answer).__name__}"
            raise ServerError(
                f"{self.client.url} was to answer a list of {len(items)} numbers, got {received}: {shown(answer)}"
            )
        wrong = [x for x in answer if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x)]
        if wrong:
            raise ServerError(
                f"{self.client.url} was to answer finite numbers, got {wrong[0]!r} among {shown(answer)}: "
                "give samples that cannot be scored a number below every good score"
            )
        return [float(x) for x in answer]
