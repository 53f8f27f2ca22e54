"""Videos: what rewards of pictures score, and the files that they become."""

import io

import pytest
import torch
from PIL import Image

from lidar_lightning.rewards import CallableReward, score
from lidar_lightning.runs.galleries import _picture
from lidar_lightning.utils.pictures import FRAMES, read_picture, save_png, to_png

VIDEOS = torch.rand(3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_video_scores_the_mean_of_its_frames():
    bright = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="bright", modality="image")
    torch.testing.assert_close(score(bright, VIDEOS, ["a", "b", "c"]), VIDEOS.mean((1, 2, 3, 4)))
    lengths = CallableReward(lambda samples, prompts: [len(text) for text in prompts], name="length", modality="image")
    assert score(lengths, VIDEOS, ["a", "bb", "ccc"]).tolist() == [1, 2, 3]
    whole = CallableReward(lambda samples, prompts: samples[:, -1].mean((1, 2, 3)), name="end", modality="any")
    torch.testing.assert_close(score(whole, VIDEOS, ["a", "b", "c"]), VIDEOS[:, -1].mean((1, 2, 3)))
    with pytest.raises(ValueError, match="returned 3 scores for 12 samples"):
        score(CallableReward(lambda samples, prompts: [0.0] * 3, name="few", modality="image"), VIDEOS, ["a"] * 3)


def test_a_video_is_an_animated_png_and_moves_in_the_report(tmp_path):
    with Image.open(io.BytesIO(to_png(VIDEOS[0], {"prompt": "a cat"}))) as image:
        assert image.n_frames == 4 and image.text["prompt"] == "a cat"
        assert abs(image.info["duration"] - 1000 / FRAMES) < 1
    save_png(tmp_path / "video.png", VIDEOS[0])
    torch.testing.assert_close(read_picture(tmp_path / "video.png"), VIDEOS[0, 0], rtol=0, atol=1 / 255)
    assert len(_picture(tmp_path / "video.png", "")) > 2 * len(_one_picture(tmp_path))


def _one_picture(folder):
    save_png(folder / "picture.png", VIDEOS[0, 0])
    return _picture(folder / "picture.png", "")
