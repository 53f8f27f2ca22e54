"""GenEval's verdict on hand-made detections, and its detector and colours on tiny random networks."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from lidar_lightning.evaluation.detection import COLOURS, ClipColours, Detection, Detector, spellings
from lidar_lightning.evaluation.geneval import evaluate_run, relations, verdict
from lidar_lightning.utils.pictures import save_png

PICTURE = torch.zeros(3, 100, 100)


def at(x, y, size=10.0):
    return Detection((x - size / 2, y - size / 2, x + size / 2, y + size / 2), 0.9)


def no_colours(picture, found, name):
    return ["red"] * len(found)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (20, 50, {"left of"}),
        (80, 50, {"right of"}),
        (50, 20, {"above"}),
        (50, 80, {"below"}),
        (20, 20, {"left of", "above"}),
        (51, 51, set()),
        (50, 50, set()),
    ],
)
def test_relations(x, y, expected):
    assert relations(at(x, y), at(50, 50)) == expected


def test_small_offsets_do_not_count():
    assert relations(at(48.1, 50), at(50, 50)) == set()  # within (10 + 10) / 10
    assert relations(at(44, 50), at(50, 50)) == {"left of"}  # (6 - 2) / 6 of the whole offset
    assert relations(at(46.5, 50), at(50, 50)) == set()  # (3.5 - 2) / 3.5


CASES = [
    ([{"class": "cat", "count": 1}], [], {"cat": [at(1, 1)]}, ""),
    ([{"class": "cat", "count": 1}], [], {"dog": [at(1, 1)]}, "expected 1 cat, found 0"),
    ([{"class": "cat", "count": 2}], [{"class": "cat", "count": 3}], {"cat": [at(1, 1)] * 2}, ""),
    (
        [{"class": "cat", "count": 2}],
        [{"class": "cat", "count": 3}],
        {"cat": [at(1, 1)] * 4},
        "expected fewer than 3 cat, found 4",
    ),
    ([{"class": "cat", "count": 1, "color": "red"}], [], {"cat": [at(1, 1)]}, ""),
    ([{"class": "cat", "count": 1, "color": "blue"}], [], {"cat": [at(1, 1)]}, "expected 1 blue cat, found red"),
    (
        [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
        [],
        {"cat": [at(80, 50)], "dog": [at(20, 50)]},
        "",
    ),
    (
        [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
        [],
        {"cat": [at(20, 50)], "dog": [at(80, 50)]},
        "expected dog left of cat",
    ),
    (
        [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
        [],
        {"dog": [at(80, 50)]},
        "expected 1 cat, found 0; no cat for dog to be left of",
    ),
]


@pytest.mark.parametrize(("include", "exclude", "objects", "reason"), CASES)
def test_verdicts(include, exclude, objects, reason):
    judged = verdict(PICTURE, {"include": include, "exclude": exclude}, objects, no_colours)
    assert judged == (not reason, reason)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mask2former")
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, dim_feedforward=16, encoder_feedforward_dim=16, num_queries=40,
        id2label={0: "cat", 1: "mouse"}, label2id={"cat": 0, "mouse": 1},
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    return Detector(str(folder), size=64)


def test_detector_gives_boxes_around_its_masks(detector):
    picture = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    found = detector(picture, 0.0)
    assert found and set(found) <= {"cat", "mouse", "computer mouse"}
    for objects in found.values():
        assert 1 <= len(objects) <= 16 and [o.score for o in objects] == sorted(
            (o.score for o in objects), reverse=True
        )
        for one in objects:
            left, top, right, bottom = map(int, one.box)
            assert one.mask.shape == (40, 60) and one.mask[top:bottom, left:right].sum() == one.mask.sum()
            assert one.mask[top].any() and one.mask[bottom - 1].any() and one.mask[:, left].any()
    assert not detector(picture, 1.1)
    with pytest.raises(ValueError, match="no Mask2Former at 'nowhere'"):
        Detector("nowhere")


WANTED = (Path(__file__).parents[1] / "golden" / "geneval_classes.txt").read_text().splitlines()
"""All classes of GenEval's 553 prompts."""
COCO = {"computer keyboard": "keyboard", "computer mouse": "mouse", "tv remote": "remote"}
MMDET = COCO | {
    "couch": "sofa", "motorcycle": "motorbike", "airplane": "aeroplane", "potted plant": "pottedplant",
    "dining table": "diningtable", "tv": "tvmonitor",
}  # fmt: skip
"""How COCO, and mmdet's checkpoints of it, which transformers' are made from, call some of them."""


