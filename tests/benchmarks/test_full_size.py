"""The benchmark at full size: architectures of the published sizes, and every row on tiny ones."""

import json
import math

import pytest
import torch

from benchmarks import full_size
from benchmarks.full_size import keep, kept, main, measure
from benchmarks.full_size_models import MODELS, RandomImageReward
from benchmarks.full_size_table import PUBLISHED, ROWS, WHOLE, table, undone

SIZES = {
    "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
    "flux": {
        "transformer": 11_901_408_320, "vae": 83_819_683, "text_encoder": 123_060_480, "text_encoder_2": 4_762_310_656,
    },
    "z-image": {"transformer": 6_154_908_736, "vae": 83_819_683, "text_encoder": 4_022_468_096},
}  # fmt: skip
"""Parameters of the published weights."""
CASES = [(model, row) for model, rows in ROWS.items() for row in rows if (model, row) not in WHOLE]


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_architectures_have_the_published_numbers_of_parameters(name):
    with torch.device("meta"):
        assert {key: parameters(module) for key, module in MODELS[name].modules().items()} == SIZES[name]


def test_the_reward_is_of_the_published_size():
    with torch.device("meta"):
        assert parameters(RandomImageReward().load()) == 446_206_689


@pytest.mark.parametrize(("model", "row"), CASES)
def test_every_row_runs(model, row):
    found = measure(model, row, "cpu", "bfloat16", count=2, steps=4, tiny=True, n=3)
    assert "error" not in found and found["seconds"] >= 0 and 0 < found["gib"] < 24
    assert found["steps"] == 4 and found["pictures"] == 2


def test_out_of_memory_is_a_row(monkeypatch):
    def full(*given, **told):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(full_size, "pictures_of", full)
    assert measure("sd15", "vanilla", "cpu", tiny=True)["error"] == "out of memory"


def test_the_table_is_of_all_finished_rows(tmp_path):
    measured = {"seconds": 4.0, "gib": 5.0, "steps": 100}
    keep("a GPU", "sd15/vanilla", measured, tmp_path)
    keep("a GPU", "sd15/lidar", measured | {"seconds": 7.0}, tmp_path)
    keep("a GPU", "sdxl/ug", {"error": "out of memory"}, tmp_path)
    keep("smoke", "sd15/vanilla", measured | {"cores": 2, "load": 1.5}, tmp_path)
    assert kept(tmp_path)["a GPU"]["sd15/lidar"]["seconds"] == 7
    page = (tmp_path / "full-size.md").read_text()
    assert "| SD 1.5, 100 steps | vanilla | 4.00 | 1.00 | 5.00 | 7.07 | 1.00 | 8.9 |" in page
    assert "|  | LiDAR (DPM-5, n=50) | 7.00 | 1.75 | 5.00 | 13.41 | 1.90 | 8.9 |" in page
    assert "|  | UG | out of memory |  |  | 334.4 | 7.96 | OOM |" in page
    assert "vanilla 4.0 s and 5.0 GiB on 2 cores at a load of 1.5." in page
    assert page.count("| none: AnyPipeline") == len(WHOLE)
    lines = [line for line in page.splitlines() if line.startswith("|") and "---" not in line]
    assert len(lines) == 1 + sum(map(len, ROWS.values())) and {line.count("|") for line in lines} == {9}
    left = undone(kept(tmp_path))
    assert len(left) == len(CASES) - 3 and "python -m benchmarks.full_size --model sd15 --row ug" in left
    assert json.loads((tmp_path / "full-size.json").read_text()) == kept(tmp_path)


def test_the_page_is_up_to_date():
    assert (full_size.FOLDER / "full-size.md").read_text() == table(kept())


def test_published_ratios_are_those_of_the_paper():
    lidar = {name: PUBLISHED[name, row][0] / PUBLISHED[name, "vanilla"][0] for name, row in
             (("sd15", "lidar"), ("sdxl", "lidar-dmd"))}  # fmt: skip
    assert math.isclose(lidar["sd15"], 1.90, abs_tol=0.005) and math.isclose(lidar["sdxl"], 1.87, abs_tol=0.005)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"model": "sd15", "row": "lidar-dmd"}, "lidar-dmd"), ({"row": "ug"}, "'ug'"),
        ({"model": "z-image", "row": "ug"}, "through single steps"),
        *([] if torch.cuda.is_available() else [({"model": "sd15", "row": "ug"}, "no GPU")]),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(told, said):
    with pytest.raises(ValueError, match=said):
        main(**told)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize(("model", "row"), CASES)
def test_every_row_runs_on_a_gpu(model, row):
    found = measure(model, row, "cuda", "bfloat16", count=2, steps=4, tiny=True, n=3)
    assert "error" not in found and found["gib"] > 0
