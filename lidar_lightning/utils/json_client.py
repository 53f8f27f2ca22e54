"""JSON over HTTP: asked again while a server is busy or away, and every failure says what was received."""

import os
import re
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which a server is asked again."""
SHOWN = 200
"""Characters of an answer in a message."""


class ServerError(ValueError):
    """A server that did not answer, or not as it should; the message names the address and what was received."""


class JSONClient:
    """Posts JSON to one address and reads JSON; may be used by several threads at once.

    Redirects are not followed, and keys come from the environment only: neither `.netrc` nor the address gives any.

    Args:
        url: where to post, of http or https.
        api_key_env: environment variable that holds the key, sent as "Authorization: Bearer"; None sends none.
        timeout: seconds that a server may take to connect, and to say anything.
        retries: how often one request is asked again after no answer, or one of `BUSY`.
        backoff: seconds of the second wait (the first retry waits for nothing); it doubles up to two minutes, and
            "Retry-After" of the server is respected.
        connections: that are kept open.

    Raises:
        ValueError: if the address is none, holds a key, or a number is out of range.
    """

    def __init__(
        self, url: str, api_key_env: str | None, timeout: float, retries: int, backoff: float, connections: int
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the address of a server begins with http:// or https://, got url={url!r}")
        named = any(re.search("key|token|secret", word, re.I) for word in parse_qs(parts.query))
        if parts.username or parts.password or named:
            raise ValueError(
                f"the address of the server at {parts.hostname} holds a key, which would be stored with the settings: "
                "put it into an environment variable and name that as api_key_env"
            )
        if not timeout > 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "a server needs timeout > 0 and retries and backoff of at least 0, "
                f"got timeout={timeout}, retries={retries}, backoff={backoff}"
            )
        self.url, self.api_key_env, self.timeout, self.retries = url, api_key_env, timeout, retries
        self.backoff, self.connections = backoff, connections

    @property
    def key(self) -> str:
        """The key; empty if none is sent.

        Raises:
            ValueError: naming the variable, if it is not set.
        """
        if not self.api_key_env:
            return ""
        if not (key := os.environ.get(self.api_key_env, "").strip()):
            raise ValueError(
                f"the environment variable {self.api_key_env}, which holds the key of {self.url}, is not set"
            )
        return key

    @property
    def _tries(self) -> str:
        return f"{self.retries + 1} tries" if self.retries else "one try"

    @cached_property
    def session(self) -> requests.Session:
        again = Retry(
            self.retries, backoff_factor=self.backoff / 2, status_forcelist=BUSY, allowed_methods=None, redirect=0,
            raise_on_status=False,
        )  # fmt: skip
        made = requests.Session()
        for scheme in ("http://", "https://"):
            made.mount(scheme, HTTPAdapter(pool_maxsize=self.connections, max_retries=again))
        return made

    def post(self, body: Any) -> Any:
        """What the server answers to a JSON body, parsed.

        Raises:
            ServerError: if it does not answer, with another status than 200, or with something other than JSON.
            ValueError: if the key is not set.
        """
        key = self.key

        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        try:
            answer = self.session.post(self.url, json=body, auth=authorise, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            cause = getattr(error.args[0] if error.args else error, "reason", None) or error
            raise ServerError(
                f"{self.url} gave no answer in {self._tries} (timeout {self.timeout:g} s): "
                f"{type(cause).__name__}: {str(cause).rpartition(': ')[2][:SHOWN]}"
            ) from error
        text = answer.text.replace(key, "***") if key else answer.text
        if answer.status_code != 200:
            tries = f" in {self._tries}" if answer.status_code in BUSY else ""
            raise ServerError(f"{self.url} answered {answer.status_code} {answer.reason}{tries}: {shown(text)}")
        try:
            return answer.json()
        except requests.JSONDecodeError as error:
            raise ServerError(f"{self.url} answered something other than JSON: {shown(text)}") from error


def shown(answer: Any) -> str:
    """The beginning of an answer, for a message."""
    text = answer if isinstance(answer, str) else repr(answer)
    return f"{text[:SHOWN]!r}{f' and {len(text) - SHOWN} more characters' if len(text) > SHOWN else ''}"
