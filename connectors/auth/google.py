"""`googleServiceAccount`: a service account's key for a token, by the JWT bearer grant (RFC 7523 §2.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from connectors.auth import jwt
from connectors.auth.caller import Caller, Options, Request, Signed, Text, refused
from connectors.auth.oauth2 import token_of
from connectors.auth.tokens import Token
from pipewright.expressions import Template

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE: Final = timedelta(hours=1)
"""The longest that Google accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleServiceAccount:
    """The key is Google Cloud's JSON file; where it is sent is the manifest's to say, not the file's."""

    key: str
    scope: Template
    token_url: Template

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(
            key=options["keyField"],
            scope=text(options["scope"]),
            token_url=text(options.get("tokenUrl", "https://oauth2.googleapis.com/token")),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The key."""
        return (self.key,)

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, caller: Caller) -> Signed:
        """The token in the header Authorization.

        Raises:
            as `Auth.sign`.
        """
        url, scope = caller.text(self.token_url), caller.text(self.scope)
        source = caller.secret(self.key)
        account = self._account(source)

        async def grant() -> Token:
            now = int(caller.now().timestamp())
            claims = {
                "iss": account["client_email"],
                "scope": scope,
                "aud": url,
                "iat": now,
                "exp": now + int(LIFE.total_seconds()),
            }
            assertion = jwt.signed(
                claims, pem=account["private_key"], field=self.key, kid=account.get("private_key_id")
            )
            form = {"grant_type": GRANT, "assertion": assertion}
            return token_of(caller, await caller.exchange(url, form=form))

        return await caller.bearer(caller.tokens.key("google", url, scope, source), grant)

    def _account(self, source: str) -> Mapping[str, Any]:
        try:
            found = json.loads(source)
        except (ValueError, RecursionError):
            found = None
        needed = ("type", "client_email", "private_key")
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in needed):
            found = {}
        if found.get("type") != "service_account":
            raise refused(f"the Secret's field {self.key} is not the JSON key of a Google service account")
        kid = found.get("private_key_id")
        return found if kid is None or isinstance(kid, str) else {**found, "private_key_id": None}
