"""What only the gateway can read: tenants' database logins and data keys, and webhooks' signing secrets.

They lie in the platform database, sealed to this process's key (HPKE), so neither Vault nor the API server
is needed to take a webhook. Opened ones are kept in memory, a bounded number of them, until they change.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from psycopg import conninfo

from pipewright import errors, names, runner_facts
from pipewright.backends.sealing import HpkeOpener
from pipewright.ports import Secret
from pipewright.store.records import Route, Tenant

OPENED = 2048
"""Opened values of each sort that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A tenant's database as the gateway reaches it, and the key of its raw bodies."""

    dsn: Secret
    previous_dsn: Secret | None
    """By the password of before: what is sealed comes before PostgreSQL is told of a rotation."""
    data_key: bytes = field(repr=False)


class Keys:
    """Opens what is sealed to the gateway."""

    def __init__(self, opener: HpkeOpener) -> None:
        self._opener = opener
        self._access = lru_cache(OPENED)(self._open_access)
        self._secrets = lru_cache(OPENED)(self._open_secrets)

    def access(self, tenant: Tenant) -> Access:
        """How to reach the tenant's database.

        Raises:
            Waiting: nothing is sealed for us yet.
            BackendError: it does not open.
        """
        if tenant.bundle is None:
            raise errors.Waiting(
                "BundleMissing", f"tenant {tenant.id} has nothing sealed for the gateway yet"
            )
        return self._access(tenant.id, tenant.bundle)

    def webhook_secrets(self, route: Route) -> tuple[Secret, ...]:
        """The secrets that sign the route's deliveries: two while one is rotated, none before the first.

        Raises:
            BackendError: they do not open.
        """
        return () if route.sealed_secret is None else self._secrets(route.hook_id, route.sealed_secret)

    def _open_access(self, tenant_id: str, bundle: bytes) -> Access:
        found = self._open(bundle, context=names.bundle_context(tenant_id))
        try:
            dsn, before = _dsn(found, found["password"]), found.get("previousPassword")
            key = base64.b64decode(found["dataKey"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise errors.BackendError(f"what is sealed for tenant {tenant_id} has another shape") from None
        if len(key) != 32:
            raise errors.BackendError(f"the data key of tenant {tenant_id} has not 32 bytes")
        return Access(dsn=dsn, previous_dsn=_dsn(found, before) if before else None, data_key=key)

    def _open_secrets(self, hook_id: str, sealed: bytes) -> tuple[Secret, ...]:
        found = self._open(sealed, context=runner_facts.route_context(hook_id)).get("secrets")
        if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
            raise errors.BackendError("the sealed secret of a webhook has another shape")
        return tuple(Secret(each) for each in found)

    def _open(self, sealed: bytes, *, context: str) -> dict[str, Any]:
        opened = json.loads(self._opener.open(sealed, context=context))
        return opened if isinstance(opened, dict) else {}


def _dsn(found: Mapping[str, Any], password: str) -> Secret:
    return Secret(
        conninfo.make_conninfo(
            "",
            host=str(found["host"]),
            port=int(found["port"]),
            dbname=str(found["dbname"]),
            user=str(found["user"]),
            password=str(password),
        )
    )
