"""The ways in which vendors cut lists into pages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from yarl import URL

from dev.systems.engine import Asked, Simulator


def linked(
    sim: Simulator, asked: Asked, items: Sequence[Any], *, wrap: Callable[[Sequence[Any]], Any] = list
) -> web.Response:
    """The header Link has the next page's address (RFC 8288); `wrap` makes the body of the items."""
    size = min(int(asked.query.get("per_page", "20")), sim.most)
    number = int(asked.query.get("page", "1"))
    headers = {}
    if number * size < len(items):
        following = URL(asked.url).update_query(page=str(number + 1))
        headers["Link"] = f'<{following}>; rel="next", <{asked.url}>; rel="self"'
    return web.json_response(wrap(items[(number - 1) * size : number * size]), headers=headers)


def numbered(asked: Asked, items: Sequence[Any], *, size: str, default: int) -> list[Any]:
    """The client says how many, and which page."""
    count, number = int(asked.query.get(size, default)), int(asked.query.get("page", "1"))
    return list(items[(number - 1) * count : number * count])


def after_token(sim: Simulator, items: Sequence[Any], token: str) -> tuple[list[Any], str | None]:
    """A page from the token on, and the token of the next: a text that means nothing to the client."""
    begin = int(base64.urlsafe_b64decode(token)) if token else 0
    end = begin + sim.most
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
    return list(items[begin:end]), following
