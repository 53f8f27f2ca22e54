"""A vision-language model as the judge of pictures, behind any server that speaks OpenAI's chat completions."""

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from lidar_lightning.rewards.http import HTTPReward, Item
from lidar_lightning.utils.json_client import ServerError, shown
from lidar_lightning.utils.pictures import to_png

YES_NO = 'Does this picture show "{prompt}"? Answer with yes or no only.'
NUMBER = (
    'How well does this picture show "{prompt}"? Answer with one number from {low} for not at all to {high} for '
    "perfectly, and nothing else."
)
OUT_OF = r"\s*(?:/|out of)\s*\d+(?:\.\d+)?"


class VisionJudge(HTTPReward):
    """Asks a vision model about each picture: OpenAI, vLLM, SGLang, llama.cpp, Ollama or whatever speaks alike.

    With answer "yes_no" the score is log P(yes) - log(P(yes) + P(no)) <= 0, from the probabilities of the first token:
    at temperature 1 guidance aims at the model's pictures given that the judge says yes. With "number" it is the number
    in the answer, from `low` to `high`, for servers that do not tell probabilities.
    Source of the former: Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation" (VQAScore),
    ECCV 2024, arXiv:2404.01291.

    Args:
        model: name of the model, as the server knows it; part of the version, as are answer, question and options.
        url: of the API, to which "/chat/completions" is added; a server of one's own is "http://127.0.0.1:8000/v1".
        answer: "yes_no" or "number".
        question: with {prompt}, and for numbers {low} and {high}, where these belong; None asks how well the picture
            shows the prompt.
        low, high: numbers below or above are errors.
        options: what else a request holds, such as {"seed": 0}; it replaces what we send, and null leaves it out.
        name: of the scores.
        version: change it whenever the server's model changes under its name.
        api_key_env: the environment variable that holds the key, such as "OPENAI_API_KEY"; None sends none.
        concurrency, timeout, retries, backoff, cache: see `HTTPReward`.

    Raises:
        ValueError: as `HTTPReward`, or for another answer, or low >= high.
    """

    modality = "image"

    def __init__(
        self,
        model: str,
        url: str = "https://api.openai.com/v1",
        answer: Literal["yes_no", "number"] = "yes_no",
        question: str | None = None,
        low: float = 0.0,
        high: float = 10.0,
        options: dict[str, Any] | None = None,
        name: str = "judge",
        version: str = "1",
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 2.0,
        cache: str | None = None,
    ):
        if answer not in ("yes_no", "number"):
            raise ValueError(f"reward {name!r} takes the answer 'yes_no' or 'number', got {answer!r}")
        if not low < high:
            raise ValueError(f"reward {name!r} needs low < high, got low={low}, high={high}")
        self.model, self.answer, self.low, self.high = model, answer, low, high
        self.question = question or (YES_NO if answer == "yes_no" else NUMBER)
        self.options = options or {}
        settings = {
            "model": model, "answer": answer, "question": self.question, "version": version,
            "options": json.dumps(self.options, sort_keys=True), "range": [low, high] if answer == "number" else None,
        }  # fmt: skip
        how = (api_key_env, 1, concurrency, timeout, retries, backoff, cache)
        super().__init__(name, url.rstrip("/") + "/chat/completions", settings, *how)

    def body(self, picture: Any, prompt: str) -> dict[str, Any]:
        """The request about one picture."""
        text = self.question.replace("{low}", f"{self.low:g}").replace("{high}", f"{self.high:g}")
        url = f"data:image/png;base64,{base64.b64encode(to_png(picture)).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": text.replace("{prompt}", prompt)},
        ]
        wanted = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20} if self.answer == "yes_no" else {}
        sent = {"model": self.model, "temperature": 0, "max_tokens": 16, **wanted, **self.options}
        return {"messages": [{"role": "user", "content": content}]} | {k: v for k, v in sent.items() if v is not None}

    def ask(self, items: Sequence[Item]) -> list[float]:
        ((picture, prompt),) = items
        answer = self.client.post(self.body(picture, prompt))
        try:
            choice = answer["choices"][0]
            if self.answer == "number":
                return [number_in(choice["message"]["content"], self.low, self.high)]
            first = choice["logprobs"]["content"][0]["top_logprobs"]
            return [log_yes([(top["token"], float(top["logprob"])) for top in first])]
        except (KeyError, IndexError, TypeError) as error:
            missing = "no probabilities (choose answer='number')" if self.answer == "yes_no" else "no text"
            raise ServerError(f"{self.client.url} answered with {missing}: {shown(answer)}") from error
        except ValueError as error:
            raise ServerError(f"{self.client.url}: {error}") from error


def log_yes(tops: Sequence[tuple[str, float]]) -> float:
    """log P(yes) - log(P(yes) + P(no)) from the likeliest first tokens with their log-probabilities.

    Writings of a word, such as "Yes" and " yes", are added up. A word that is not listed gets the most that it may
    have: the least probability that is listed, or what these leave over.

    Raises:
        ValueError: naming the tokens, if neither word is among them, or a number is NaN.
    """
    if any(math.isnan(value) for _, value in tops):
        raise ValueError(f"the judge gave log-probabilities that are NaN: {shown(list(tops))}")
    mass = {word: sum(math.exp(v) for token, v in tops if _word(token) == word) for word in ("yes", "no")}
    if not any(mass.values()):
        raise ValueError(f"the judge began with neither yes nor no but {shown([token for token, _ in tops])}")
    listed = [math.exp(value) for _, value in tops]
    most = max(min(*listed, 1 - sum(listed), 1.0), 1e-12)
    yes, no = (mass[word] or most for word in ("yes", "no"))
    return math.log(yes) - math.log(yes + no)


def number_in(text: str, low: float, high: float) -> float:
    """The one number in an answer; "8/10" and "8 out of 10" are 8.

    Raises:
        ValueError: naming the answer, unless it holds one number, from low to high.
    """
    found = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])", re.sub(rf"(\d){OUT_OF}", r"\1", text))
    if len(set(found)) != 1:
        raise ValueError(f"the judge was to answer one number, got {shown(text)}: ask for it alone in the question")
    if not low <= float(found[0]) <= high:
        raise ValueError(f"the judge was to answer a number from {low:g} to {high:g}, got {shown(text)}")
    return float(found[0])


def _word(token: str) -> str:
    return re.sub(r"[^a-z]", "", token.lower())
