"""What a controller may do to the world, as values: a Plan can be printed, compared and tested.

An action names what and for whom, never a secret's value, so every plan may be logged. The actions
themselves are in `pipewright.actions`; `pipewright.apply` turns them into port calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

Manifest = Mapping[str, Any]
"""A Kubernetes object as the API server reads it: plain dictionaries, lists and scalars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """Names one Kubernetes object. `namespace` is None for cluster-scoped kinds."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Ref:
        """The reference of a manifest."""
        metadata = manifest["metadata"]
        return cls(
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            name=metadata["name"],
            namespace=metadata.get("namespace"),
        )

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


ActionT = TypeVar("ActionT")


# --- a plan -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a plan already knows to say about one condition."""

    type: str
    status: bool | None
    reason: str
    message: str
    stalled: bool = False
    """Only a person can change it."""


@dataclass(frozen=True, kw_only=True)  # no slots: with these a subscripted alias cannot be called
class Chain(Generic[ActionT]):
    """Actions in order, for the sake of one condition. A failure stops the chain, not its neighbours."""

    serves: str
    actions: tuple[ActionT, ...]
    after: tuple[str, ...] = ()
    """Conditions whose chains, where they stand before this one, must have succeeded first."""


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[ActionT]):
    """What is missing or different, in the order it must happen. No chains: nothing to do."""

    chains: tuple[Chain[ActionT], ...] = ()
    quiet: tuple[Chain[ActionT], ...] = ()
    """Upkeep after the others: no condition, Event or further look tells of it; only a failure shows."""
    facts: tuple[Fact, ...] = ()
    check_after: timedelta | None = None
    """Time, not an event, will change the answer."""

    @property
    def is_empty(self) -> bool:
        """Nothing to do: the steady state, and no write follows from it."""
        return not self.chains

    def __iter__(self) -> Iterator[ActionT]:
        for chain in self.chains:
            yield from chain.actions


def chain(serves: str, *actions: ActionT, after: tuple[str, ...] = ()) -> Plan[ActionT]:
    """A plan of one chain; the empty plan when there are no actions."""
    return Plan(chains=(Chain(serves=serves, actions=actions, after=after),) if actions else ())


def upkeep(serves: str, *actions: ActionT) -> Plan[ActionT]:
    """A plan of one quiet chain: what is done while the tenant rests, and changes nothing of its state."""
    return Plan(quiet=(Chain(serves=serves, actions=actions),))


def says(aspect: str, status: bool | None, reason: str, message: str, *, stalled: bool = False) -> Plan[Any]:
    """A plan that does nothing and states one fact."""
    return Plan(facts=(Fact(type=aspect, status=status, reason=reason, message=message, stalled=stalled),))


def merge(*plans: Plan[ActionT]) -> Plan[ActionT]:
    """Independent plans side by side; the soonest `check_after` counts."""
    waits = [plan.check_after for plan in plans if plan.check_after is not None]
    return Plan(
        chains=tuple(link for plan in plans for link in plan.chains),
        quiet=tuple(link for plan in plans for link in plan.quiet),
        facts=tuple(fact for plan in plans for fact in plan.facts),
        check_after=min(waits) if waits else None,
    )


def describe(plan: Plan[ActionT]) -> str:
    """The plan in words, one action a line, for logs and tests. Holds no secret by construction."""
    return "\n".join(f"{link.serves}: {action}" for link in plan.chains for action in link.actions)


# --- what came of it ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A chain stopped here."""

    serves: str
    action: str
    error: Exception
    quiet: bool = False
    """It is told and tried again, and says nothing of any condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Which actions were done, and where each chain that failed stopped."""

    done: tuple[tuple[str, str], ...] = ()
    """Pairs of action class and its sentence, in order: they become Kubernetes Events."""
    failures: tuple[Failure, ...] = ()
    apart: frozenset[str] = frozenset()
    """Reasons in `done` that actions gave themselves: each is an Event of its own."""