def one_of_each(pixel_values):
    """A network's output: every class once, the i-th in the i-th row of the picture."""
    rows = range(len(WANTED))
    classes, masks = torch.full((1, 80, 81), -20.0), torch.full((1, 80, 80, 80), -20.0)
    classes[0, rows, rows], masks[0, rows, rows] = 20.0, 20.0
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


@pytest.mark.parametrize("other", [COCO, MMDET])
def test_every_wanted_object_is_found_by_either_spelling(other):
    """As "sofa" was: 69 of the 553 prompts could not be passed."""
    detector = Detector.__new__(Detector)
    detector.names = {i: other.get(name, name) for i, name in enumerate(WANTED)}
    detector.model, detector.device, detector.size = one_of_each, "cpu", 80
    found = detector(torch.zeros(3, 80, 80), 0.3)
    assert len(WANTED) == 80 and set(WANTED) | set(detector.names.values()) <= set(found) <= detector.classes
    for row, name in enumerate(WANTED):
        (one,) = found[name]
        assert one.box == (0, row, 80, row + 1) and all(found[spelling] == found[name] for spelling in spellings(name))
        assert verdict(PICTURE, {"include": [{"class": name, "count": 1}]}, found, no_colours).correct


def test_colours_come_from_the_cut_out_object(monkeypatch):
    colours = ClipColours("unused")

    class Clip:
        """Knows a colour by the mean of its pixels."""

        network = torch.nn.Identity()
        palette = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}

        def embed_prompts(self, texts):
            return torch.tensor([self.palette.get(text.split()[4].split("-")[0], (0.0, 0.0, 0.0)) for text in texts])

        def embed_images(self, images):
            return images.mean((2, 3))

    colours.clip = Clip()
    picture = torch.zeros(3, 20, 20)
    picture[0, :, :10], picture[2, :, 10:] = 1.0, 1.0
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[:, 12:18] = True
    found = [Detection((0, 0, 10, 20), 1.0), Detection((8, 0, 20, 20), 1.0, mask)]
    assert colours(picture, found, "cat") == ["red", "blue"] and len(COLOURS) == 10


def test_run_is_judged(tmp_path, detector):
    metadata = tmp_path / "metadata.jsonl"
    lines = [
        {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a photo of a cat"},
        {"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "a photo of two cats"},
    ]
    metadata.write_text("\n".join(json.dumps(line) for line in lines))
    for i in range(2):
        save_png(tmp_path / "run" / f"images/{i}.png", torch.full((3, 16, 16), i / 2))
    samples = [{"prompt": line["prompt"], "index": 0, "sample": f"images/{i}.png"} for i, line in enumerate(lines)]
    pd.DataFrame(samples).to_csv(tmp_path / "run" / "samples.csv", index=False)

    class Cats:
        names, classes = {0: "cat"}, {"cat"}

        def __call__(self, picture, confidence):
            return {"cat": [at(5, 5)]}

    result = evaluate_run(tmp_path / "run", metadata, Cats(), no_colours)
    assert result == {"counting": 0.0, "single_object": 1.0, "overall": 0.5}
    assert list(pd.read_csv(tmp_path / "run" / "geneval.csv")["correct"]) == [True, False]
    lines[1]["exclude"] = [{"class": "sofa", "count": 1}, {"class": "dog", "count": 1}]
    metadata.write_text("\n".join(json.dumps(line) for line in lines))
    (tmp_path / "run" / "geneval.csv").unlink()
    with pytest.raises(ValueError, match=r"does not know \['dog', 'sofa'\], and 1 prompts of the run ask"):
        evaluate_run(tmp_path / "run", metadata, Cats(), no_colours)
    assert not (tmp_path / "run" / "geneval.csv").exists()
    metadata.write_text(json.dumps(lines[0]))
    with pytest.raises(ValueError, match="1 prompts of the run are not in"):
        evaluate_run(tmp_path / "run", metadata, detector, no_colours)
    with pytest.raises(ValueError, match=r"holds no samples\.csv"):
        evaluate_run(tmp_path, metadata, detector, no_colours)
    metadata.write_text("{")
    with pytest.raises(ValueError, match="cannot read GenEval metadata"):
        evaluate_run(tmp_path / "run", metadata, detector, no_colours)
