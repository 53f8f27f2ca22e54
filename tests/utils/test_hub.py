"""Everything that is loaded from the hub can be pinned to a revision."""

import types

import pytest
import transformers

from datamodules.picture_pairs import download_pairs
from lidar_lightning import UDLM, StableDiffusion
from lidar_lightning.backbones.loading import load_lora, load_network, load_tiny_vae
from lidar_lightning.evaluation.detection import Detector
from lidar_lightning.rewards.weights import find_file, pretrained
from lidar_lightning.shapes.scorer import ShapesScorer
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.smiles_io import read_hub
from tests.pipelines import build

NAME = "owner/repository@1a2b3c"
LOADERS = "lidar_lightning.backbones.loading.hf_hub_download"
CASES = {
    "pipeline": ("diffusers.StableDiffusionPipeline.from_pretrained", lambda _: StableDiffusion.from_pretrained(NAME)),
    "network": (LOADERS, lambda pipe: load_network(pipe, "unet", f"{NAME}/unet.safetensors")),
    "lora": ("diffusers.StableDiffusionPipeline.load_lora_weights", lambda pipe: load_lora(pipe, f"{NAME}/a.bin", "a")),
    "decoder": (
        "diffusers.AutoencoderTiny.from_pretrained",
        lambda pipe: load_tiny_vae(NAME, types.SimpleNamespace(pipe=pipe, name="x")),
    ),
    "udlm": ("huggingface_hub.PyTorchModelHubMixin.from_pretrained", lambda _: UDLM.from_pretrained(NAME)),
    "scorer": ("huggingface_hub.PyTorchModelHubMixin.from_pretrained", lambda _: ShapesScorer.from_pretrained(NAME)),
    "weights": ("lidar_lightning.rewards.weights.hf_hub_download", lambda _: find_file("mine", NAME, "w.pt")),
    "transformers": (
        "transformers.CLIPModel.from_pretrained",
        lambda _: pretrained("mine", transformers.CLIPModel, NAME),
    ),
    "detector": (
        "transformers.Mask2FormerForUniversalSegmentation.from_pretrained",
        lambda _: Detector(NAME),
    ),
    "pairs": ("datasets.load_dataset", lambda folder: download_pairs(NAME, folder, 1)),
    "smiles": ("datasets.load_dataset", lambda _: read_hub(NAME)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_revision_reaches_the_hub(case, monkeypatch, tmp_path):
    target, load = CASES[case]
    seen = []

    def hub(*args, revision=None, **options):
        seen.append((args, revision))
        raise OSError("asked") if case != "pairs" else ValueError("asked")

    is_method = target.endswith("from_pretrained")
    monkeypatch.setattr(target, classmethod(lambda cls, *args, **o: hub(*args, **o)) if is_method else hub)
    given = tmp_path if case == "pairs" else build("StableDiffusion")
    with pytest.raises(ValueError, match="asked"):
        load(given)
    ((args, revision),) = seen
    assert "owner/repository" in args and revision == "1a2b3c"


def test_paths_and_plain_names_have_no_revision(tmp_path):
    folder = tmp_path / "run@home"
    folder.mkdir()
    assert at_revision(str(folder)) == (str(folder), None)
    assert at_revision("owner/repository") == ("owner/repository", None)
    assert at_revision("owner/repository@refs/pr/1") == ("owner/repository", "refs/pr/1")
