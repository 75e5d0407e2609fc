"""`python -m dev.faults`: every fault, one line each, and a last line that counts."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dev import places
from dev.faults import crash, integration_kinds, model_kinds, record, refusals, servers, stories, views
from dev.faults.integrations import IntegrationJudge
from dev.faults.judge import Judge
from dev.faults.kinds import KINDS
from dev.faults.model_rig import model_rig
from dev.faults.models import ModelJudge
from dev.faults.oracles import Broken
from dev.faults.record import Record
from dev.faults.rig import Rig, rig
from dev.faults.runner_rig import runner_rig
from dev.problem import Problem

REGISTERED = (refusals, views, servers)
"""The modules whose faults register themselves when they are imported."""


class Case(Protocol):
    """One fault."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def key(self) -> str:
        """What it is known by in the record of what was tried."""
        ...

    def run(self, judge: Judge) -> list[Broken]:
        """Do it, and judge."""
        ...


def everything(judge: Judge, *, every: bool = False) -> list[Case]:
    """All faults there are: the sweeps of each story, then the others."""
    swept: list[Case] = []
    for story in stories.STORIES:
        swept += crash.sweep(judge, story, every=every)
    return [*swept, *KINDS]


def sample(judge: Judge, *, crashes: int) -> list[Case]:
    """A spread that is the same every time: so many crashes, evenly over the sweep, alternating variants."""
    swept = [case for story in stories.STORIES for case in crash.sweep(judge, story)]
    writes = list(zip(swept[::2], swept[1::2], strict=True))
    step = len(writes) / crashes
    chosen: list[Case] = [writes[int(step * index + step / 2)][index % 2] for index in range(crashes)]
    return [*chosen, *(kind for kind in KINDS if kind.sampled)]


def attempt(case: Case, judge: Judge) -> list[Broken]:
    """Run one; what keeps it from ending is a broken oracle, too, and the next begins with all mended."""
    try:
        return case.run(judge)
    except Problem as problem:
        told = str(problem)[:600]
        try:
            judge.rig.mend()
            judge.clear()
        except Problem as worse:
            told += f"; then: {str(worse)[:300]}"
        return [Broken("O6", told)]


def slice_of(cases: Sequence[Case], text: str | None) -> list[Case]:
    """Part `i/n`, dealt out so that each part has some of everything."""
    if text is None:
        return list(cases)
    part, _, parts = text.partition("/")
    index, count = int(part), int(parts)
    if not 1 <= index <= count:
        raise Problem(f"--slice {text}: write the number of the part and of all parts, as 2/5")
    # turned by one in each round: before and after take turns, and must not be dealt to different parts
    return [case for number, case in enumerate(cases) if (number + number // count) % count == index - 1]


def report(kept: Record, chosen: Sequence[Case], cases: Sequence[Case]) -> int:
    """What is broken, then the line that counts; the exit code. Both speak of what is chosen now.

    cases: all that there are. What was tried before and is none of them is counted by itself.
    """
    tried = {case.id: kept.done[case.key] for case in chosen if case.key in kept.done}
    broken = {name: found for name, found in tried.items() if found}
    past = {key: kept.done[key] for key in sorted(kept.done.keys() - {case.key for case in cases})}
    for name, found in [*broken.items(), *((key, found) for key, found in past.items() if found)]:
        print(f"\n{name}{' (not in this learning)' if name in past else ''}")
        for it in found:
            print(f"  {it['oracle']}: {it['how']}")
    count = sum(len({it["oracle"] for it in found}) for found in broken.values())
    if past:
        odd = sum(map(bool, past.values()))
        print(f"\nearlier, and not in this learning: {len(past)} tried, {odd} broke an oracle")
    print(f"\nfaults: {len(tried)} tried, {count} oracles broken")
    return 1 if broken or len(tried) < len(chosen) else 0


def main() -> int:
    """Run what was asked for; 1 when an oracle was broken or something was not tried."""
    parser = argparse.ArgumentParser(prog="python -m dev.faults", description=__doc__)
    parser.add_argument("--resume", action="store_true", help="leave out what was tried before")
    parser.add_argument("--slice", metavar="I/N", help="only part I of N")
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name has this text")
    parser.add_argument("--every-statement", action="store_true", help="also inside transactions")
    parser.add_argument("--minutes", type=float, help="begin no further fault after so many")
    parser.add_argument("--list", action="store_true", help="name the faults, and try none")
    parser.add_argument("--of", choices=tuple(OF), help="only faults of these")
    arguments = parser.parse_args()
    begun, codes = time.monotonic(), list[int]()
    try:
        for name, play in OF.items():
            if arguments.of in (None, name):
                codes.append(play(arguments, begun))
    except Problem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    return max(codes)


def _tenants(arguments: argparse.Namespace, begun: float) -> int:
    with rig() as made:
        made.start()
        judge = Judge(made)
        cases = everything(judge, every=arguments.every_statement)
        return _run(made, judge, cases, arguments, begun=begun)


def _integrations(arguments: argparse.Namespace, begun: float) -> int:
    with runner_rig() as made:
        made.start()
        judge = IntegrationJudge(made)
        cases = integration_kinds.everything(judge, every=arguments.every_statement)
        return _run(made, judge, cases, arguments, begun=begun, name="-integrations")


def _models(arguments: argparse.Namespace, begun: float) -> int:
    with model_rig() as made:
        made.start()
        judge = ModelJudge(made)
        cases = model_kinds.everything(judge, every=arguments.every_statement)
        return _run(made, judge, cases, arguments, begun=begun, name="-models")


OF: Mapping[str, Callable[[argparse.Namespace, float], int]] = {
    "tenants": _tenants,
    "integrations": _integrations,
    "models": _models,
}
"""What faults are of, each on servers of its own."""


def _run(
    made: Rig,
    judge: Judge,
    cases: Sequence[Case],
    arguments: argparse.Namespace,
    *,
    begun: float,
    name: str = "",
) -> int:
    """Those of the cases that were asked for."""
    name = f"{places.ROOT.name}{name}"
    path = places.cache() / "faults" / f"{name}.json"
    kept = Record.load(path, record.fingerprint(places.ROOT), resume=arguments.resume)
    chosen = slice_of(cases, arguments.slice)
    chosen = [case for case in chosen if (arguments.only or "") in case.id]
    if arguments.list:
        print("\n".join(case.id for case in chosen))
        return 0
    print(f"logs of servers and operator: {made.stack.folder / 'logs'}")
    for number, case in enumerate(chosen, start=1):
        if case.key in kept.done:
            continue
        if arguments.minutes and time.monotonic() - begun > arguments.minutes * 60:
            break
        started = time.monotonic()
        broken = attempt(case, judge)
        kept.note(case.key, broken)
        told = ", ".join(sorted({it.oracle for it in broken})) or "ok"
        print(
            f"{number:4}/{len(chosen)}  {time.monotonic() - started:5.1f} s  {told:<8}  {case.id}", flush=True
        )
    return report(kept, chosen, cases)


if __name__ == "__main__":
    sys.exit(main())
