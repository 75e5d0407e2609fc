"""`distribution`: an OCI registry's own token, as the Distribution specification has it granted.

    GET /v2/ ──401, WWW-Authenticate──► realm, service ──login, scope──► token ──► Authorization: Bearer …

Which token is asked for follows from the request: a repository and what is done there. A registry that asks
for Basic is shown the login itself, one that asks for nothing too, if there is a login. Where the login goes
is not the registry's to say alone: the realm has to lie at the registry, or where the manifest says, since
whoever answers in a registry's place could have the credentials sent anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from connectors.auth import challenge, logins
from connectors.auth.caller import MAX_GRANT, Auth, Caller, Options, Request, Signed, Text
from connectors.auth.challenge import Challenge
from connectors.auth.google import GoogleServiceAccount
from connectors.auth.logins import Login
from connectors.auth.oauth2 import ClientCredentials
from connectors.auth.sigv4 import SigV4
from connectors.auth.static import Anonymous, Basic
from connectors.auth.tokens import Token
from connectors.outbound import NotAnswered
from pipewright import errors
from pipewright.expressions import Template
from pipewright.ports import Secret

CLIENT: Final = "pipewright"
"""How we call ourselves where a token server wants a name."""
UNTOLD: Final = timedelta(seconds=60)
"""The life of a token whose answer does not tell it, by the specification."""
ASKED: Final = timedelta(minutes=5)
"""How long a registry is believed that it wants no token."""
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOGINS: Final[Mapping[str, Any]] = {
    "basic": Basic.parse,
    "sigv4": SigV4.parse,
    "googleServiceAccount": GoogleServiceAccount.parse,
    "oauth2ClientCredentials": ClientCredentials.parse,
    "none": Anonymous.parse,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The token of an OCI registry."""

    login: Auth
    login_url: Template | None
    realms: tuple[Template, ...]
    """Origins beside the registry's own whose token server may be shown the login."""
    delete: str
    """The actions of a token for a deletion."""

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        given = options["login"]
        return cls(
            login=_LOGINS[given["kind"]](given, text),
            login_url=text(options["loginUrl"]) if "loginUrl" in options else None,
            realms=tuple(text(each) for each in options.get("realms", ())),
            delete=options.get("deleteActions", "delete"),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """What the login needs."""
        return self.login.fields

    @property
    def optional(self) -> tuple[str, ...]:
        """What the login uses if it is there."""
        return self.login.optional

    async def sign(self, request: Request, caller: Caller) -> Signed:
        """The token in the header Authorization, or user and password, or nothing.

        Raises:
            as `Auth.sign`, and errors.Stalled if the registry asks for something else.
        """
        scope = challenge.scope_of(request.method, request.url, base_url=caller.base_url, delete=self.delete)
        login = await logins.login(self.login, self.login_url, caller)
        try:
            key, token = await self._token(login, scope, caller)
        except errors.Stalled as refused:
            if login.forget is None or refused.reason != "CredentialsRefused":
                raise
            login.forget()  # what was granted for a while may have been taken back
            login = await logins.login(self.login, self.login_url, caller)
            key, token = await self._token(login, scope, caller)
        value = token.value.reveal()

        def forget() -> None:
            caller.tokens.forget(key, token)
            if login.forget is not None:
                login.forget()

        secrets = (*login.secrets, value.partition(" ")[2]) if value else login.secrets
        return Signed(headers={"Authorization": value} if value else {}, secrets=secrets, forget=forget)

    async def _token(self, login: Login, scope: str, caller: Caller) -> tuple[bytes, Token]:
        """The token for this scope, and what it is kept under."""
        key = caller.tokens.key("distribution", caller.base_url, scope, login.basic, login.refresh_token)

        async def grant() -> Token:
            return await self._granted(login, scope, caller)

        return key, await caller.tokens.get(key, grant)

    async def _granted(self, login: Login, scope: str, caller: Caller) -> Token:
        """The header's value for this scope: empty where the registry wants none."""
        asked = await _challenges(caller)
        bearer = next((each for each in asked if each.scheme == "bearer"), None)
        if bearer is not None:
            return await self._bearer(bearer, login, scope, caller)
        if asked and all(each.scheme != "basic" for each in asked):
            known = " and ".join(sorted({each.scheme for each in asked}))
            raise errors.Stalled("ProviderRefused", f"the registry asks for {known}, which is not known here")
        if asked and not login.basic:
            raise errors.Stalled("CredentialsRefused", "the registry wants a user and a password")
        shown = f"Basic {login.basic}" if login.basic else ""
        return Token(value=Secret(shown), expires=caller.now() + ASKED)

    async def _bearer(self, asked: Challenge, login: Login, scope: str, caller: Caller) -> Token:
        realm = self._realm(asked.parameters.get("realm", ""), caller)
        service = asked.parameters.get("service", "")
        told = {"service": service} if service else {}
        about = told | ({"scope": scope} if scope else {})
        if login.refresh_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT, **about}
            answer = await caller.exchange(realm, form=form | {"refresh_token": login.refresh_token})
        else:
            headers = {"Authorization": f"Basic {login.basic}"} if login.basic else {}
            separator = "&" if urlsplit(realm).query else "?"
            url = f"{realm}{separator}{urlencode(about)}" if about else realm
            answer = await caller.exchange(url, method="GET", headers=headers)
        value = caller.granted(answer.get("token") or answer.get("access_token")).reveal()
        seconds, life = answer.get("expires_in"), UNTOLD
        if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds < 10**7:
            life = timedelta(seconds=seconds)
        return Token(value=Secret(f"Bearer {value}"), expires=caller.now() + life)

    def _realm(self, realm: str, caller: Caller) -> str:
        """The token server's address.

        Raises:
            errors.Stalled: it lies elsewhere.
        """
        allowed = {_origin(caller.base_url), *(_origin(caller.text(each)) for each in self.realms)}
        if _origin(realm) is None or _origin(realm) not in allowed:
            raise errors.Stalled(
                "ProviderRefused",
                f"the registry has tokens granted at {_host(realm)}, and the credentials are not"
                " sent there: it must be the registry's own address, or the one that the config names",
            )
        return realm


