"""Rewards over HTTP, by a real server on the loopback: what is sent, what fails how, and what is not asked twice."""

import base64
import json
import multiprocessing
import os
import threading
import time

import pytest
import torch

from lidar_lightning.rewards import Combined, HTTPScorer, JPEGCompressibility, score
from lidar_lightning.utils.pictures import read_picture, to_png
from tests.rewards.networks import images
from tests.rewards.servers import Server, lengths

PROMPTS = ["a red cat", "two dogs", "a red cat"]


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def scorer(tmp_path):
    """A scorer whose cache is its test's own."""

    def make(url, **settings):
        defaults = {"cache": str(tmp_path / "scores"), "retries": 0, "backoff": 0.01}
        return HTTPScorer("other", url, **{**defaults, **settings})

    return make


def told(reward, samples, prompts=PROMPTS):
    """The message of the error that scoring ends in."""
    with pytest.raises(ValueError) as caught:
        score(reward, samples, prompts)
    assert repr(reward.name) in str(caught.value)
    return str(caught.value)


def test_scores_are_those_of_the_server_in_order(scorer):
    pixels = images(3)
    with Server(lambda body, number: lengths(body)) as server:
        scores = score(scorer(server.url, batch_size=2, concurrency=3), pixels, PROMPTS)
    assert scores.tolist() == [len(base64.b64encode(to_png(picture))) for picture in pixels]
    assert sorted(len(body["images"]) for body in server.seen) == [1, 2]
    for body in server.seen:
        for sent, prompt in zip(body["images"], body["prompts"], strict=True):
            (place,) = [i for i, picture in enumerate(pixels) if to_png(picture) == base64.b64decode(sent)]
            assert prompt == PROMPTS[place]
            assert (read_picture(base64.b64decode(sent)) - pixels[place]).abs().max() <= 0.5 / 255 + 1e-6


def test_molecules_are_sent_as_smiles(scorer):
    with Server(lambda body, number: [len(s) for s in body["smiles"]]) as server:
        reward = scorer(server.url, modality="molecule")
        assert score(reward, ["CC", "CCO", "CC"], ["molecule"] * 3).tolist() == [2, 3, 2]
    assert server.seen == [{"prompts": ["molecule"] * 2, "smiles": ["CC", "CCO"]}]


def test_nothing_is_asked_twice(scorer):
    pixels = images(3)
    with Server(lambda body, number: lengths(body)) as server:
        first = score(scorer(server.url), pixels, PROMPTS)
        asked = len(server.seen)
        assert score(scorer(server.url + "/elsewhere"), pixels.double(), PROMPTS).equal(first)
        assert len(server.seen) == asked
        score(scorer(server.url), pixels, ["other"] * 3)
        score(scorer(server.url, version="2"), pixels, PROMPTS)
        score(HTTPScorer("third", server.url, cache=str(scorer(server.url).cache.folder)), pixels, PROMPTS)
    assert sum(len(body["images"]) for body in server.seen) == 4 * 3


def test_a_damaged_score_is_asked_again(scorer, caplog):
    with Server(lambda body, number: lengths(body)) as server:
        reward = scorer(server.url)
        first = score(reward, images(1), ["a"])
        (file,) = reward.cache.folder.rglob("*.json")
        for content in ("", "{", "[]", '{"score": NaN}', '{"score": "1"}'):
            file.write_text(content)
            assert score(reward, images(1), ["a"]).equal(first)
    assert len(server.seen) == 6 and "cannot be read" in caplog.text


def test_a_busy_server_is_asked_again(scorer):
    with Server(lambda body, number: lengths(body) if number == 4 else (503, b"loading")) as server:
        assert score(scorer(server.url, retries=3), images(1), ["a"]).isfinite().all()
    assert len(server.seen) == 4


def test_a_server_that_hangs_up_is_asked_again(scorer):
    def answer(body, number):
        if number == 1:
            raise ConnectionAbortedError
        return lengths(body)

    with Server(answer) as server:
        assert score(scorer(server.url, retries=1), images(1), ["a"]).isfinite().all()


def test_a_slow_server(scorer):
    done = threading.Event()

    def answer(body, number):
        done.wait(0.4 if number == 1 else 0)
        return lengths(body)

    with Server(answer) as server:
        assert "gave no answer in one try (timeout 0.1 s)" in told(scorer(server.url, timeout=0.1), images(1), ["a"])
    with Server(answer) as server:
        assert score(scorer(server.url, timeout=0.1, retries=2), images(1), ["a"]).isfinite().all()
    done.set()


def test_requests_are_under_way_together(scorer):
    """Each waits until all have arrived: one after another they would time out."""
    together = threading.Barrier(4)

    def answer(body, number):
        together.wait(5)
        return lengths(body)

    with Server(answer) as server:
        assert len(score(scorer(server.url, batch_size=1, concurrency=4), images(4), ["a"] * 4)) == 4


