"""The captions of the shapes task: GenEval's six categories, their parser, and which captions training never names.

GenEval (Ghosh et al., arXiv 2310.11513) asks of a picture that it shows the right objects, how many, in which colours
and where. The same six kinds of prompt over six shapes and eight colours can be drawn and read by programs.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, product
from typing import TypeVar

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
COUNTS = {"two": 2, "three": 3, "four": 4}
RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
FRAMES = (
    "", "a photo of", "a picture of", "an image of", "a drawing of", "a painting of", "a sketch of", "a print of",
    "a poster of", "a sticker of", "a view of", "a scene with",
)  # fmt: skip
PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
PER_CATEGORY = 36
LENGTH = 16
"""Tokens of a caption, padded; the longest takes 12."""

HELD_OUT = frozenset(
    chain(
        (frozenset((SHAPES[i], SHAPES[i + 3])) for i in range(3)),
        (frozenset((colour, SHAPES[i % 6])) for i, colour in enumerate(COLOURS)),
        (frozenset((count, SHAPES[i])) for i, count in zip(range(6), [*COUNTS] * 2, strict=True)),
    )
)
"""Pairs of words that no training caption puts together: 3 of 15 pairs of shapes, 8 of 48 coloured shapes, 6 of 18
numbers of a shape."""

T = TypeVar("T")
Wanted = tuple[str, str | None]
"""A shape and its colour, None where the caption leaves it open."""


@dataclass(frozen=True)
class Prompt:
    """What a caption asks for: exactly these objects and no others.

    Args:
        category: one of `CATEGORIES`, GenEval's tags.
        wanted: the objects, each a shape and a colour or None.
        relation: where the first of two stands, seen from the second: a key of `RELATIONS`, or None.
        frame: words in front of the request that change nothing about it, one of `FRAMES`.
    """

    category: str
    wanted: tuple[Wanted, ...]
    relation: str | None = None
    frame: str = ""

    @property
    def text(self) -> str:
        """The caption, such as "a photo of a red circle"."""
        if self.category == "counting":
            shape = self.wanted[0][0]
            body = f"{[*COUNTS][len(self.wanted) - 2]} {PLURALS[shape]}"
        else:
            names = [f"{colour} {shape}" if colour else shape for shape, colour in self.wanted]
            body = f" {self.relation or 'and'} ".join(f"{'an' if n[0] in 'aeiou' else 'a'} {n}" for n in names)
        return f"{self.frame} {body}".strip()

    @property
    def held_out(self) -> bool:
        """Whether training never sees this caption. For a single object, its frame is one never seen with its shape."""
        if self.category == "single_object":
            return (FRAMES.index(self.frame) + SHAPES.index(self.wanted[0][0])) % 2 == 1
        first = self.wanted[0][0]
        pairs = [frozenset((shape, colour)) for shape, colour in self.wanted if colour]
        if self.category == "counting":
            pairs.append(frozenset(([*COUNTS][len(self.wanted) - 2], first)))
        elif len(self.wanted) == 2:
            pairs.append(frozenset((first, self.wanted[1][0])))
        return any(pair in HELD_OUT for pair in pairs)


def contents(category: str) -> Iterator[Prompt]:
    """Every prompt of a category, without a frame: 6, 30, 18, 48, 120 and 1,680.

    Raises:
        ValueError: if there is no such category.
    """
    pairs = [(one, other) for one, other in product(SHAPES, SHAPES) if one != other]
    if category == "single_object":
        yield from (Prompt(category, ((shape, None),)) for shape in SHAPES)
    elif category == "two_object":
        yield from (Prompt(category, ((one, None), (other, None))) for one, other in pairs)
    elif category == "counting":
        yield from (Prompt(category, ((shape, None),) * n) for n, shape in product(COUNTS.values(), SHAPES))
    elif category == "colors":
        yield from (Prompt(category, ((shape, colour),)) for shape, colour in product(SHAPES, COLOURS))
    elif category == "position":
        for (one, other), relation in product(pairs, RELATIONS):
            yield Prompt(category, ((one, None), (other, None)), relation)
    elif category == "color_attr":
        for (one, other), mine, yours in product(pairs, COLOURS, COLOURS):
            if mine != yours:
                yield Prompt(category, ((one, mine), (other, yours)))
    else:
        raise ValueError(f"there is no category {category!r}: choose one of {', '.join(CATEGORIES)}")


@cache
def framed(category: str, held_out: bool) -> tuple[Prompt, ...]:
    """Every prompt of a category with every frame: those that training sees, or those that it never sees."""
    prompts = (Prompt(p.category, p.wanted, p.relation, frame) for p in contents(category) for frame in FRAMES)
    return tuple(prompt for prompt in prompts if prompt.held_out == held_out)


@cache
def by_text() -> dict[str, Prompt]:
    """All captions, each with what it asks for."""
    prompts = chain.from_iterable(framed(category, held) for category in CATEGORIES for held in (False, True))
    return {prompt.text: prompt for prompt in prompts}


@cache
def words() -> tuple[str, ...]:
    """Every word of the captions, in alphabetical order."""
    return tuple(sorted({word for text in by_text() for word in text.split()}))


def parse(text: str) -> Prompt:
    """What a caption asks for.

    Raises:
        ValueError: if it is not a caption of this grammar.
    """
    prompt = by_text().get(" ".join(text.lower().split()).removesuffix("."))
    if prompt is None:
        raise ValueError(
            f"{text!r} is no caption of the shapes task: write one such as 'a photo of a circle', 'three stars', "
            f"'a red ring and a blue square' or 'a cross above a circle', with the shapes {', '.join(SHAPES)} and the "
            f"colours {', '.join(COLOURS)}"
        )
    return prompt


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options. Only `random()` is used, which gives the same numbers in every version of Python."""
    return options[int(rng.random() * len(options))]


