"""With what one logs in to a registry, by the kind of a manifest's `login`: before any token of its own.

    basic                     user and password: a person's, a robot's, or an access token as the password
    sigv4                     ECR: GetAuthorizationToken, signed, gives user and password for twelve hours
    googleServiceAccount      Artifact Registry: a Google access token is the password of `oauth2accesstoken`
    oauth2ClientCredentials   ACR: a Microsoft Entra token, exchanged for the registry's own refresh token

What is granted on the way is kept in `Tokens` as every token is, and asked for anew when it was refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from connectors.auth.caller import Auth, Caller, Request
from connectors.auth.google import GoogleServiceAccount
from connectors.auth.oauth2 import ClientCredentials
from connectors.auth.sigv4 import SigV4
from connectors.auth.static import Anonymous, Basic
from connectors.auth.tokens import Token
from pipewright import errors
from pipewright.expressions import Template

GOOGLE_USER: Final = "oauth2accesstoken"
ECR_TARGET: Final = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
EXCHANGED: Final = timedelta(minutes=60)
"""How long a refresh token of ACR is kept: it lives for three hours."""
_LONGEST_LIFE: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What the registry, or its token server, is shown. Neither: nobody logs in."""

    basic: str = field(default="", repr=False)
    """User and password as they follow `Basic `."""
    refresh_token: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must not be repeated to anybody."""
    forget: Callable[[], None] | None = field(default=None, repr=False)
    """What it was made of was granted for a while: the next one is to be made anew."""


Way = Callable[[Any, "Template | None", Caller], Awaitable[Login]]


async def login(auth: Auth, url: Template | None, caller: Caller) -> Login:
    """Log in; `url` is where the kind is granted something, if it is.

    Raises:
        as `Auth.sign`.
    """
    return await WAYS[type(auth)](auth, url, caller)


async def _nobody(_auth: Anonymous, _url: Template | None, _caller: Caller) -> Login:
    return Login()


async def _basic(auth: Basic, _url: Template | None, caller: Caller) -> Login:
    signed = await auth.sign(_asking(caller.base_url), caller)
    return Login(basic=signed.headers["Authorization"].removeprefix("Basic "), secrets=signed.secrets)


async def _google(auth: GoogleServiceAccount, _url: Template | None, caller: Caller) -> Login:
    signed = await auth.sign(_asking(caller.base_url), caller)
    token = signed.headers["Authorization"].removeprefix("Bearer ")
    pair = base64.b64encode(f"{GOOGLE_USER}:{token}".encode()).decode()
    return Login(basic=pair, secrets=(*signed.secrets, pair), forget=signed.forget)


async def _ecr(auth: SigV4, url: Template | None, caller: Caller) -> Login:
    place = _place(url, caller)
    access, secret = caller.word(auth.access_key), caller.word(auth.secret_key)
    key = caller.tokens.key("ecr", place, access, secret)

    async def grant() -> Token:
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": ECR_TARGET}
        request = Request(method="POST", url=place, headers=headers, body=b"{}")
        signed = await auth.sign(request, caller)
        answer = await caller.exchange(place, headers={**headers, **signed.headers}, body=b"{}")
        return _ecr_token(answer, caller)

    token = await caller.tokens.get(key, grant)
    value = token.value.reveal()
    password = base64.b64decode(value).partition(b":")[2].decode("utf-8", "replace")
    return Login(
        basic=value,
        secrets=(value, password, secret),
        forget=lambda: caller.tokens.forget(key, token),
    )


def _ecr_token(answer: Mapping[str, Any], caller: Caller) -> Token:
    """User and password in the answer of GetAuthorizationToken, and their end.

    Raises:
        errors.Unreachable: they are not in it.
    """
    data = answer.get("authorizationData")
    found = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
    value = caller.granted(found.get("authorizationToken"))
    try:
        password = base64.b64decode(value.reveal(), validate=True).partition(b":")[2]
    except binascii.Error:
        password = b""
    if not password:
        raise errors.Unreachable(f"{caller.title} granted no user and password")
    now, told = caller.now(), found.get("expiresAt")
    ends = now + _LONGEST_LIFE
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 < told < 2**40:
        ends = min(ends, datetime.fromtimestamp(told, tz=UTC))
    return Token(value=value, expires=ends)


async def _acr(auth: ClientCredentials, url: Template | None, caller: Caller) -> Login:
    place = _place(url, caller)
    signed = await auth.sign(_asking(place), caller)
    entra = signed.headers["Authorization"].removeprefix("Bearer ")
    key = caller.tokens.key("acr", place, entra)

    async def grant() -> Token:
        form = {
            "grant_type": "access_token",
            "service": urlsplit(place).hostname or "",
            "access_token": entra,
        }
        answer = await caller.exchange(place, form=form)
        return Token(value=caller.granted(answer.get("refresh_token")), expires=caller.now() + EXCHANGED)

    token = await caller.tokens.get(key, grant)
    value = token.value.reveal()

    def forget() -> None:
        caller.tokens.forget(key, token)
        if signed.forget is not None:
            signed.forget()

    return Login(refresh_token=value, secrets=(*signed.secrets, value), forget=forget)


def _place(url: Template | None, caller: Caller) -> str:
    assert url is not None, "the schema wants loginUrl of this kind"
    return caller.text(url)


def _asking(url: str) -> Request:
    return Request(method="GET", url=url, headers={})


WAYS: Final[Mapping[type, Way]] = {
    Anonymous: _nobody,
    Basic: _basic,
    SigV4: _ecr,
    GoogleServiceAccount: _google,
    ClientCredentials: _acr,
}
"""How one logs in with each kind of authentication."""
