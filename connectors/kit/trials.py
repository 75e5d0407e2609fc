"""Samples against their golden results, and proofs that must hold or must not: one `Result` for each trial.

delivery   mapped · told apart · verified · refused when a byte is changed, the key is wrong, a header is
           missing, it is old · however a part of the body is spoiled, an answer that is known
history    the records of recorded answers
action     what is asked of the provider, and what comes of its answers
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.code import Code
from connectors.kit import deliveries, exchanges
from connectors.kit.results import Result
from connectors.kit.samples import Sample
from connectors.manifest import Manifest


async def run(manifest: Manifest, code: Code, samples: Iterable[Sample]) -> list[Result]:
    """All trials of these samples."""
    found: list[Result] = []
    for sample in samples:
        match sample.kind:
            case "delivery":
                found += deliveries.delivery(manifest, sample)
                found += await deliveries.proved(manifest, code, sample)
                found += deliveries.spoiled(manifest, sample)
            case "history":
                found.append(await exchanges.history(manifest, sample))
            case "action":
                found.append(await exchanges.action(manifest, sample))
    return found
