"""A run on disk: checksums and settings of its samples, other batch sizes, what killed processes leave."""

import json
import os
import platform
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.parts import Part, join
from lidar_lightning.utils.files import check_folder, locked, sweep, write_atomically
from lidar_lightning.utils.tables import read_csv
from lidar_lightning.utils.tensor_files import load_tensors, save_tensors
from tests.conftest import tiny
from tests.modules.test_image_runs import module as image_module
from tests.modules.test_image_runs import predict as predict_images
from tests.modules.test_lidar_module import home, module, predict, strings


@pytest.fixture
def counted(monkeypatch):
    """A tiny backbone, and the batch sizes of its network calls."""
    calls, backbone = [], tiny()
    predicted = backbone.predict
    monkeypatch.setattr(backbone, "predict", lambda x, *rest: calls.append(len(x)) or predicted(x, *rest))
    return backbone, calls


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_changed_bit_of_a_part_is_noticed(tmp_path):
    save_tensors(tmp_path / "a", {"samples": torch.arange(6).view(2, 3)}, {"decoded": ["CC", "CO"]})
    whole = (tmp_path / "a").read_bytes()
    tensors, facts = load_tensors(tmp_path / "a")
    assert torch.equal(tensors["samples"], torch.arange(6).view(2, 3)) and facts == {"decoded": ["CC", "CO"]}
    for place in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "a").write_bytes(changed)
        try:
            found = load_tensors(tmp_path / "a")
        except ValueError:
            continue
        # A bit that says nothing, such as the case of a space, may change; what is read may not.
        assert torch.equal(found[0]["samples"], tensors["samples"]) and found[1] == facts, place


def test_a_flipped_bit_is_drawn_again_and_named(carbon_reward, tmp_path, caplog, counted):
    whole = strings(predict(module(carbon_reward, tmp_path)))
    path = home(tmp_path) / "0000008-0000015.safetensors"
    data = bytearray(path.read_bytes())
    place = data.index(b"decoded") + 20
    data[place] ^= 1
    path.write_bytes(data)
    backbone, calls = counted
    assert strings(predict(module(carbon_reward, tmp_path, backbone))) == whole and calls == [8] * 6
    assert f"{path} is damaged: its checksum does not match: its samples are drawn again" in caplog.text
    caplog.clear()
    predict(module(carbon_reward, tmp_path, backbone))
    assert calls == [8] * 6 and "drawn again" not in caplog.text


def test_parts_of_other_settings_are_drawn_again_and_named(carbon_reward, tmp_path, caplog):
    predict(module(carbon_reward, tmp_path / "run", seed=1))
    (tmp_path / "run" / "run.json").unlink()
    found = strings(predict(module(carbon_reward, tmp_path / "run")))
    assert caplog.text.count("is of other settings: its samples are drawn again") == 3
    assert found == strings(predict(module(carbon_reward, tmp_path / "other")))
    table = read_csv(tmp_path / "run" / "samples.csv")
    assert table["sample"].tolist() == list(found.values())


def test_another_batch_size_takes_what_is_there(carbon_reward, tmp_path, counted):
    whole = strings(predict(module(carbon_reward, tmp_path), 12, 5, ["a", "b"]))
    before = files(tmp_path)
    backbone, calls = counted
    for batch_size in (4, 12, 24, 1):
        assert strings(predict(module(carbon_reward, tmp_path, backbone), 12, batch_size, ["a", "b"])) == whole
    assert not calls and files(tmp_path) == before
    (RunFolder(tmp_path, {}).home("b") / "0000005-0000009.safetensors").unlink()
    more = strings(predict(module(carbon_reward, tmp_path, backbone), 14, 28, ["a", "b"]))
    # Of a two are missing, 12 and 13, of b seven: each group in one batch of six steps.
    assert calls == [2] * 6 + [7] * 6 and {key: more[key] for key in whole} == whole and len(more) == 28


def test_uneven_batches_count_by_their_samples(carbon_reward, tmp_path):
    for name, batch_size in (("one", 20), ("three", 9)):
        predict(module(carbon_reward, tmp_path / name), 20, batch_size)
    one, three = (pd.read_csv(tmp_path / name / "diagnostics.csv") for name in ("one", "three"))
    pd.testing.assert_frame_equal(one, three, rtol=1e-4)
    assert files(tmp_path / "one" / "banks") == files(tmp_path / "three" / "banks")


