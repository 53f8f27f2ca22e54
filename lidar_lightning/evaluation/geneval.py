"""GenEval (Ghosh et al., arXiv 2310.11513): whether a picture shows the objects, counts, colours and places it should.

The verdict follows the published evaluation; the detector is transformers' Mask2Former on COCO instead of mmdet's, and
colours are told apart by CLIP on the cut-out object, as published. Accuracies are therefore close to the published
evaluator's, not equal to them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from lidar_lightning.evaluation.detection import Detection, Detector
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.pictures import read_picture
from lidar_lightning.utils.tables import read_csv, write_csv

CONFIDENCE, COUNTING_CONFIDENCE = 0.3, 0.9
POSITION_MARGIN = 0.1


class Colours(Protocol):
    """Names the colours of objects in a picture."""

    def __call__(self, picture: Tensor, found: Sequence[Detection], name: str) -> list[str]:
        """The colour of each object of that name in a picture (3, H, W)."""
        ...


class Verdict(NamedTuple):
    """Whether a picture shows what its prompt asks for."""

    correct: bool
    reason: str
    """What is wrong; empty where nothing is."""


def relations(a: Detection, b: Detection) -> set[str]:
    """Where box a lies as seen from b: "left of", "right of", "above", "below"; none if the centres are close.

    An offset within a tenth of the summed sizes does not count, and a direction must make up over half of the offset.
    """
    offset, size = [], []
    for low, high in ((0, 2), (1, 3)):
        offset.append((a.box[low] + a.box[high] - b.box[low] - b.box[high]) / 2)
        size.append(abs(a.box[high] - a.box[low]) + abs(b.box[high] - b.box[low]))
    moved = [max(abs(o) - POSITION_MARGIN * s, 0.0) * (1 if o > 0 else -1) for o, s in zip(offset, size, strict=True)]
    length = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
    if all(abs(m) < 1e-3 for m in moved):
        return set()
    x, y = (m / length for m in moved)
    found = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in found.items() if holds}


def verdict(
    picture: Tensor, wanted: Mapping[str, Any], objects: Mapping[str, Sequence[Detection]], colours: Colours
) -> Verdict:
    """Whether a picture shows what GenEval's metadata of its prompt ask for.

    Args:
        picture: (3, H, W) in [0, 1].
        wanted: a line of GenEval's metadata. It has "include" and perhaps "exclude", lists of {"class", "count"}, each
            perhaps with "color" or "position": [relation, index of another entry].
        objects: from names to detections, the most certain first.
        colours: names the colours of objects.
    """
    reasons: list[str] = []
    matched: list[Sequence[Detection] | None] = []
    for entry in wanted["include"]:
        name, count = entry["class"], entry["count"]
        found = list(objects.get(name, []))[:count]
        problem = "" if len(found) >= count else f"expected {count} {name}, found {len(found)}"
        if not problem and "color" in entry:
            seen = colours(picture, found, name)
            if seen.count(entry["color"]) < count:
                problem = f"expected {count} {entry['color']} {name}, found {', '.join(seen)}"
        if not problem and "position" in entry:
            relation, other = entry["position"]
            others = matched[other]
            if others is None:
                problem = f"no {wanted['include'][other]['class']} for {name} to be {relation}"
            elif any(relation not in relations(one, target) for one in found for target in others):
                problem = f"expected {name} {relation} {wanted['include'][other]['class']}"
        matched.append(None if problem else found)
        reasons += [problem] if problem else []
    for entry in wanted.get("exclude", []):
        if (found_count := len(objects.get(entry["class"], []))) >= entry["count"]:
            reasons.append(f"expected fewer than {entry['count']} {entry['class']}, found {found_count}")
    return Verdict(not reasons, "; ".join(reasons))


def read_metadata(path: str | Path) -> dict[str, dict[str, Any]]:
    """Reads GenEval's metadata file, which has a JSON object on each line, into a dictionary from prompts to objects.

    Raises:
        ValueError: if it is missing or a line is damaged.
    """
    try:
        lines = [json.loads(line) for line in expand(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return {line["prompt"]: line for line in lines if line["include"] and line["tag"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read GenEval metadata from {path}: {error!r}") from error


def evaluate_run(run: str | Path, metadata: str | Path, detect: Detector, colours: Colours) -> dict[str, float]:
    """Judges every picture of a predict run and writes geneval.csv (sample, tag, correct, reason) into its folder.

    Returns:
        the accuracy of each tag, and "overall", the mean over tags, as published.

    Raises:
        ValueError: if the run has no samples, if one of its prompts is not in the metadata, or if a prompt asks for an
            object that the detector does not know, so that no picture could pass.
    """
    folder, wanted = expand(run), read_metadata(metadata)
    if not (folder / "samples.csv").is_file():
        raise ValueError(f"{str(folder)!r} holds no samples.csv: give the output folder of a predict run")
    table = read_csv(folder / "samples.csv", dtype={"sample": str, "prompt": str})
    if unknown := set(table["prompt"]) - set(wanted):
        raise ValueError(f"{len(unknown)} prompts of the run are not in {metadata}, e.g. {sorted(unknown)[0]!r}")
    prompts = table["prompt"].unique()
    entries = {prompt: [*wanted[prompt]["include"], *wanted[prompt].get("exclude", [])] for prompt in prompts}
    missing = {prompt: {one["class"] for one in every} - detect.classes for prompt, every in entries.items()}
    if unknown := set().union(*missing.values()):
        raise ValueError(
            f"the detector, of {len(detect.names)} classes, does not know {sorted(unknown)}, and "
            f"{sum(map(bool, missing.values()))} prompts of the run ask for them: give a Mask2Former of COCO"
        )
    rows = []
    for sample, prompt in tqdm(list(zip(table["sample"], table["prompt"], strict=True)), desc="GenEval"):
        picture, entry = read_picture(folder / sample), wanted[prompt]
        confidence = COUNTING_CONFIDENCE if entry["tag"] == "counting" else CONFIDENCE
        rows.append((sample, entry["tag"], *verdict(picture, entry, detect(picture, confidence), colours)))
    judged = pd.DataFrame(rows, columns=["sample", "tag", "correct", "reason"])
    write_csv(folder / "geneval.csv", judged)
    tags = judged.groupby("tag")["correct"].mean()
    return {**{str(tag): float(share) for tag, share in tags.items()}, "overall": float(tags.mean())}
