"""The vision judge against a real server that speaks OpenAI's chat completions, and its two readings of an answer."""

import base64
import json
import math

import pytest
import torch
from jsonargparse import ArgumentParser

from lidar_lightning.rewards import Reward, VisionJudge, score
from lidar_lightning.rewards.judge import log_yes, number_in
from lidar_lightning.utils.pictures import to_png
from tests.rewards.networks import images
from tests.rewards.servers import Server


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def chat(text=None, tops=None):
    """An answer of chat completions."""
    first = {"token": "x", "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": p} for t, p in tops or []]}
    logprobs = {"content": [first]} if tops else None
    return {"choices": [{"message": {"role": "assistant", "content": text}, "logprobs": logprobs}]}


@pytest.fixture
def judge(tmp_path):
    def make(url, **settings):
        return VisionJudge("tiny-vlm", url, **{"cache": str(tmp_path), "retries": 0, "backoff": 0.0, **settings})

    return make


def test_the_log_probability_of_yes():
    """Of 4 writings of two words: the sums of their probabilities, whatever the rest has."""
    tops = [("Yes", 0.4), (" yes", 0.1), ("no", 0.2), ("No.", 0.05), ("maybe", 0.25)]
    expected = math.log(0.5 / 0.75)
    assert log_yes([(t, math.log(p)) for t, p in tops]) == pytest.approx(expected)
    assert log_yes([("▁yes", 0.0), ("no", -9999.0)]) == pytest.approx(0, abs=1e-9)


def test_a_word_that_is_not_listed_has_little():
    assert log_yes([("Yes", math.log(0.9)), ("Maybe", math.log(0.02))]) == pytest.approx(math.log(0.9 / 0.92))
    assert log_yes([("No", math.log(0.9))]) == pytest.approx(math.log(0.1 / 1.0))
    assert -30 < log_yes([("No", 0.0)]) < -20
    better = [log_yes([("Yes", math.log(p)), ("No", math.log(1 - p))]) for p in (0.01, 0.3, 0.9)]
    assert better == sorted(better) and better[-1] < 0


@pytest.mark.parametrize("tops", [[("maybe", -0.1)], [("Yes", math.nan), ("No", -1.0)], []])
def test_no_word_is_an_error(tops):
    with pytest.raises(ValueError, match="maybe|nan|yes nor no"):
        log_yes(tops)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7), (" 8.5\n", 8.5), ("8/10", 8), ("8 out of 10", 8), ("Score: 9/10.", 9), ('{"score": 6}', 6),
        ("7 (7/10)", 7), ("**10**", 10), ("0", 0),
    ],
)  # fmt: skip
def test_the_number_in_an_answer(text, number):
    assert number_in(text, 0, 10) == number


@pytest.mark.parametrize("text", ["", "good", "NaN", "between 6 and 8", "11", "-1", "inf", "the 1st"])
def test_not_one_number_in_range(text):
    with pytest.raises(ValueError) as caught:
        number_in(text, 0, 10)
    assert repr(text) in str(caught.value)


def test_what_is_asked_and_scored(judge, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "abc")
    pixels, prompts = images(2), ['a "red" {cat}', "two dogs"]

    def answer(body, number):
        first = to_png(pixels[0]) in [base64.b64decode(url_of(body).partition(",")[2])]
        return chat("Yes", [("Yes", math.log(0.8 if first else 0.3)), ("No", math.log(0.2 if first else 0.7))])

    def url_of(body):
        return body["messages"][0]["content"][0]["image_url"]["url"]

    with Server(answer) as server:
        scores = score(judge(server.url + "/v1/", api_key_env="JUDGE_KEY", options={"seed": 3}), pixels, prompts)
    torch.testing.assert_close(scores, torch.tensor([0.8, 0.3]).log())
    assert {head["path"] for head in server.headers} == {"/v1/chat/completions"}
    assert {head["Authorization"] for head in server.headers} == {"Bearer abc"}
    texts = {body["messages"][0]["content"][1]["text"] for body in server.seen}
    assert texts == {f'Does this picture show "{prompt}"? Answer with yes or no only.' for prompt in prompts}
    for body in server.seen:
        assert url_of(body).startswith("data:image/png;base64,")
        rest = {key: value for key, value in body.items() if key != "messages"}
        assert rest == {
            "model": "tiny-vlm", "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20, "seed": 3
        }  # fmt: skip


def test_numbers(judge):
    question = "Rate {prompt} from {low} to {high}."
    settings = {"answer": "number", "high": 5, "question": question}
    options = {"max_tokens": None, "max_completion_tokens": 8}
    with Server(lambda body, number: chat("4/5")) as server:
        reward = judge(server.url, **settings, options=options)
        assert score(reward, images(1), ["a {high} cat"]).tolist() == [4]
    (body,) = server.seen
    assert body["messages"][0]["content"][1]["text"] == "Rate a {high} cat from 0 to 5."
    assert "max_tokens" not in body and "logprobs" not in body and body["max_completion_tokens"] == 8


@pytest.mark.parametrize(
    ("settings", "answer", "said"),
    [
        ({}, chat("Yes"), "no probabilities (choose answer='number')"),
        ({}, {"error": "overloaded"}, "overloaded"),
        ({}, [1], "[1]"),
        ({}, chat("x", [("x", -0.1)]), "neither yes nor no but \"['x']\""),
        ({}, chat("Yes", [("Yes", math.nan)]), "NaN"),
        ({"answer": "number"}, chat("nice"), "'nice'"),
        ({"answer": "number"}, chat(None), "no text"),
        ({"answer": "number"}, chat("12"), "from 0 to 10, got '12'"),
        ({}, (400, {"error": "logprobs unsupported"}), "400 Bad Request"),
    ],
)
def test_what_was_received_is_named(judge, settings, answer, said):
    with Server(lambda body, number: answer) as server, pytest.raises(ValueError) as caught:
        score(judge(server.url, **settings), images(2), ["a", "b"])
    assert said in str(caught.value) and server.url in str(caught.value) and "0 of 2 samples" in str(caught.value)


def test_the_identity_follows_what_scores_depend_on():
    changes = [
        {}, {"model": "b"}, {"answer": "number"}, {"question": "?"}, {"options": {"seed": 1}}, {"version": "2"},
        {"answer": "number", "high": 5},
    ]  # fmt: skip
    assert len({VisionJudge(**{"model": "a", **change}).identity for change in changes}) == len(changes)
    same = [{"url": "http://elsewhere/v1"}, {"api_key_env": "KEY"}, {"timeout": 1.0}, {"cache": "x"}]
    assert {VisionJudge("a", **change).identity for change in same} == {VisionJudge("a").identity}


def test_settings_are_checked():
    for settings, said in (({"answer": "maybe"}, "'maybe'"), ({"low": 5, "high": 5}, "low=5")):
        with pytest.raises(ValueError, match=said):
            VisionJudge("a", **settings)


def test_yaml_builds_a_judge():
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    arguments = {"model": "a", "answer": "number", "options": {"max_tokens": None}, "api_key_env": "OPENAI_API_KEY"}
    config = parser.parse_object(
        {"reward": {"class_path": "lidar_lightning.rewards.VisionJudge", "init_args": arguments}}
    )
    reward = parser.instantiate_classes(config).reward
    assert reward.options == {"max_tokens": None} and json.loads(json.dumps(reward.described()))
