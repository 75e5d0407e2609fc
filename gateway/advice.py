"""Whether running a job again helps, and what to mend first: rates and savings of what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.report_schemas import RateBody, RecommendationBody, RetryBody
from ml import flaky, recommend
from ml.flaky import Counts
from ml.recommend import Loss, Prices
from pipewright.store.reports import Reruns

LEAST = 0.05
"""A job is to be quarantined where it gives two answers on more commits than this with 95 % certainty."""


def retries(rows: Sequence[Reruns]) -> tuple[RetryBody, ...]:
    """Each job with its rates, in the order given."""
    counts = _counts(rows)
    rates = flaky.flaky_rates(counts)
    return tuple(
        RetryBody(
            project=row.project,
            pipeline=row.pipeline,
            name=row.name,
            commits=row.commits,
            disagreed=row.disagreed,
            flaky=RateBody.model_validate(rates[key]),
            reruns=row.reruns,
            passed=row.passed,
            passes=RateBody.model_validate(flaky.retry(counts, key)),
            machine_minutes=row.machine_minutes,
            wait_minutes=row.wait_minutes,
        )
        for key, row in _keyed(rows).items()
    )


def recommendations(rows: Sequence[Reruns], prices: Prices) -> tuple[RecommendationBody, ...]:
    """What to quarantine, the dearest first."""
    keyed = _keyed(rows)
    losses = {
        key: Loss(count=row.disagreed, machine_minutes=row.machine_minutes, person_minutes=row.wait_minutes)
        for key, row in keyed.items()
    }
    found = recommend.flaky(losses, flaky.flaky_rates(_counts(rows)), prices, least=LEAST)
    return tuple(
        RecommendationBody(
            project=keyed[each.subject].project,
            pipeline=keyed[each.subject].pipeline,
            name=keyed[each.subject].name,
            category=each.category,
            saves=each.saves,
            text=each.text,
        )
        for each in found
    )


def _keyed(rows: Sequence[Reruns]) -> Mapping[str, Reruns]:
    return {f"{row.project} / {row.pipeline} / {row.name}": row for row in rows}


def _counts(rows: Sequence[Reruns]) -> Mapping[str, Counts]:
    return {
        key: Counts(commits=row.commits, disagreed=row.disagreed, reruns=row.reruns, passed=row.passed)
        for key, row in _keyed(rows).items()
    }
