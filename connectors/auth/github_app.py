"""`githubApp`: an app's key for a token of one of its installations, which lives an hour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from connectors.auth import jwt
from connectors.auth.caller import Caller, Options, Request, Signed, Text, refused
from connectors.auth.tokens import Token
from pipewright import errors, records
from pipewright.records import RecordError

BEHIND: Final = timedelta(seconds=60)
"""How far GitHub's clock may be behind ours."""
LIFE: Final = timedelta(minutes=9)
"""Of the app's own token: GitHub takes ten minutes at most."""
_APP: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTALLATION: Final = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubApp:
    """The app's id (or client id), the installation's id and the app's private key are credentials."""

    app: str
    installation: str
    key: str

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(
            app=options["appIdField"],
            installation=options["installationIdField"],
            key=options["privateKeyField"],
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """All three."""
        return (self.app, self.installation, self.key)

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, caller: Caller) -> Signed:
        """The token in the header Authorization.

        Raises:
            as `Auth.sign`.
        """
        app, installation = caller.secret(self.app), caller.secret(self.installation)
        pem = caller.secret(self.key)
        if not _APP.fullmatch(app):
            raise refused(f"the Secret's field {self.app} is no app's id")
        if not _INSTALLATION.fullmatch(installation):
            raise refused(f"the Secret's field {self.installation} is no installation's id: it is a number")
        url = f"{caller.base_url}/app/installations/{installation}/access_tokens"

        async def grant() -> Token:
            now = caller.now()
            claims = {
                "iss": app,
                "iat": int((now - BEHIND).timestamp()),
                "exp": int((now + LIFE).timestamp()),
            }
            assertion = jwt.signed(claims, pem=pem, field=self.key)
            answer = await caller.exchange(url, headers={"Authorization": f"Bearer {assertion}"})
            value = caller.granted(answer.get("token"))
            try:
                expires = records.parse_time("expires_at", answer.get("expires_at"))
            except RecordError:
                raise errors.Unreachable(f"{caller.title} granted a token without its end") from None
            return Token(value=value, expires=expires)

        return await caller.bearer(caller.tokens.key("githubApp", url, app, pem), grant)
