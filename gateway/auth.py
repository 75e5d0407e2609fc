"""Who calls, and what they may do: the cluster says both, and nothing that a client claims counts.

    Authorization: Bearer … ──TokenReview (our audience)──► Principal ──SubjectAccessReview──► yes or no

Answers are kept for ten seconds, under the token's digest. Without the API server it is 503: hooks and
scoring go on, these routes do not.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from gateway import problems
from gateway.metrics import Metrics
from gateway.problems import Problem
from pipewright import errors
from pipewright.plan import Manifest
from pipewright.runtime import logs

log = logs.get(__name__)

GROUP = "pipewright.dev"
KEPT_SECONDS = 10.0
KEPT = 4096
ASK_SECONDS = 5.0
LONGEST_TOKEN = 16_384
AT_ONCE = 16
STRANGERS = 4
"""Questions at the same time about tokens never found valid: others have places of their own."""
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""The shape of a token with an audience (RFC 7519, signed): no other can be valid for ours."""

T = TypeVar("T")


class Reviews(Protocol):
    """The one thing that is asked of the cluster."""

    async def review(self, manifest: Manifest) -> Manifest:
        """Create a review object; its answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller, as the cluster knows it."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is asked for: a verb on a subresource of a named resource of our group."""

    verb: str
    namespace: str
    resource: str
    subresource: str
    name: str


class Authorizer:
    """Asks the cluster, at most once in ten seconds for the same question."""

    def __init__(
        self,
        *,
        cluster: Reviews,
        audience: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._audience = audience
        self._metrics = metrics
        self._principals: _Recent[Principal | None] = _Recent(clock)
        self._verdicts: _Recent[bool] = _Recent(clock)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._strangers = asyncio.Semaphore(STRANGERS)
        self._met: OrderedDict[bytes, None] = OrderedDict()

    async def admit(self, authorization: str | None, wanted: Attributes) -> Principal:
        """The caller, who may do what is wanted.

        Raises:
            Problem: 401, not known here; 403, not allowed; 503, the API server does not answer.
        """
        token = _bearer(authorization)
        digest = hashlib.sha256(token.encode()).digest()
        principal = await self._who(digest, token)
        if principal is None:
            raise _unauthorized(f"the token is not valid for the audience {self._audience}")
        if not await self._may(digest, principal, wanted):
            raise Problem(
                403,
                "Forbidden",
                f"{principal.username} may not {wanted.verb} {wanted.resource}/{wanted.subresource}"
                f" in the namespace {wanted.namespace}",
            )
        return principal

    async def _who(self, digest: bytes, token: str) -> Principal | None:
        known, principal = self._principals.get((digest,))
        self._metrics.reviews.labels("token", "memory" if known else "cluster").inc()
        if known:
            return principal
        status = await self._ask(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": token, "audiences": [self._audience]},
            },
            turn=self._turn if digest in self._met else self._strangers,
        )
        principal = self._principal(status)
        self._remember(digest, valid=principal is not None)
        self._principals.put((digest,), principal)
        return principal

    def _remember(self, digest: bytes, *, valid: bool) -> None:
        self._met.pop(digest, None)
        if valid:
            self._met[digest] = None
        while len(self._met) > KEPT:
            self._met.popitem(last=False)

    def _principal(self, status: Mapping[str, Any]) -> Principal | None:
        # A server that does not know audiences returns none: then the token may be anybody's.
        if status.get("authenticated") is not True or self._audience not in (status.get("audiences") or ()):
            return None
        user = status.get("user") or {}
        if not user.get("username"):
            return None
        return Principal(
            username=user["username"],
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
        )

    async def _may(self, digest: bytes, principal: Principal, wanted: Attributes) -> bool:
        known, allowed = self._verdicts.get((digest, wanted))
        self._metrics.reviews.labels("access", "memory" if known else "cluster").inc()
        if known:
            return allowed is True
        status = await self._ask(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "metadata": {},
                "spec": {
                    "user": principal.username,
                    "uid": principal.uid,
                    "groups": list(principal.groups),
                    "extra": {key: list(values) for key, values in principal.extra.items()},
                    "resourceAttributes": {
                        "group": GROUP,
                        "verb": wanted.verb,
                        "namespace": wanted.namespace,
                        "resource": wanted.resource,
                        "subresource": wanted.subresource,
                        "name": wanted.name,
                    },
                },
            },
            turn=self._turn,
        )
        allowed = status.get("allowed") is True and status.get("denied") is not True
        self._verdicts.put((digest, wanted), allowed)
        return allowed

    async def _ask(self, review: Manifest, *, turn: asyncio.Semaphore) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(ASK_SECONDS), turn:
                answer = await self._cluster.review(review)
        except TimeoutError:
            raise problems.unavailable(
                "Unreachable", "the API server does not answer; try again later"
            ) from None
        except (errors.BackendError, errors.Waiting, errors.Stalled) as error:
            log.warning("the API server did not answer a review", **logs.describe(error))
            raise problems.unavailable(
                "Unreachable", "the API server does not answer; try again later"
            ) from None
        status: Mapping[str, Any] = answer.get("status") or {}
        return status


class _Recent(Generic[T]):
    """Answers of the last seconds, the newest of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[Any, ...], tuple[float, T]] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> tuple[bool, T | None]:
        """Whether there is an answer, and which."""
        found = self._kept.get(key)
        if found is None or self._clock() - found[0] > KEPT_SECONDS:
            return False, None
        return True, found[1]

    def put(self, key: tuple[Any, ...], value: T) -> None:
        """Keep an answer."""
        self._kept.pop(key, None)
        self._kept[key] = (self._clock(), value)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN or not _JWT.fullmatch(token):
        raise _unauthorized("send a token of the cluster: Authorization: Bearer …")
    return token


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "Unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="pipewright"'})
