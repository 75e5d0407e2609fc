"""Where the next page is: what each provider tells, and what is not followed."""

from typing import Any

import pytest
import yaml

from connectors import paging
from connectors.compiling import Compiler
from connectors.paging import START, Got, Pager, check_origin, next_link
from pipewright import errors

BASE = "https://ci.example/api/v4"


def pager(text: str) -> Pager:
    return paging.read(yaml.safe_load(text), "paginate", Compiler("x.yaml"))


def got(*, count: int = 2, body: Any = None, url: str = f"{BASE}/runs", **headers: str) -> Got:
    return Got(url=url, status=200, headers=headers, body={} if body is None else body, count=count)


PAGE = "{kind: page, parameter: page, sizeParameter: per_page, size: 2}"
OFFSET = "{kind: offset, parameter: offset, sizeParameter: limit, size: 2}"
TOKEN = "{kind: cursor, parameter: page-token, next: body.next_page_token}"
IN_HEADER = "{kind: cursor, parameter: after, next: \"headers['x-next']\", sizeParameter: n, size: 5}"
LINK = "{kind: link, sizeParameter: per_page, size: 100}"
URL = "{kind: url, next: body.paging.next}"

# sentence: (paginate, the place, what came, how this place is asked for, the next place)
ROADS: dict[str, tuple[str, str, Got, dict[str, str], str | None]] = {
    "the first page has number 1": (PAGE, START, got(), {"page": "1", "per_page": "2"}, "2"),
    "or 0": (PAGE.replace("}", ", first: 0}"), START, got(), {"page": "0", "per_page": "2"}, "1"),
    "a later page": (PAGE, "7", got(), {"page": "7", "per_page": "2"}, "8"),
    "a page that is not full is the last": (PAGE, "7", got(count=1), {"page": "7", "per_page": "2"}, None),
    "an empty page is the last": (PAGE, "7", got(count=0), {"page": "7", "per_page": "2"}, None),
    "a place that is no number is the first": (PAGE, "x", got(), {"page": "1", "per_page": "2"}, "2"),
    "offsets count items": (OFFSET, START, got(), {"offset": "0", "limit": "2"}, "2"),
    "an offset goes on": (OFFSET, "4", got(count=3), {"offset": "4", "limit": "2"}, "7"),
    "a cursor in the body": (TOKEN, START, got(body={"next_page_token": "a/b=="}), {}, "a/b=="),
    "a cursor is shown again": (
        TOKEN,
        "a/b==",
        got(body={"next_page_token": None}),
        {"page-token": "a/b=="},
        None,
    ),
    "a cursor that is not there": (TOKEN, "a", got(body={}), {"page-token": "a"}, None),
    "an empty cursor": (TOKEN, "a", got(body={"next_page_token": ""}), {"page-token": "a"}, None),
    "a cursor that is a number": (TOKEN, "5", got(body={"next_page_token": 6}), {"page-token": "5"}, "6"),
    "a body that is a list": (TOKEN, "5", got(body=[1]), {"page-token": "5"}, None),
    "a cursor in a header": (IN_HEADER, START, got(**{"x-next": "q"}), {"n": "5"}, "q"),
    "no header any more": (IN_HEADER, "q", got(), {"n": "5", "after": "q"}, None),
    "a link": (
        LINK,
        START,
        got(link=f'<{BASE}/runs?page=2>; rel="next", <{BASE}/runs?page=9>; rel="last"'),
        {"per_page": "100"},
        f"{BASE}/runs?page=2",
    ),
    "a link says all of it": (LINK, f"{BASE}/runs?page=2", got(), {}, None),
    "a link from the page's own address": (
        LINK,
        "x",
        got(link="<?page=3#top>; rel=next"),
        {},
        f"{BASE}/runs?page=3",
    ),
    "a link from the root": (LINK, "x", got(link="</api/v4/more>; rel=next"), {}, f"{BASE}/more"),
    "an address in the body": (URL, START, got(body={"paging": {"next": f"{BASE}/x"}}), {}, f"{BASE}/x"),
    "no address": (URL, START, got(body={"paging": {"next": None}}), {}, None),
    "all at once": ("{kind: none}", START, got(link=f'<{BASE}/runs?page=2>; rel="next"'), {}, None),
}


@pytest.mark.parametrize(("text", "place", "came", "asked", "following"), ROADS.values(), ids=ROADS.keys())
def test_the_next_place(
    text: str, place: str, came: Got, asked: dict[str, str], following: str | None
) -> None:
    found = pager(text)
    assert found.query(place) == asked
    assert found.after(place, came) == following


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ("", ""),
        ("nonsense", ""),
        ('<a>; rel="next"', "a"),
        ("<a>;rel=next", "a"),
        ('<a>; REL="Next"', "a"),
        ('<a>; rel="prev next"', "a"),
        ('<a>; title="b, <c>; rel=next"; rel=prev, <d>; rel=next', "d"),
        (r'<a>; title="\", <x>; rel=next"; rel=prev , <d> ; rel = "next"', "d"),
        ("<a,b>; rel=last, <c,d;e>; rel=next", "c,d;e"),
        ("<a>; rel=prev; rel=next", ""),
        ("<a>; rel=nextpage", ""),
        ("<a>", ""),
        ("<a; rel=next", ""),
        ("<a>; rel=last, b; rel=next", ""),
        ("<" * 5000, ""),
        ("<a>;" * 5000, ""),
        ('<a>; rel="' + "\\" * 5000, ""),
    ],
)
def test_a_link_header_is_read_as_rfc_8288_says(header: str, target: str) -> None:
    assert next_link(header) == target


@pytest.mark.parametrize(
    "url",
    [
        "https://ci.example/other?page=2",
        "https://CI.example:443/x",
        "HTTPS://ci.example",
        "https://ci.example:/x",
    ],
)
def test_the_same_origin_is_followed(url: str) -> None:
    assert check_origin(url, base=BASE) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://ci.example/x",
        "https://ci.example:8443/x",
        "https://evil.example/x",
        "https://ci.example.evil.example/x",
        "https://ci.example@evil.example/x",
        "https://user@ci.example/x",
        "https://user:pw@ci.example/x",
        "//evil.example/x",
        "file:///etc/passwd",
        "javascript:x",
        "/relative",
        "",
        "https://ci.example:x/",
        "https://[::1",
    ],
)
def test_another_origin_is_not(url: str) -> None:
    with pytest.raises(errors.Stalled) as refused:
        check_origin(url, base=BASE)
    assert refused.value.reason == "AddressRefused"
    assert "evil" not in refused.value.message


@pytest.mark.parametrize(("text", "place"), [(TOKEN, "x" * 2049), (TOKEN, "a\nb"), (URL, "a\x7fb")])
def test_a_place_that_can_be_none_is_refused(text: str, place: str) -> None:
    body = {"next_page_token": place, "paging": {"next": place}}
    with pytest.raises(errors.Stalled, match="too long, or no text"):
        pager(text).after(START, got(body=body))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(errors.Stalled, match="no URL"):
        pager(URL).after(START, got(body={"paging": {"next": "https://[::1"}}))