def test_parts_are_taken_and_joined():
    def part(indices, value):
        scores = {"r": torch.tensor([float(i) for i in indices])}
        names = [f"s{i}" for i in indices]
        steps = [{"step": 0, "ess": value}, {"step": 1, "ess": 2 * value}]
        return Part(["p"] * len(indices), indices, torch.tensor(indices)[:, None], names, scores, 2.0, 4, steps)

    whole = join([part([0, 1, 2], 1.0), part([5], 5.0)])
    assert whole.rows() == [("p", 0), ("p", 1), ("p", 2), ("p", 5)] and whole.seconds == 4.0
    assert whole.diagnostics == [{"step": 0, "ess": 2.0}, {"step": 1, "ess": 4.0}]
    some = whole.take([3, 1])
    assert some.decoded == ["s5", "s1"] and some.samples.tolist() == [[5], [1]] and some.seconds == 2.0
    assert some.table()["r"].tolist() == [5.0, 1.0]


def test_a_damaged_picture_is_drawn_again_and_named(tmp_path, caplog):
    predict_images(image_module(tmp_path))
    pictures = {path: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    path, data = next(iter(pictures.items()))
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    predict_images(image_module(tmp_path))
    assert f"the picture images/{path.name} is missing or damaged: its samples are drawn again" in caplog.text
    assert {path: path.read_bytes() for path in (tmp_path / "images").iterdir()} == pictures


@pytest.mark.parametrize("content", ["[1]", "null", '"text"', "{", "", b"\xff\xfe"])
def test_damaged_settings_lose_nothing(carbon_reward, tmp_path, content, counted):
    whole = strings(predict(module(carbon_reward, tmp_path)))
    (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="run.json is damaged .*: delete this file"):
        predict(module(carbon_reward, tmp_path))
    (tmp_path / "run.json").unlink()
    backbone, calls = counted
    assert strings(predict(module(carbon_reward, tmp_path, backbone))) == whole and not calls


def test_limited_batches_are_tabulated_and_said(carbon_reward, tmp_path, caplog):
    from tests.modules.test_lidar_module import L, PromptDataModule

    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(limit_predict_batches=1, **options)
    trainer.predict(module(carbon_reward, tmp_path), PromptDataModule("molecule", 20, 8))
    assert len(pd.read_csv(tmp_path / "samples.csv")) == 8
    assert json.loads((tmp_path / "summary.json").read_text())["methods"]["lidar"]["nfe"] == 6 + 30 * 3 / 8
    assert "limit_predict_batches: only 1 of 3 batches were drawn" in caplog.text


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_processes_left_is_swept(tmp_path):
    here, gone = platform.node(), dead_process()
    old = time.time() - 2 * 24 * 3600
    kept = {f".a.csv.{here}.{os.getpid()}.lidar-tmp", ".b.csv.elsewhere.1.lidar-tmp", ".c.tmp", "c.lock", "poetry.lock"}
    left = {f".d.csv.{here}.{gone}.lidar-tmp", ".e.csv.elsewhere.1.lidar-tmp", ".f.lidar-lock"}
    for name in kept | left:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".e.csv.elsewhere.1.lidar-tmp", (old, old))
    with locked(tmp_path / "g"):
        sweep(tmp_path)
        assert set(files(tmp_path)) == kept | {".g.lidar-lock"}
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert set(files(tmp_path)) == kept


def test_a_run_sweeps_its_folders(carbon_reward, tmp_path):
    predict(module(carbon_reward, tmp_path))
    whole, gone = files(tmp_path), dead_process()
    assert not [name for name in whole if "lock" in name]
    for place in (tmp_path, tmp_path / "banks", home(tmp_path), tmp_path / "images"):
        place.mkdir(exist_ok=True)
        (place / f".x.{platform.node()}.{gone}.lidar-tmp").touch()
        (place / ".y.lidar-lock").touch()
    predict(module(carbon_reward, tmp_path))
    assert files(tmp_path) == whole


def test_a_lock_holds_off_others_and_goes(tmp_path):
    with locked(tmp_path / "a"):
        with pytest.raises(TimeoutError), locked(tmp_path / "a", timeout=0):
            pass
        assert files(tmp_path) == [".a.lidar-lock"]
    with locked(tmp_path / "a", timeout=0):
        pass
    assert not files(tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="cannot write .*a: No space"):
        write_atomically(tmp_path / "a", b"data")
    assert not files(tmp_path)


def test_a_folder_that_may_not_be_written_into_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} may not be written into; give another folder as out"):
        check_folder(tmp_path / "some" / "run")
    (tmp_path / "own").mkdir()
    assert check_folder(tmp_path / "own" / "run") == tmp_path / "own" / "run"


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch):
    shut, stat = tmp_path / "shut", os.stat
    shut.mkdir()

    def denied(path, *args, **options):
        if str(path).startswith(f"{shut}/"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", denied)
    monkeypatch.setattr(os, "access", lambda place, mode: place != shut)
    with pytest.raises(ValueError, match=f"{shut} may not be written into"):
        check_folder(shut / "some" / "run")
