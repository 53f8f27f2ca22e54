"""`lidar predict` with a reward over HTTP: a server that dies loses neither lookaheads nor scores, keys stay away."""

import pytest
import yaml

from lidar_lightning import cli
from lidar_lightning.lookahead import LookaheadBank
from lidar_lightning.sampling import sample
from tests.pipelines import build
from tests.rewards.servers import Server, lengths

PROMPTS, SIZE, SAMPLES = ["a cat", "two dogs"], 6, 3


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The arguments of the run whose scorer is at an address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SCORER_KEY", "s3cr3t")
    build("StableDiffusion").save_pretrained(tmp_path / "model")

    def write(url):
        backbone = {
            "class_path": "lidar_lightning.StableDiffusion.from_pretrained",
            "init_args": {"pretrained_model_name_or_path": str(tmp_path / "model")},
        }
        settings = {"name": "other", "url": url, "batch_size": 2, "concurrency": 1, "retries": 0}
        settings |= {"cache": str(tmp_path / "scores"), "api_key_env": "SCORER_KEY"}
        lidar = {
            "backbone": backbone, "steps": 3, "out": str(tmp_path / "run"), "lookahead": {"steps": 2, "n": SIZE},
            "ess": 0.5,  # the published form, which scores each sample once
            "reward": {"class_path": "lidar_lightning.rewards.HTTPScorer", "init_args": settings},
        }  # fmt: skip
        config = {
            "trainer": {"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
            "model": {"class_path": "lidar_lightning.LiDARModule", "init_args": lidar},
            "data": {"class_path": "datamodules.PromptDataModule",
                     "init_args": {"prompts": PROMPTS, "samples": SAMPLES, "batch_size": SAMPLES}},
        }  # fmt: skip
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return ["predict", "-c", str(tmp_path / "config.yaml")]

    return write


def sent(*servers):
    return [picture for server in servers for body in server.seen for picture in body["images"]]


def test_a_run_goes_on_where_its_server_died(command, tmp_path, monkeypatch, capsys):
    """It dies after 4 of the 6 lookaheads of the first prompt, and then among the samples of the first."""
    drawn = []
    monkeypatch.setattr(
        "lidar_lightning.lookahead.draw.sample", lambda *given, **told: drawn.append(1) or sample(*given, **told)
    )
    with Server(lambda body, number: lengths(body) if number <= 2 else (500, b"died")) as first:
        assert cli.main(command(first.url)) == 2
    said = capsys.readouterr().err
    assert "'other'" in said and "4 of 6 samples are scored" in said and "goes on with the other 2" in said
    assert not LookaheadBank.load(next((tmp_path / "run" / "banks").glob("*.safetensors"))).rewards
    with Server(lambda body, number: lengths(body) if number <= 1 else (500, b"died")) as second:
        assert cli.main(command(second.url)) == 2
    with Server(lambda body, number: lengths(body)) as third:
        assert cli.main(command(third.url)) == 0
    assert len(drawn) == len(PROMPTS)
    scored = [*sent(first)[:4], *sent(second)[:2], *sent(third)]
    assert len(scored) == len(set(scored)) == len(PROMPTS) * (SIZE + SAMPLES)
    with Server(lambda body, number: (500, b"asked")) as fourth:
        assert cli.main(command(fourth.url)) == 0
    assert not fourth.seen
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"s3cr3t" in path.read_bytes()]


def test_a_missing_key_ends_it_before_anything_is_drawn(command, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SCORER_KEY")
    assert cli.main(command("http://127.0.0.1:9")) == 2
    assert "environment variable SCORER_KEY" in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.safetensors"))
