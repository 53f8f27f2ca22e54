"""The shapes task: captions, pictures and verdicts made by programs, so that text-to-image needs no download."""

from lidar_lightning.shapes.grammar import CATEGORIES, COLOURS, SHAPES, Prompt, held_out_prompts, parse
from lidar_lightning.shapes.render import Item, Scene, compose, render
from lidar_lightning.shapes.verdict import Seen, Verdict, read, verdicts

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "SHAPES",
    "Item",
    "Prompt",
    "Scene",
    "Seen",
    "Verdict",
    "compose",
    "held_out_prompts",
    "parse",
    "read",
    "render",
    "verdicts",
]
