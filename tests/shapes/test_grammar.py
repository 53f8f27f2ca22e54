"""Captions of the shapes task: six categories, refused texts, held-out captions, even training captions."""

import random
from collections import Counter

import pytest

from lidar_lightning.shapes import CATEGORIES, Prompt, held_out_prompts, parse
from lidar_lightning.shapes.grammar import FRAMES, by_text, contents, draw_prompt


def test_captions_are_geneval_s_six_categories():
    counts = [len(list(contents(category))) for category in CATEGORIES]
    assert counts == [6, 30, 18, 48, 120, 1680]
    assert len(by_text()) == sum(counts) * len(FRAMES)  # no two prompts share a caption
    for text in (
        "a circle", "a photo of an orange star", "three crosses", "a circle and a square",
        "a red ring and a blue square", "a sketch of a cross below a triangle",
    ):  # fmt: skip
        assert parse(text).text == text
    assert parse("  Four RINGS. ").wanted == (("ring", None),) * 4
    assert parse("a red ring above a cross".replace("red ", "")).relation == "above"


@pytest.mark.parametrize("text", ["", "a dog", "two circle", "a red circle above a square", "five stars"])
def test_other_captions_are_refused(text):
    with pytest.raises(ValueError, match="is no caption of the shapes task"):
        parse(text)
    with pytest.raises(ValueError, match="there is no category"):
        list(contents("colour"))


def test_held_out_captions_are_balanced_and_never_drawn():
    held_out = held_out_prompts()
    assert len(set(held_out)) == len(held_out) == 216
    assert Counter(parse(text).category for text in held_out) == dict.fromkeys(CATEGORIES, 36)
    assert [parse(text).category for text in held_out[:6]] == list(CATEGORIES)
    assert held_out_prompts(2)[:6] == held_out[:6]
    # The shipped models were trained on one and not on the other.
    assert not parse("a circle").held_out and parse("a ring").held_out
    rng = random.Random(0)
    drawn_texts = {draw_prompt(rng).text for _ in range(20_000)}
    assert drawn_texts.isdisjoint(held_out)
    # Not only the captions are new: outside of single objects, so is a pair of words in each of them.
    seen = {word for text in drawn_texts for word in pairs_of(parse(text))}
    for text in held_out:
        prompt = parse(text)
        assert prompt.category == "single_object" or not pairs_of(prompt) <= seen, text
    # Every word is seen in training all the same.
    assert {w for text in drawn_texts for w in text.split()} == {w for text in by_text() for w in text.split()}
    for number in (0, 37):
        with pytest.raises(ValueError, match="per_category"):
            held_out_prompts(number)


def test_training_captions_are_drawn_evenly():
    rng, count = random.Random(0), 12_000
    prompts = [draw_prompt(rng) for _ in range(count)]
    categories = Counter(prompt.category for prompt in prompts)
    singles = Counter(prompt for prompt in prompts if prompt.category == "single_object")
    for found in (categories, singles):
        mean = sum(found.values()) / len(found)
        assert max(abs(number - mean) for number in found.values()) < 4.5 * mean**0.5
    assert len(categories) == 6 and len(singles) == 36
    assert {draw_prompt(rng, "counting").category for _ in range(20)} == {"counting"}


def pairs_of(prompt: Prompt) -> set[frozenset]:
    shapes = [shape for shape, _ in prompt.wanted]
    pairs = {frozenset((shape, colour)) for shape, colour in prompt.wanted if colour}
    pairs |= {frozenset((len(shapes), shapes[0]))} if prompt.category == "counting" else set()
    return pairs | ({frozenset(shapes)} if len(set(shapes)) == 2 else set())
