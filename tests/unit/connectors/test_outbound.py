"""Where connectors may go: only to public addresses by https, unless the platform team exempts a place."""

import asyncio
from collections.abc import Iterable

import pytest

from connectors.outbound import Outbound, public
from pipewright import errors

NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254",  # metadata of most clouds
    "168.63.129.16",  # Azure's host agent, a public number
    "100.64.0.1", "100.100.100.200",  # carrier-grade NAT; Alibaba's metadata
    "192.0.0.192",  # Oracle's metadata
    "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.7",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8",  # IPv4 in IPv6 clothes
    "2002:7f00:1::", "2001:0:4136:e378::1",  # 6to4, Teredo
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",  # NAT64 of private ones
    "localhost", "", "1", "0x7f.1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(
    "address", ["140.82.121.6", "8.8.8.8", "2606:50c0:8000::153", "64:ff9b::8c52:7906", "192.0.1.1"]
)
def test_public(address: str) -> None:
    assert public(address)


async def call(url: str, *, allow: Iterable[str] = (), addresses: Iterable[str] = ("10.0.0.1",)) -> None:
    async def resolve(host: str, port: int) -> Iterable[str]:
        return addresses

    async with Outbound(allow=allow, resolve=resolve) as client:
        await client.request("GET", url, headers={}, timeout=2, max_bytes=1000)


REFUSED = {
    "plain http": ("http://api.example.com/x", "api.example.com:80 must be called by https, not http"),
    "a private address": ("https://10.0.0.1/x", "10.0.0.1:443 is not on the public Internet"),
    "loopback": ("https://127.0.0.1:6443/x", "127.0.0.1:6443 is not on the public Internet"),
    "IPv6 loopback": ("https://[::1]/x", "[::1]:443 is not on the public Internet"),
    "mapped loopback": ("https://[::ffff:127.0.0.1]/x", "is not on the public Internet"),
    "a name that leads there": (
        "https://api.example.com/x",
        "api.example.com:443 is not on the public Internet",
    ),
    "loopback as one number": ("https://2130706433/x", "is not on the public Internet"),
    "loopback cut short": ("https://127.1/x", "127.1:443 is not on the public Internet"),
    "loopback in octal digits": ("https://0177.0.0.1/x", "is not on the public Internet"),
    "loopback in hexadecimal": ("https://0x7f.1/x", "is not on the public Internet"),
    "a name with a dot at its end": ("https://localhost./x", "is not on the public Internet"),
    "fullwidth digits": ("https://\uff11\uff12\uff17.0.0.1/x", "must be https://host[:port]/path"),
    "an escaped host": ("https://%31%32%37.0.0.1/x", "must be https://host[:port]/path"),
    "a user name": ("https://api.example.com@10.0.0.1/x", "must be https://host[:port]/path"),
    "a backslash": ("https://api.example.com\\@10.0.0.1/x", "must be https://host[:port]/path"),
    "a line break": ("https://api.example.com/x\r\nHost: y", "must be https://host[:port]/path"),
    "another scheme": ("file:///etc/passwd", "must be https://host[:port]/path"),
    "a port that is none": ("https://api.example.com:99999/x", "address of the provider"),
    "no host": ("https:///x", "must be https://host[:port]/path"),
}


@pytest.mark.parametrize(("url", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused(url: str, message: str) -> None:
    with pytest.raises(errors.Stalled) as refused:
        await call(url)
    assert refused.value.reason == "AddressRefused"
    assert message in refused.value.message


@pytest.mark.parametrize(
    "addresses", [["140.82.121.6", "10.0.0.1"], ["140.82.121.6", "::1"], ["::ffff:140.82.121.6"]]
)
async def test_one_address_that_is_not_public_refuses_the_name(addresses: list[str]) -> None:
    with pytest.raises(errors.Stalled, match="not on the public Internet"):
        await call("https://api.example.com/x", addresses=addresses)


async def test_a_refusal_does_not_tell_the_address() -> None:
    with pytest.raises(errors.Stalled) as refused:
        await call("https://db.internal/x", addresses=["10.11.12.13"])
    assert "10.11.12.13" not in refused.value.message


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    async def resolve(host: str, port: int) -> Iterable[str]:
        raise OSError("no such host")

    async with Outbound(resolve=resolve) as client:
        with pytest.raises(errors.Unreachable, match="does not resolve"):
            await client.request("GET", "https://nowhere.example/", headers={}, timeout=2, max_bytes=10)


async def test_an_exemption_is_for_one_port_of_one_host() -> None:
    server = await asyncio.start_server(answer_200, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await call(f"http://127.0.0.1:{port}/", allow=[f"127.0.0.1:{port}"])
        await call(f"http://git.test:{port}/", allow=[f"git.test:{port}"], addresses=["127.0.0.1"])
        for url in (f"http://127.0.0.1:{port + 1}/", f"http://127.0.0.2:{port}/", f"http://git.test:{port}/"):
            with pytest.raises(errors.Stalled):
                await call(url, allow=[f"127.0.0.1:{port}"], addresses=["127.0.0.1"])


async def test_a_name_is_resolved_once_and_the_connection_goes_there() -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Iterable[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    server = await asyncio.start_server(answer_200, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Outbound(allow=[f"git.test:{port}"], resolve=resolve) as client:
        answer = await client.request("GET", f"http://git.test:{port}/", headers={}, timeout=2, max_bytes=100)
    assert (answer.status, answer.body) == (200, f"git.test:{port}".encode())
    assert asked == ["git.test"]


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Outbound(allow=[f"127.0.0.1:{port}"]) as client:
        answer = await client.request(
            "GET", f"http://127.0.0.1:{port}/", headers={}, timeout=2, max_bytes=100
        )
    assert answer.status == 302


async def answer_200(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the Host that it was asked for."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    host = next(line.split(": ")[1] for line in request.splitlines() if line.lower().startswith("host:"))
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(host)}\r\nConnection: close\r\n\r\n{host}".encode()
    )
    await writer.drain()
    writer.close()
