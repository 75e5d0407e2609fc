"""Many questions to one server over a connection that stays open; `dev.web` asks one."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dev.problem import Problem


@dataclass(slots=True)
class Http:
    """JSON over one connection that is opened again when it has ended."""

    address: str
    headers: dict[str, str]
    trust: ssl.SSLContext | None = None
    _open: http.client.HTTPConnection | None = None

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = "json",
        accept: str = "application/json",
    ) -> tuple[int, Any]:
        """Status code and document. Raises Problem when nobody answers."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": f"application/{kind}", "Accept": accept}
        code, content = self._call(method, path, data, headers)
        return code, json.loads(content) if content else None

    def text(self, path: str) -> str:
        """A text; the connection is not kept. Raises Problem when nobody answers."""
        try:
            return self._call("GET", path, None, {})[1].decode()
        finally:
            self.close()

    def _call(self, method: str, path: str, data: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        for last in (False, True):
            try:
                connection = self._connection()
                connection.request(method, path, body=data, headers={**self.headers, **headers})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as broken:
                self.close()
                if last:
                    raise Problem(f"{self.address} does not answer: {type(broken).__name__}") from None
        raise AssertionError

    def close(self) -> None:
        """Forget the connection."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _connection(self) -> http.client.HTTPConnection:
        if self._open is None:
            place = urlsplit(self.address).netloc
            if self.trust is None:
                self._open = http.client.HTTPConnection(place, timeout=15)
            else:
                self._open = http.client.HTTPSConnection(place, timeout=15, context=self.trust)
        return self._open
