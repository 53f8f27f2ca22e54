"""GenEval accuracy of a predict run: `python -m recipes.geneval RUN --metadata evaluation_metadata.jsonl`."""

from lidar_lightning.evaluation.detection import ClipColours, Detector
from lidar_lightning.evaluation.geneval import evaluate_run


def main(run: str, metadata: str, device: str = "cpu") -> dict[str, float]:
    """Writes RUN/geneval.csv and returns the accuracies."""
    return evaluate_run(run, metadata, Detector(device=device), ClipColours(device=device))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    print(auto_cli(main))
