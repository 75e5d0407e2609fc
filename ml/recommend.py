"""What to mend first: recommendations ranked by the money that they save, not by how often something fails.

Saved = (machine minutes × price + people's minutes × price) × the share that the step can avoid. Of the
published costs of flaky jobs more than 99 % is people's time (Aïdasso et al., ICSE-SEIP 2025), so a rank by
count misleads.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from ml import taxonomy
from ml.flaky import Rate


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a minute costs, in whatever currency the tenant counts."""

    machine_minute: float
    person_minute: float

    def cost(self, loss: "Loss") -> float:
        """What was lost, in that currency."""
        return loss.machine_minutes * self.machine_minute + loss.person_minutes * self.person_minute


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What failures of one sort cost in the window that is looked at."""

    count: int
    machine_minutes: float
    """Minutes of runners that came to nothing."""
    person_minutes: float
    """Minutes that people waited or looked for the cause."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One step. `saves` is in the currency of the prices, for a window as long as the one looked at."""

    subject: str
    category: str
    saves: float
    text: str


def categories(losses: Mapping[str, Loss], prices: Prices) -> list[Recommendation]:
    """For each category of the taxonomy its recipe, the dearest first."""
    known = taxonomy.categories()
    found = [
        Recommendation(
            subject=known[name].owner,
            category=name,
            saves=prices.cost(loss),
            text=f"{loss.count} failures by {name} cost {prices.cost(loss):,.0f}. {known[name].recipe}",
        )
        for name, loss in losses.items()
        if name in known and loss.count
    ]
    return _ranked(found)


def flaky(
    losses: Mapping[str, Loss], rates: Mapping[str, Rate], prices: Prices, *, least: float
) -> list[Recommendation]:
    """Jobs or tests to quarantine: those whose rate of disagreement is at least `least` with 95 % certainty.

    The saving is counted with the rate's lower end, so that a line seen twice does not lead.
    """
    found = [
        Recommendation(
            subject=line,
            category="flaky_test",
            saves=prices.cost(loss) * rates[line].low,
            text=f"{line} gives different answers on one commit in {rates[line].mean:.0%} of cases "
            f"({rates[line].low:.0%} to {rates[line].high:.0%}, {rates[line].total} seen): quarantine it.",
        )
        for line, loss in losses.items()
        if line in rates and rates[line].low >= least
    ]
    return _ranked(found)


def _ranked(found: Sequence[Recommendation]) -> list[Recommendation]:
    return sorted(found, key=lambda each: (-each.saves, each.subject, each.category))