async def _challenges(caller: Caller) -> tuple[Challenge, ...]:
    """What the registry asks for: nothing if it lets anybody in.

    Raises:
        errors.Unreachable, errors.Waiting, errors.Stalled: it gives no answer of that kind.
    """
    try:
        answer = await caller.client.request(
            "GET",
            f"{caller.base_url}/v2/",
            headers={"Accept": "application/json", "User-Agent": "pipewright", "Accept-Encoding": "identity"},
            timeout=caller.timeout,
            max_bytes=MAX_GRANT,
        )
    except NotAnswered as lost:
        raise errors.Unreachable(lost.message) from None
    if answer.status == 401:
        found = challenge.challenges(answer.headers.get("www-authenticate", ""))
        if not found:
            raise errors.Stalled("ProviderRefused", "the registry wants a login and does not say which")
        return found
    caller.check_busy(answer)
    if answer.status >= 500:
        raise errors.Unreachable(f"{caller.title} answered {answer.status} at /v2/")
    if not 200 <= answer.status < 300:
        raise errors.Stalled(
            "ProviderRefused",
            f"{caller.title} answered {answer.status} at {caller.base_url}/v2/: no OCI registry is there",
        )
    return ()


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None where it is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or parts.fragment:
        return None
    return parts.scheme, parts.hostname.lower(), port or _DEFAULT_PORTS[parts.scheme]


def _host(url: str) -> str:
    """The host for a message, as far as it is one."""
    try:
        found = urlsplit(url).hostname or ""
    except ValueError:
        found = ""
    return found[:100] if found.isascii() and found.isprintable() and found else "no address"
