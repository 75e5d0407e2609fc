"""The routes by which a person is erased: the login goes at once, raw bodies by the search (`searches`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from gateway import problems
from gateway.api import PROBLEMS
from gateway.calls import Call, Name, may, route_of
from gateway.schemas import Page
from pipewright.records import TEXT_LIMITS
from pipewright.runtime import logs
from pipewright.store import erasure

log = logs.get(__name__)

rest = APIRouter(prefix="/v1/namespaces/{namespace}/integrations/{name}", responses=PROBLEMS)


class Person(BaseModel):
    """Who is erased: by surrogate or by login."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    surrogate: Annotated[str, Field(pattern="^([0-9a-f]{16})?$", description="As the history shows it.")] = ""
    login: Annotated[
        str,
        Field(max_length=TEXT_LIMITS["actor"], pattern=r"^[^\x00]*$", description="As the provider has it."),
    ] = ""

    @model_validator(mode="after")
    def _one_of_them(self) -> Person:
        if bool(self.surrogate) == bool(self.login):
            raise ValueError("name one of surrogate and login")
        return self


class ErasureBody(BaseModel):
    """An erasure: what was asked for, and how far it is. It does not say who was erased."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, from_attributes=True
    )

    id: int
    requested_at: datetime
    requested_by: str = Field(description="Who asked for it, as the cluster knows them.")
    known: bool = Field(description="Whether there was such a person in the history.")
    searched: int = Field(description="Raw bodies that were looked at so far.")
    deleted: int = Field(description="Those of them that mentioned the login, and are deleted.")
    unreadable: int = Field(description="Those that do not open with the tenant's key: nobody reads them.")
    finished_at: datetime | None = Field(description="null: raw bodies are still being searched.")


@rest.post("/erasures", tags=["history"], status_code=202, summary="Erase a person")
async def erase(
    name: Name, person: Person, call: Annotated[Call, Depends(may("create", "integrations", "erasures"))]
) -> ErasureBody:
    """Of the Integration's provider, in the whole tenant. When this is answered the login is gone from the
    history and the surrogate is another; raw bodies that mention the login are deleted from now on.
    """
    route = route_of(call, name)
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        made = await erasure.request(
            conn,
            provider=route.connector,
            surrogate=person.surrogate,
            login=person.login,
            by=call.principal.username,
            now=call.parts.clock.now(),
        )
    if made is None:
        raise problems.not_found("nobody in the history has this surrogate")
    log.info("a person is erased", namespace=call.namespace, integration=name, erasure=made.id)
    return ErasureBody.model_validate(made)


@rest.get("/erasures", tags=["history"], summary="List erasures")
async def list_erasures(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "erasures"))],
    limit: Annotated[int, Query(ge=1, le=200, description="How many items, at most.")] = 50,
) -> Page[ErasureBody]:
    """Of the Integration's provider, the newest first: who asked for them, and how far they are."""
    route = route_of(call, name)
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        found = await erasure.recent(conn, provider=route.connector, limit=limit)
    return Page(items=tuple(ErasureBody.model_validate(row) for row in found), next=None)