def draw_prompt(rng: random.Random, category: str | None = None) -> Prompt:
    """Draws a training prompt: first a category, unless it is given, then one of its prompts, evenly."""
    return pick(rng, framed(category or pick(rng, CATEGORIES), False))


def held_out_prompts(per_category: int = PER_CATEGORY) -> list[str]:
    """Captions that training never sees, `per_category` of each category, with the categories in turn.

    The default gives 216. They are the same in every version of Python.

    Raises:
        ValueError: if `per_category` is below 1 or above 36, the number of those of single objects.
    """
    if not 1 <= per_category <= PER_CATEGORY:
        raise ValueError(f"per_category must lie in 1 to {PER_CATEGORY}, got {per_category}")
    chosen = []
    for category in CATEGORIES:
        rng, left = random.Random(0), list(framed(category, True))
        chosen.append([left.pop(int(rng.random() * len(left))).text for _ in range(per_category)])
    return [text for turn in zip(*chosen, strict=True) for text in turn]


def twin(prompt: Prompt, rng: random.Random) -> Prompt:
    """A prompt that differs in one respect: a shape, a colour, the number, or which object has which colour or place.

    The twin of a training prompt is a training prompt.
    """
    while True:
        wanted, relation, chance = list(prompt.wanted), prompt.relation, rng.random()
        i = int(rng.random() * len(wanted))
        shape, colour = wanted[i]
        if prompt.category == "counting":
            fewer_or_more = pick(rng, [*COUNTS.values()])
            wanted = wanted[:1] * fewer_or_more if chance < 0.7 else [(pick(rng, SHAPES), None)] * len(wanted)
        elif relation and chance < 0.7:
            relation = RELATIONS[relation] if chance < 0.4 else pick(rng, [*RELATIONS])
        elif prompt.category == "color_attr" and chance < 0.5:
            wanted = [(wanted[0][0], wanted[1][1]), (wanted[1][0], wanted[0][1])]
        elif colour and chance < 0.8:
            wanted[i] = (shape, pick(rng, COLOURS))
        else:
            wanted[i] = (pick(rng, SHAPES), colour)
        other = Prompt(prompt.category, tuple(wanted), relation, prompt.frame)
        if other != prompt and other.held_out <= prompt.held_out and other.text in by_text():
            return other
