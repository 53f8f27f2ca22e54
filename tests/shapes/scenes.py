"""Scenes to draw and to judge."""

import random

import torch

from lidar_lightning.shapes import CATEGORIES, Item, Prompt, Scene, compose, render, verdicts
from lidar_lightning.shapes.grammar import framed


def picture(*items: tuple, background: float = 0.95) -> torch.Tensor:
    return render([Scene(tuple(Item(*item) for item in items), Prompt("single_object", ()), background)])


def drawn(count: int, seed: int = 0, held_out: bool = False) -> list[Scene]:
    """Scenes of every category in turn."""
    rng = random.Random(seed)
    prompts = []
    for index in range(count):
        options = framed(CATEGORIES[index % 6], held_out)
        prompts.append(options[int(rng.random() * len(options))])
    return [compose(prompt, rng) for prompt in prompts]


def texts(scenes: list[Scene]) -> list[str]:
    return [scene.prompt.text for scene in scenes]


def share(images: torch.Tensor, prompts: list[str]) -> float:
    return sum(verdict.correct for verdict in verdicts(images, prompts)) / len(prompts)
