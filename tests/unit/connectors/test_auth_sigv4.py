"""AWS Signature Version 4: the vectors of AWS's own test suite, and what a provider sees."""

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors import actions
from connectors.auth.sigv4 import Scope, authorization, stamp
from connectors.calls import Account
from connectors.outbound import Outbound
from pipewright import errors
from pipewright.ports import Secret

# The test suite's example identity and time; the secret is AWS's published one and opens nothing.
ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SCOPE = Scope(region="us-east-1", service="service")
HOST = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z"}
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SESSION = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"

# name of the suite: (method, path, query, further headers, body, signature)
VECTORS: dict[str, tuple[str, str, str, dict[str, str], bytes, str]] = {
    "get-vanilla": (
        "GET",
        "/",
        "",
        {},
        b"",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "post-vanilla": (
        "POST",
        "/",
        "",
        {},
        b"",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "get-vanilla-query-order-key-case": (
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        {},
        b"",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-unreserved": (
        "GET",
        "/",
        f"{UNRESERVED}={UNRESERVED}",
        {},
        b"",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        "GET",
        "/",
        "%E1%88%B4=bar",
        {},
        b"",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-utf8": (
        "GET",
        "/\u1234",
        "",
        {},
        b"",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-space-normalized": (
        "GET",
        "/example space/",
        "",
        {},
        b"",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-vanilla-with-session-token": (
        "GET",
        "/",
        "",
        {"X-Amz-Security-Token": SESSION},
        b"",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    "post-x-www-form-urlencoded": (
        "POST",
        "/",
        "",
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "Content-Length": "13",
            "x-amz-content-sha256": "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        },
        b"Param1=value1",
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    ),
}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"), VECTORS.values(), ids=VECTORS.keys()
)
def test_the_vectors_of_aws(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    found = authorization(
        method,
        path=path,
        query=query,
        headers={**HOST, **headers},
        body=body,
        access_key=ACCESS,
        secret_key=SECRET,
        scope=SCOPE,
        now=NOW,
    )
    names = ";".join(sorted(name.lower() for name in {**HOST, **headers}))
    assert found == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_an_object_of_s3_is_signed_as_its_path_is_sent() -> None:
    # "GET Object" of the Amazon S3 API reference
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    headers = {
        "Host": "examplebucket.s3.amazonaws.com",
        "Range": "bytes=0-9",
        "x-amz-content-sha256": empty,
        "x-amz-date": "20130524T000000Z",
    }
    found = authorization(
        "GET",
        path="/test.txt",
        query="",
        headers=headers,
        body=b"",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        scope=Scope(region="us-east-1", service="s3"),
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert found.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")


AUTH = {
    "kind": "sigv4",
    "accessKeyIdField": "accessKeyId",
    "secretAccessKeyField": "secretAccessKey",
    "sessionTokenField": "sessionToken",
    "region": "${{ config.region }}",
    "service": "codebuild",
}
NAMES = ("accessKeyId", "secretAccessKey", "sessionToken")


def account(config: dict[str, str] | None = None, **fields: str) -> Account:
    given = {"accessKeyId": ACCESS, "secretAccessKey": SECRET} | fields
    return Account(config=config or {}, credentials={name: Secret(value) for name, value in given.items()})


@pytest.mark.parametrize("session", ["", SESSION])
async def test_what_comes_over_the_wire_is_what_was_signed(
    connector: Any, provider: Any, client: Outbound, clock: Any, session: str
) -> None:
    provider.on("/runs/7%2Fx", {"ok": True})
    fields = {"sessionToken": session} if session else {}
    await actions.perform(
        connector(AUTH, credentials=NAMES),
        "run",
        inputs={"id": "7/x"},
        account=account(**fields),
        client=client,
        clock=clock,
    )
    (seen,) = provider.seen
    covered = {
        name: value
        for name, value in seen.headers.items()
        if name in ("Host", "Content-Type") or name.lower().startswith("x-amz-")
    }
    assert seen.headers["X-Amz-Date"] == stamp(clock.now()) == "20260301T120000Z"
    assert seen.headers.get("X-Amz-Security-Token", "") == session
    assert seen.headers["Authorization"] == authorization(
        "POST",
        path=seen.path,
        query="",
        headers=covered,
        body=seen.body,
        access_key=ACCESS,
        secret_key=SECRET,
        scope=Scope(region="eu-west-1", service="codebuild"),
        now=clock.now(),
    )
    assert SECRET not in str(seen)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        ({}, {"secretAccessKey": ""}, "the Secret lacks secretAccessKey"),
        ({}, {"accessKeyId": "AK ID"}, "the Secret's field accessKeyId is missing, empty or no token"),
        ({}, {"sessionToken": "a\nb"}, "the Secret's field sessionToken is missing, empty or no token"),
        ({"region": "eu-west-1/x"}, {}, "the region is none of AWS"),
    ],
)
async def test_what_cannot_be_signed_is_not_sent(
    connector: Any,
    provider: Any,
    client: Outbound,
    config: dict[str, str],
    fields: dict[str, str],
    message: str,
) -> None:
    with pytest.raises(errors.Stalled) as refused:
        await actions.check(
            connector(AUTH, credentials=NAMES), account=account(config, **fields), client=client
        )
    assert message in refused.value.message
    assert SECRET not in refused.value.message
    assert provider.seen == []
