"""The tenant's quota divided among its namespaces, so that their sum never exceeds it.

Each namespace has what it uses and a share of what is left. What is taken from one is given to another only
once the API server enforces the less: until then it may still be used where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from controllers.tenant.rules.words import SOON
from pipewright.fields import quantity
from pipewright.plan import Manifest

TIGHT = timedelta(seconds=15)
"""When to look again while a namespace has nearly used up its part and others have something left."""
CALM = timedelta(minutes=2)
"""When to look again at a quota that several namespaces share: nobody tells us of their use."""

_MEBI = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Each namespace's part of the quota, and when the parts must be looked at again."""

    hard: Mapping[str, Mapping[str, str]]
    """Namespace → resource → quantity."""
    settled: bool = True
    """Nothing that was taken from one namespace waits to be given to another."""
    check_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One resource in one namespace, in whole units."""

    used: int
    hard: int | None
    """What we asked for last; None while nothing bounds it."""
    ceiling: int
    """The most that it may be using before the next look."""

    @property
    def headroom(self) -> int:
        return max((self.hard or 0) - self.used, 0)


def divide(quota: Mapping[str, str], found: Mapping[str, Manifest | None]) -> Division:
    """The parts of `quota`, from each namespace's ResourceQuota as it was found. One namespace has it all."""
    names = sorted(found)
    if not quota or len(names) < 2:
        return Division(hard={name: dict(quota) for name in names})
    hard: dict[str, dict[str, str]] = {name: {} for name in names}
    settled, tight = True, False
    for resource, text in quota.items():
        total = _units(resource, text, ROUND_FLOOR)
        parts = [_part(resource, found[name]) for name in names]
        target = _targets(resource, total, parts)
        # what any of them may still use counts as used
        free = sum(max(part.ceiling, wanted) for part, wanted in zip(parts, target, strict=True)) <= total
        allowed = (
            target if free else [min(part.hard or 0, it) for part, it in zip(parts, target, strict=True)]
        )
        settled, tight = settled and allowed == target, tight or _is_tight(parts)
        for name, units in zip(names, allowed, strict=True):
            hard[name][resource] = _text(resource, units)
    return Division(hard=hard, settled=settled, check_after=SOON if not settled else TIGHT if tight else CALM)


def _targets(resource: str, total: int, parts: Sequence[_Part]) -> list[int]:
    """What each namespace ought to have: what it has, unless one has less than half of its share of the rest.

    The tolerance keeps a steady state steady while the use goes up and down a little.
    """
    used = [part.used for part in parts]
    shares = _shares(resource, total - sum(used), used)
    complete = all(part.hard is not None for part in parts) and sum(part.hard or 0 for part in parts) == total
    if complete and not any(part.headroom * 2 < share for part, share in zip(parts, shares, strict=True)):
        return [part.hard or 0 for part in parts]
    if sum(used) <= total:
        return [use + share for use, share in zip(used, shares, strict=True)]
    # more is used than the tenant may: nobody gets more, and each gives up in proportion
    return [total * use // sum(used) for use in used]


def _shares(resource: str, left: int, used: Sequence[int]) -> list[int]:
    """What is left in equal parts of round quantities; the remainder goes to the busiest, step by step."""
    left, count = max(left, 0), len(used)
    step = _MEBI if _is_bytes(resource) and left >= count * _MEBI else 1
    even = left // count // step * step
    shares, rest = [even] * count, left - even * count
    for index in sorted(range(count), key=lambda index: (-used[index], index)):
        more = min(step, rest)
        shares[index] += more
        rest -= more
    shares[max(range(count), key=lambda index: (used[index], -index))] += rest
    return shares


def _is_tight(parts: Sequence[_Part]) -> bool:
    nearly = [part.headroom * 5 < (part.hard or 0) or not part.headroom for part in parts]
    return any(nearly) and not all(part.headroom == 0 for part in parts)


def _part(resource: str, found: Manifest | None) -> _Part:
    spec = _get(found, "spec", "hard", resource)
    status = (found or {}).get("status") or {}
    used = _units(resource, (status.get("used") or {}).get(resource, "0"), ROUND_CEILING)
    enforced = _units(resource, (status.get("hard") or {}).get(resource, "0"), ROUND_CEILING)
    hard = _units(resource, spec, ROUND_CEILING) if spec is not None else None
    return _Part(used=used, hard=hard, ceiling=max(used, enforced, hard or 0))


def _get(found: Any, *path: str) -> Any:
    for key in path:
        found = (found or {}).get(key)
    return found


def _units(resource: str, text: object, rounding: str) -> int:
    """The quantity in the smallest unit that we divide: thousandths of a CPU, else ones."""
    number = quantity(str(text)) or Decimal(0)
    return int((number * (1000 if _is_cpu(resource) else 1)).to_integral_value(rounding))


def _text(resource: str, units: int) -> str:
    """The quantity as Kubernetes writes it itself."""
    if _is_cpu(resource):
        return str(units // 1000) if units % 1000 == 0 else f"{units}m"
    if _is_bytes(resource):
        for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
            if units and units % 1024**power == 0:
                return f"{units // 1024**power}{suffix}"
    return str(units)


def _is_cpu(resource: str) -> bool:
    return resource in ("cpu", "requests.cpu", "limits.cpu")


def _is_bytes(resource: str) -> bool:
    return any(word in resource for word in ("memory", "storage", "hugepages-"))
