"""`bearer`, `header`, `basic`: a secret that goes over the wire as it is, which TLS protects; and `none`."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final, Self

from connectors.auth.caller import Caller, Options, Request, Signed, Text, refused
from pipewright.expressions import Template

_USER: Final = re.compile(r"[^\x00-\x1f\x7f:]{0,255}")
_PASSWORD: Final = re.compile(r"[^\x00-\x1f\x7f]{1,4096}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """`header`: the token in a header of the provider's own, after a fixed text. CircleCI, GitLab, Buildkite.

    `bearer` (RFC 6750) is this in the header Authorization after `Bearer `.
    """

    field: str
    header: str = "Authorization"
    prefix: str = "Bearer "

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls(field=options["field"], header=options["header"], prefix=options.get("prefix", ""))

    @classmethod
    def bearer(cls, options: Options, _text: Text) -> Self:
        """From a manifest, for the kind `bearer`."""
        return cls(field=options["field"])

    @property
    def fields(self) -> tuple[str, ...]:
        """The token."""
        return (self.field,)

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, caller: Caller) -> Signed:
        """The header.

        Raises:
            errors.Stalled: there is no token.
        """
        token = caller.word(self.field)
        return Signed(headers={self.header: f"{self.prefix}{token}"}, secrets=(token,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """`basic` (RFC 7617): user name and password. Jenkins, Bitbucket; Azure DevOps without a user name."""

    password: str
    username: Template | None = None
    """Over config; a constant is a template without holes."""
    username_field: str | None = None

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest, which has one of `username` and `usernameField`."""
        return cls(
            password=options["passwordField"],
            username=text(options["username"]) if "username" in options else None,
            username_field=options.get("usernameField"),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The password, and the user name where it is a credential."""
        return (*((self.username_field,) if self.username_field else ()), self.password)

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, caller: Caller) -> Signed:
        """The header Authorization.

        Raises:
            errors.Stalled: there is no password, or the user name has a colon.
        """
        if self.username_field is not None:
            user = caller.secret(self.username_field)
        else:
            user = caller.text(self.username) if self.username is not None else ""
        password = caller.secret(self.password)
        if not _USER.fullmatch(user):
            raise refused("the user name must have no colon and no control characters")
        if not _PASSWORD.fullmatch(password):
            raise refused(f"the Secret's field {self.password} has control characters, or is too long")
        pair = base64.b64encode(f"{user}:{password}".encode(errors="replace")).decode()
        return Signed(headers={"Authorization": f"Basic {pair}"}, secrets=(password, pair))


@dataclass(frozen=True, slots=True)
class Anonymous:
    """`none`: nobody is asked who they are. Prow's Deck."""

    @classmethod
    def parse(cls, _options: Options, _text: Text) -> Self:
        """From a manifest."""
        return cls()

    @property
    def fields(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    @property
    def optional(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def sign(self, _request: Request, _caller: Caller) -> Signed:
        """No header."""
        return Signed(headers={}, secrets=())
