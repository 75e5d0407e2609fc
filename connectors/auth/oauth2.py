"""`oauth2ClientCredentials` (RFC 6749 §4.4): an id and a secret for a token. Microsoft Entra, Bitbucket."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import quote_plus

from connectors.auth.caller import Caller, Options, Request, Signed, Text
from connectors.auth.tokens import Token
from pipewright import errors
from pipewright.expressions import Template

UNTOLD: Final = timedelta(minutes=5)
"""The life of a token whose answer does not tell it."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """The token is asked of `tokenUrl`, and shown as a bearer."""

    token_url: Template
    client_id: str
    client_secret: str
    scope: Template | None
    in_body: bool
    """Id and secret go into the body instead of the header Authorization."""

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(
            token_url=text(options["tokenUrl"]),
            client_id=options["clientIdField"],
            client_secret=options["clientSecretField"],
            scope=text(options["scope"]) if "scope" in options else None,
            in_body=options.get("clientAuthentication", "header") == "body",
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The client's id and secret."""
        return (self.client_id, self.client_secret)

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, caller: Caller) -> Signed:
        """The token in the header Authorization.

        Raises:
            as `Auth.sign`.
        """
        url, scope = caller.text(self.token_url), caller.text(self.scope) if self.scope else ""
        client, secret = caller.secret(self.client_id), caller.secret(self.client_secret)

        async def grant() -> Token:
            form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
            if self.in_body:
                body = form | {"client_id": client, "client_secret": secret}
                return token_of(caller, await caller.exchange(url, form=body))
            # id and secret are form-encoded before they are joined (RFC 6749 §2.3.1)
            pair = base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()
            headers = {"Authorization": f"Basic {pair}"}
            return token_of(caller, await caller.exchange(url, headers=headers, form=form))

        signed = await caller.bearer(caller.tokens.key("oauth2", url, scope, client, secret), grant)
        return Signed(headers=signed.headers, secrets=(*signed.secrets, secret), forget=signed.forget)


def token_of(caller: Caller, answer: Any) -> Token:
    """The token in an answer of RFC 6749 §5.1.

    Raises:
        errors.Unreachable: there is none, or it is of a type that is not known here.
    """
    if str(answer.get("token_type", "bearer")).lower() != "bearer":
        raise errors.Unreachable(f"{caller.title} grants tokens that are not of the type bearer")
    told = answer.get("expires_in")
    life = timedelta(seconds=int(told)) if _SECONDS.fullmatch(str(told)) else UNTOLD
    return Token(value=caller.granted(answer.get("access_token")), expires=caller.now() + life)
