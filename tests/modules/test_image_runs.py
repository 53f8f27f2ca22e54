"""Predict and DPO runs of an image model: pictures on disk, resume, report, pairs from banks."""

import json

import lightning as L
import pandas as pd
import pytest
import torch
from PIL import Image

from datamodules import PromptDataModule
from lidar_lightning import LiDARModule, Lookahead, StableDiffusion
from lidar_lightning.rewards import CallableReward
from lidar_lightning.utils.chunks import in_chunks
from lidar_lightning.utils.pictures import fit, grid, read_picture, slug, to_png
from tests.pipelines import build

PROMPTS = ["a cat", "two dogs"]


def brightness(samples, prompts):
    return samples.mean((1, 2, 3)) * 100


def module(out, lookahead=True, **settings):
    backbone = StableDiffusion(build("StableDiffusion"), guidance_scale=3.0, name="tiny")
    reward = CallableReward(brightness, name="brightness", modality="image")
    return LiDARModule(
        backbone, reward, Lookahead(2, 6) if lookahead else None, steps=3, out=str(out), **{"ess": 0.1, **settings}
    )  # fmt: skip


def predict(model, samples=3, batch_size=3):
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.predict(model, PromptDataModule(PROMPTS, samples, batch_size), return_predictions=False)


def test_run_leaves_pictures_tables_and_report(tmp_path):
    predict(module(tmp_path))
    table = pd.read_csv(tmp_path / "samples.csv")
    assert len(table) == 6 and list(table["prompt"].unique()) == PROMPTS
    for row in table.itertuples():
        with Image.open(tmp_path / row.sample) as image:
            assert (
                image.size == (32, 32) and image.text["prompt"] == row.prompt and image.text["index"] == str(row.index)
            )
            assert json.loads(image.text["scores"])["brightness"] == pytest.approx(row.brightness, rel=1e-5)
            assert json.loads(image.text["settings"])["backbone"] == "tiny"
        pixels = read_picture(tmp_path / row.sample)
        assert brightness(pixels[None], None).item() == pytest.approx(row.brightness, abs=0.3)
    assert len(list((tmp_path / "grids").glob("*.png"))) == 2 and len(list((tmp_path / "lookaheads").glob("*"))) == 8
    numbers = json.loads((tmp_path / "summary.json").read_text())["methods"]["lidar"]
    assert numbers["samples"] == 6 and numbers["reward"] == pytest.approx(table["brightness"].mean(), rel=1e-4)
    # Classifier-free guidance runs the network twice a call.
    assert numbers["calls"] == 3 + 2 * 6 * 2 / 6 and numbers["nfe"] == 2 * numbers["calls"]
    assert numbers["diversity"] > 0
    report = (tmp_path / "report.html").read_text()
    assert report.count("data:image/webp") == 6 + 8 and "two dogs" in report and "best lookaheads" in report


def test_missing_picture_is_drawn_again_and_batches_change_nothing(tmp_path):
    predict(module(tmp_path / "a"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "a" / "images").iterdir()}
    lost = next((tmp_path / "a" / "images").iterdir())
    lost.unlink()
    predict(module(tmp_path / "a"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "images").iterdir()} == before
    predict(module(tmp_path / "b"), batch_size=1)
    scores = [pd.read_csv(tmp_path / run / "samples.csv")["brightness"] for run in ("a", "b")]
    torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]), rtol=1e-4, atol=1e-3)


def test_unguided_run_has_no_lookaheads(tmp_path):
    predict(module(tmp_path, lookahead=False, method="vanilla"))
    assert not (tmp_path / "lookaheads").exists() and "best lookaheads" not in (tmp_path / "report.html").read_text()


def test_png_round_trip_and_errors(tmp_path):
    pixels = torch.arange(3 * 4 * 5).view(3, 4, 5) / 255
    torch.testing.assert_close(read_picture(to_png(pixels)), pixels)
    (tmp_path / "bad.png").write_bytes(to_png(pixels)[:40])
    with pytest.raises(ValueError, match="bad.png cannot be read"):
        read_picture(tmp_path / "bad.png")
    with pytest.raises(ValueError, match="row 7 cannot be read"):
        read_picture(b"nothing", "row 7")


def test_fit_and_grid():
    wide = torch.zeros(3, 8, 32)
    wide[:, :, 12:20] = 1.0
    assert torch.equal(fit(wide, 8, 8), torch.ones(3, 8, 8)) and fit(wide, 16, 24).shape == (3, 16, 24)
    sheet = grid(torch.zeros(5, 3, 4, 6))
    assert sheet.shape == (3, 2 * 6 - 2, 3 * 8 - 2) and sheet.mean() == pytest.approx(1 - 5 * 24 / (10 * 22))
    assert slug("A red circle!") == "a-red-circle" and slug("?") == "prompt"


def test_chunks_shrink_until_they_fit(caplog):
    asked = []

    def work(start, stop):
        asked.append(stop - start)
        if stop - start > 3:
            raise torch.OutOfMemoryError("too much")
        return torch.arange(start, stop)

    assert torch.equal(torch.cat(in_chunks(work, 10)), torch.arange(10)) and asked == [10, 5, 2, 2, 2, 2, 2]
    assert "10 rows do not fit" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        in_chunks(lambda start, stop: (_ for _ in ()).throw(torch.OutOfMemoryError()), 2)
