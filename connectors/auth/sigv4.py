"""`sigv4`: AWS Signature Version 4, over method, path, query, host, the AWS headers and the body.

Written by AWS's specification because it is a hundred lines: botocore, which has it, brings the descriptions
of all services of AWS along, and the small packages of it are not kept up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from connectors.auth.caller import Caller, Options, Request, Signed, Text
from pipewright import errors
from pipewright.expressions import Template

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where a signature is good."""

    region: str
    service: str

    def at(self, day: str) -> str:
        """The credential scope of a day."""
        return f"{day}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigV4:
    """The keys of an IAM user or of a session."""

    access_key: str
    secret_key: str
    session_token: str | None
    region: Template
    service: str

    @classmethod
    def parse(cls, options: Options, text: Text) -> Self:
        """From a manifest."""
        return cls(
            access_key=options["accessKeyIdField"],
            secret_key=options["secretAccessKeyField"],
            session_token=options.get("sessionTokenField"),
            region=text(options["region"]),
            service=options["service"],
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The two keys."""
        return (self.access_key, self.secret_key)

    @property
    def optional(self) -> tuple[str, ...]:
        """The session's token, with keys that live for a while."""
        return (self.session_token,) if self.session_token else ()

    async def sign(self, request: Request, caller: Caller) -> Signed:
        """The header Authorization, and those that are signed with it.

        Raises:
            errors.Stalled: a key is missing, or the region is none.
        """
        access, secret = caller.word(self.access_key), caller.word(self.secret_key)
        region, parts, now = caller.text(self.region), urlsplit(request.url), caller.now()
        if not _REGION.fullmatch(region):
            raise errors.Stalled("InvalidConfig", "http.auth: the region is none of AWS")
        token = self.session_token
        session = caller.word(token) if token is not None and token in caller.credentials else ""
        port = parts.port if parts.port != {"https": 443, "http": 80}.get(parts.scheme) else None
        added = {
            "X-Amz-Date": stamp(now),
            "X-Amz-Content-Sha256": hashlib.sha256(request.body or b"").hexdigest(),
        } | ({"X-Amz-Security-Token": session} if session else {})
        covered = {"Host": f"{parts.hostname}:{port}" if port else parts.hostname or "", **added}
        if "Content-Type" in request.headers:
            covered["Content-Type"] = request.headers["Content-Type"]
        proof = authorization(
            request.method,
            path=parts.path,
            query=parts.query,
            headers=covered,
            body=request.body or b"",
            access_key=access,
            secret_key=secret,
            scope=Scope(region=region, service=self.service),
            now=now,
        )
        secrets = (secret, session) if session else (secret,)
        return Signed(headers={**added, "Authorization": proof}, secrets=secrets)


def authorization(
    method: str,
    *,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    access_key: str,
    secret_key: str,
    scope: Scope,
    now: datetime,
) -> str:
    """The header Authorization over exactly these headers; `path` is as it is sent."""
    named = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    names = ";".join(sorted(named))
    canonical = "\n".join(
        (
            method,
            _canonical_path(path, service=scope.service),
            _canonical_query(query),
            *(f"{name}:{named[name]}" for name in sorted(named)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    when = stamp(now)
    day = when[:8]
    to_sign = "\n".join((ALGORITHM, when, scope.at(day), hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return (
        f"{ALGORITHM} Credential={access_key}/{scope.at(day)}, SignedHeaders={names}, Signature={signature}"
    )


def stamp(now: datetime) -> str:
    """The time as AWS writes it, in UTC."""
    return now.strftime("%Y%m%dT%H%M%SZ")


def _canonical_path(path: str, *, service: str) -> str:
    """The path, encoded once more than it is sent; S3 alone takes it as it is."""
    if service == "s3":
        return path or "/"
    return quote(re.sub("/{2,}", "/", path) or "/", safe="/-_.~")


def _canonical_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    encoded = ((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def _encoded(text: str) -> str:
    return quote(unquote(text), safe="-_.~")