def test_a_dead_server(scorer):
    with Server(lambda body, number: lengths(body)) as server:
        pass
    begin = time.monotonic()
    message = told(scorer(server.url, retries=2), images())
    assert time.monotonic() - begin < 5
    assert f"{server.url} gave no answer in 3 tries" in message and "refused" in message and "0 of 3" in message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>hello</html>", "something other than JSON: '<html>hello"),
        (b"", "something other than JSON: ''"),
        ({"scores": [1, 2, 3]}, "got a JSON dict: \"{'scores': [1, 2, 3]}\""),
        ([1.0, 2.0], "list of 3 numbers, got a list of 2: '[1.0, 2.0]'"),
        (b"[1, NaN, 2]", "finite numbers, got nan among '[1, nan, 2]'"),
        ([1, None, 2], "finite numbers, got None"),
        ([1, "2", 2], "finite numbers, got '2'"),
        ([1, True, 2], "finite numbers, got True"),
        ((404, b"no such page"), "answered 404 Not Found: 'no such page'"),
        ((500, b"out of memory"), "answered 500 Internal Server Error in one try: 'out of memory'"),
        ((302, b""), "answered 302 Found"),
        (b"x" * 5000, "and 4800 more characters"),
    ],
)
def test_what_was_received_is_named(scorer, answer, said):
    distinct = torch.rand(3, 3, 4, 4)
    with Server(lambda body, number: answer) as server:
        message = told(scorer(server.url), distinct)
    assert said in message and server.url in message and "0 of 3 samples are scored" in message


def test_what_is_scored_before_a_failure_stays(scorer):
    pixels = torch.rand(10, 3, 4, 4)
    with Server(lambda body, number: lengths(body) if number <= 3 else (500, b"died")) as server:
        reward = scorer(server.url, batch_size=2, concurrency=1)
        message = told(reward, pixels, ["a"] * 10)
    assert "6 of 10 samples are scored" in message and "goes on with the other 4" in message
    assert str(reward.cache.folder) in message and len(server.seen) == 4
    with Server(lambda body, number: lengths(body)) as server:
        assert score(scorer(server.url), pixels, ["a"] * 10).isfinite().all()
    assert sum(len(body["images"]) for body in server.seen) == 4


def test_a_killed_command_goes_on(scorer):
    """Killed while the server works on the fourth picture, it asks for the fourth to the last."""
    there, over = threading.Event(), threading.Event()

    def answer(body, number):
        if number == 4:
            there.set()
            over.wait(60)
        return lengths(body)

    pixels = torch.rand(8, 3, 4, 4)
    with Server(answer) as server:
        reward = scorer(server.url, batch_size=1, concurrency=1)
        process = multiprocessing.get_context("fork").Process(target=reward, args=(pixels, ["a"] * 8))
        process.start()
        assert there.wait(60)
        process.kill()
        process.join(60)
        over.set()
        assert score(reward, pixels, ["a"] * 8).isfinite().all()
    sent = [body["images"][0] for body in server.seen]
    assert len(sent) == 9 and len(set(sent)) == 8 and sent.count(sent[3]) == 2


def test_the_key_comes_from_the_environment_and_stays_there(scorer, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OTHER_KEY", "s3cr3t")
    with Server(lambda body, number: lengths(body) if number == 1 else (401, b"wrong key s3cr3t")) as server:
        reward = scorer(server.url, api_key_env="OTHER_KEY")
        score(reward, images(1), ["a"])
        message = told(reward, images(1), ["b"])
    assert server.headers[0]["Authorization"] == "Bearer s3cr3t"
    assert "401 Unauthorized: 'wrong key ***'" in message
    written = [file.read_text() for file in reward.cache.folder.rglob("*.json")]
    stored = json.dumps([reward.described(), reward.identity, repr(vars(reward)), repr(vars(reward.client)), written])
    assert "s3cr3t" not in stored + message + caplog.text
    monkeypatch.delenv("OTHER_KEY")
    with pytest.raises(ValueError, match="'other': the environment variable OTHER_KEY"):
        reward.check_prompts(["a"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "http:// or https://"),
        ({"url": "http://me:secret@host/"}, "holds a key"),
        ({"url": "http://host/?api_key=abc"}, "holds a key"),
        ({"timeout": 0}, "timeout=0"),
        ({"retries": -1}, "retries=-1"),
        ({"batch_size": 0}, "got 0 and 2"),
        ({"modality": "video"}, "'video'"),
    ],
)
def test_settings_are_checked(settings, said):
    with pytest.raises(ValueError, match="'other'") as caught:
        HTTPScorer("other", **{"url": "http://host", **settings})
    assert said in str(caught.value) and "secret@" not in str(caught.value) and "abc" not in str(caught.value)


def test_it_is_a_part_of_other_rewards(scorer):
    pixels = images(3)
    with Server(lambda body, number: lengths(body)) as server:
        both = Combined([scorer(server.url), JPEGCompressibility()])
        assert score(both, pixels, PROMPTS).isfinite().all()
    low = scorer(server.url, higher_is_better=False)
    assert not low.higher_is_better and low.described() != scorer(server.url).described()


def test_the_cache_is_in_the_home_of_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert HTTPScorer("other", "http://host").cache.folder == tmp_path / "lidar-lightning" / "scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = os.path.expanduser("~")
    assert str(HTTPScorer("other", "http://host").cache.folder) == f"{home}/.cache/lidar-lightning/scores"
