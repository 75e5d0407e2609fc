"""Asking a server on loopback over HTTP, for readiness and set-up; no proxy is ever asked.

Standard library only; a refused or broken connection is an answer here (`None`), not an exception.
"""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dev.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status code and body of one HTTP answer."""

    code: int
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON; None when it is empty."""
        return json.loads(self.body) if self.body else None


def ask(
    url: str,
    *,
    method: str = "GET",
    document: object = None,
    headers: dict[str, str] | None = None,
    authority: Path | None = None,
    timeout: float = 5.0,
) -> Answer | None:
    """The answer of the server, whatever its code; None when nobody answers.

    `authority` is the file of the CA that signed an https server's certificate.
    """
    body = None if document is None else json.dumps(document).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=body, method=method, headers=sent)  # noqa: S310 - our own URLs
    trust = ssl.create_default_context(cafile=authority) if authority else _public()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Answer(code=answer.status, body=answer.read())
    except urllib.error.HTTPError as refused:
        return Answer(code=refused.code, body=refused.read())
    except OSError:
        return None


@cache
def _public() -> ssl.SSLContext:
    # reading the machine's whole bundle takes longer than most answers
    return ssl.create_default_context()


def demand(url: str, **how: Any) -> Any:
    """The JSON document of a 2xx answer.

    Raises Problem with the server's words for any other answer.
    """
    answer = ask(url, **how)
    if answer is None:
        raise Problem(f"{url} does not answer. `make status` shows which server is down.")
    if not 200 <= answer.code < 300:
        said = answer.body.decode(errors="replace").strip()[:500]
        raise Problem(f"{how.get('method', 'GET')} {url} was answered with {answer.code}: {said}")
    return answer.document
