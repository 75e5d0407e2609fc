"""An authorised call to a REST route: the caller may do what the route does, in a tenant's namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Path, Request

from gateway import problems
from gateway.auth import Attributes, Principal
from gateway.directory import Place, View
from gateway.parts import Parts
from gateway.problems import Problem
from pipewright.runner_facts import SUSPENDED
from pipewright.store.records import Route, Tenant

_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Namespace = Annotated[str, Path(pattern=_LABEL, max_length=63)]
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An authorised call: who, in which tenant's namespace."""

    parts: Parts
    principal: Principal
    tenant: Tenant
    namespace: str
    view: View

    @property
    def place(self) -> Place:
        """The tenant's id and the namespace."""
        return self.tenant.id, self.namespace


def route_of(call: Call, name: str) -> Route:
    """The Integration of this name.

    Raises:
        Problem: 404, there is none in the namespace.
    """
    route = call.view.integrations.get(call.place, {}).get(name)
    if route is None:
        raise problems.not_found(
            f"there is no Integration {name} that is set up in the namespace {call.namespace}"
        )
    return route


def parts_of(request: Request) -> Parts:
    """The gateway's parts."""
    parts: Parts = request.app.state.parts
    return parts


def may(
    verb: str, resource: str, subresource: str, *, lane: bool = True
) -> Callable[..., AsyncIterator[Call]]:
    """A dependency: the caller may do this to the named resource, and the namespace is a tenant's.

    The call holds one of the tenant's places meanwhile, or gets 429; without a `lane`
    it has limits of its own.
    """

    async def authorise(
        request: Request,
        namespace: Namespace,
        name: Name,
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> AsyncIterator[Call]:
        parts = parts_of(request)
        view = parts.directory.view
        wanted = Attributes(
            verb=verb, namespace=namespace, resource=resource, subresource=subresource, name=name
        )
        principal = await parts.authorizer.admit(authorization, wanted)
        tenant = view.tenant_of(namespace)
        if verb != "get" and tenant.state == SUSPENDED:
            raise Problem(
                409,
                "TenantSuspended",
                f"the tenant {tenant.name} is suspended: what it has can be read, and nothing is added to it"
                " until the platform team resumes it",
            )
        call = Call(parts=parts, principal=principal, tenant=tenant, namespace=namespace, view=view)
        if not lane:
            yield call
            return
        async with parts.calls.enter(tenant.id), parts.calls.work(tenant.id):
            yield call

    return authorise
