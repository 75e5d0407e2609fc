"""Calls to addresses that a user wrote: the one HTTP client of connectors, and the rule against SSRF.

Only https; a host's name is resolved once, every address that comes back must be public, and the connection
goes to exactly those addresses (the name stays in SNI, certificate check and Host), so a name that answers
otherwise a moment later gains nothing. No redirect is followed, no proxy of the environment used, time and
size are capped. `allow` lists the host:port that the platform team exempts: those may be private and plain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pipewright import errors

_CONNECT_SECONDS: Final = 5.0
_MAX_URL: Final = 4096
_PLAIN_URL: Final = re.compile(
    r"https?://([A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?(/[!-~]*)?"
)

# Beyond what `ipaddress` calls not global: public by number, yet answered inside of a cloud or a tunnel.
_REFUSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host agent
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata lies in it
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo and other protocol assignments
        "2002::/16",  # 6to4: wraps any IPv4 address
        "64:ff9b:1::/48",  # local-use NAT64
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class NotAnswered(errors.Unreachable):
    """The request may have reached the server, but no answer came: whether it had an effect is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered; header names are lower-case, and one that came twice has both values."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    """False when the body was longer than the cap, and was cut there."""


Resolve = Callable[[str, int], Awaitable[Iterable[str]]]
"""Host and port to the numeric addresses."""


class Outbound:
    """An HTTP client for connectors. One per process; keeps connections to servers that it checked."""

    def __init__(self, *, allow: Iterable[str] = (), resolve: Resolve | None = None) -> None:
        """`allow` has host:port entries; `resolve` replaces the system's resolver in tests."""
        self._allow = frozenset(entry.strip().lower() for entry in allow)
        self._resolver = _CheckedResolver(allow=self._allow, resolve=resolve or _resolve)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        max_bytes: int,
    ) -> Answer:
        """Send one request and read the answer, whatever its status; `timeout` in seconds covers all of it.

        Raises:
            errors.Stalled: the address may not be called (`AddressRefused`).
            NotAnswered: sent, perhaps; nothing or only a part came back.
            errors.Unreachable: surely not sent.
        """
        target, place = self._check(url)
        limits = aiohttp.ClientTimeout(total=timeout, connect=_CONNECT_SECONDS)
        try:
            async with self._open().request(
                method, target, headers=dict(headers), data=body, allow_redirects=False, timeout=limits
            ) as response:
                content, complete = await _read(response, max_bytes)
                return Answer(
                    status=response.status, headers=_joined(response), body=content, complete=complete
                )
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, _AddressRefused):
                raise _refused(place) from None
            raise errors.Unreachable(f"the name of {place} does not resolve") from None
        except aiohttp.ClientConnectorCertificateError:
            raise errors.Unreachable(f"the certificate of {place} is not valid for it") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise errors.Unreachable(f"{place} cannot be reached") from None
        except (aiohttp.ClientError, TimeoutError):
            raise NotAnswered(f"{place} gave no whole answer within {timeout:g} s") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                limit=100,
                limit_per_host=10,
                happy_eyeballs_delay=None,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                skip_auto_headers=("User-Agent",),
            )
        return self._session

    def _check(self, url: str) -> tuple[URL, str]:
        """The URL as aiohttp will read it, and its host:port, as far as can be said before resolving."""
        # Plain ASCII first: a host in other digits, or escaped, becomes an address only after a check.
        if len(url) > _MAX_URL or not _PLAIN_URL.fullmatch(url):
            raise errors.Stalled(
                "AddressRefused", "the address of the provider must be https://host[:port]/path"
            )
        try:
            target = URL(url, encoded=True)
            host, port = (target.host or "").lower(), target.port or 0
        except ValueError:
            raise errors.Stalled("AddressRefused", "the address of the provider is not a URL") from None
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if place in self._allow:
            return target, place
        if target.scheme != "https":
            raise errors.Stalled("AddressRefused", f"{place} must be called by https, not {target.scheme}")
        if _is_address(host) and not public(host):
            raise _refused(place)
        return target, place


class _AddressRefused(OSError):
    """A name leads to an address that may not be called."""


class _CheckedResolver(AbstractResolver):
    """Resolves for aiohttp, which connects to exactly the addresses given here."""

    def __init__(self, *, allow: frozenset[str], resolve: Resolve) -> None:
        self._allow = allow
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, or an error if even one of them is not public."""
        addresses = list(await self._resolve(host, port))
        if f"{host.lower()}:{port}" not in self._allow and not all(public(address) for address in addresses):
            raise _AddressRefused("the name leads to an address that is not public")
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        """Nothing is held."""


def public(address: str) -> bool:
    """Whether an address is one of the public Internet, in every reading of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:  # how an IPv6-only cluster reaches IPv4: what counts is the address inside
            return public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
        if parsed.ipv4_mapped is not None or parsed.is_site_local:
            return False
    if any(parsed in network for network in _REFUSED if network.version == parsed.version):
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def _is_address(host: str) -> bool:
    """Whether aiohttp takes this for an address and does not resolve it; the system then reads 127.1 too."""
    return ":" in host or host.replace(".", "").isdigit()


def _refused(place: str) -> errors.Stalled:
    return errors.Stalled(
        "AddressRefused",
        f"{place} is not on the public Internet; the platform team can allow it in outbound.allow",
    )


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _joined(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The headers, those of one name as one list (RFC 9110 §5.3): several of Link are usual."""
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """The body up to the cap, counted after decompression; what is longer also closes the connection."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > max_bytes:
            response.close()
            return b"".join([*chunks, chunk])[:max_bytes], False
        chunks.append(chunk)
    return b"".join(chunks), True
