"""A LoRA that `lidar fit` exported, with its model card, on the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from safetensors.torch import load_file

from lidar_lightning.utils.files import expand, write_atomically
from lidar_lightning.utils.weights import check_finite_weights

WEIGHTS, TRAINING, CARD = "pytorch_lora_weights.safetensors", "training.json", "README.md"
FILES = (CARD, WEIGHTS, TRAINING)


def push(folder: str, repository: str, dry_run: bool = False, private: bool = False) -> str:
    """Uploads an exported LoRA with a model card to the hub, and says what was uploaded where.

    Args:
        folder: what `export` of a training named. A README.md that is there is the card; otherwise one is written.
        repository: OWNER/NAME, which is made if it is not there.
        dry_run: write the card and say what would be uploaded, without a connection.
        private: make a new repository visible to its owner only.

    Raises:
        ValueError: if the folder holds no whole LoRA, the name is none of a repository, or the hub refuses it.
    """
    home = expand(folder)
    told = exported(home)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no repository of the hub: {error}") from error
    if "/" not in repository:
        raise ValueError(f"{repository!r} is no repository of the hub: give OWNER/NAME")
    if not (home / CARD).exists():
        write_atomically(home / CARD, card(told, repository).encode())
    files = [home / name for name in FILES if (home / name).exists()]
    listed = "\n".join(f"  {file}  {file.stat().st_size:,} bytes" for file in files)
    if dry_run:
        return f"{repository} would hold (edit the card as you like; without --dry-run this is uploaded):\n{listed}"
    try:
        api = HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=home, allow_patterns=list(FILES), commit_message="LoRA of LiDAR-Lightning"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise ValueError(
            f"the hub did not take {repository!r} ({error}): log in by `hf auth login` with a token that may write, "
            "and name a repository of yours"
        ) from error
    return f"{url} holds:\n{listed}"


def exported(folder: Path) -> dict[str, Any]:
    """What the training wrote beside its LoRA. Raises ValueError unless both are there and whole."""
    try:
        check_finite_weights(f"the LoRA {folder / WEIGHTS}", load_file(folder / WEIGHTS))
        return json.loads((folder / TRAINING).read_text())
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"no exported LoRA at {folder} ({error}): give the folder that `export` of a `lidar fit` named"
        ) from error


def card(told: dict[str, Any], repository: str) -> str:
    """The model card: what was trained on what and how, and how it is loaded."""
    hub = {"base_model": told["base"], "base_model_relation": "adapter"} if "/" in told["base"] else {}
    tags = ["lora", "lidar-lightning", told["method"].lower()]
    data = ModelCardData(library_name="diffusers", pipeline_tag="text-to-image", tags=tags, **hub)
    settings = "\n".join(f"| {name} | {value} |" for name, value in told["settings"].items())
    return f"""---
{data.to_yaml()}
---

# {repository.rpartition("/")[2]}

LoRA of {told["base"]}, fine-tuned by {told["method"]} of LiDAR-Lightning {told["version"]} in {told["steps"]} steps.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{told["base"]}")
pipe.load_lora_weights("{repository}")
```

| setting | value |
|---|---|
{settings}

The licence and the limits of {told["base"]} apply.
"""
