"""What is known of a failed run without its log, as sentences: what the model of causes learns from.

One pure function, used by the gateway when a run has failed and by training over the replayed window:
`failure` over the lines that `ml.history` keeps, of which only counts what had finished when the run was
judged. Equal facts read equal, so a sentence that moved the answer is its reason.
"""

import hashlib
from collections.abc import Mapping, Sequence

from ml.causes import Failure
from ml.history import Outcome, Run

MOST_JOBS = 20
"""Failed jobs that are looked at, by name."""
RECENT = 10

_SENTENCES = {
    "pipeline": "it is the pipeline {}",
    "trigger": "its trigger is {}",
    "job": "the job {} failed",
    "jobs": "several of its jobs failed",
    "no_job": "none of its jobs is known to have failed",
    "again": "it was a re-run",
    "red": "the run before on its branch failed",
    "green": "the run before on its branch passed",
    "first": "no run before on its branch is known",
    "sibling_red": "another pipeline failed on the commit",
    "sibling_green": "another pipeline passed on the commit",
    "often": "its pipeline often failed lately",
    "seldom": "its pipeline seldom failed lately",
    "reruns_pass": "the last re-run of its pipeline passed",
    "reruns_fail": "the last re-run of its pipeline failed",
}

SCHEMA = hashlib.sha256("\n".join(_SENTENCES.values()).encode()).hexdigest()[:12]
"""Digest of the sentences: a model goes with those that it was trained on."""


def failure(
    run: Run, lines: Mapping[str, Sequence[Outcome]], failed_jobs: Sequence[str], *, log: str = ""
) -> Failure:
    """A failed attempt as the model sees it; `log` is its end, where somebody has fetched it."""
    facts = [
        _SENTENCES["pipeline"].format(run.pipeline),
        *([_SENTENCES["trigger"].format(run.event)] if run.event else []),
        *(_SENTENCES["job"].format(name) for name in sorted(set(failed_jobs))[:MOST_JOBS]),
        *([_SENTENCES["jobs"]] if len(set(failed_jobs)) > 1 else []),
        *([] if failed_jobs else [_SENTENCES["no_job"]]),
        *([_SENTENCES["again"]] if run.attempt > 1 else []),
        *_of_lines(run, {scope: _known(run, line) for scope, line in lines.items()}),
    ]
    return Failure(log=log, facts=tuple(facts))


def _known(run: Run, line: Sequence[Outcome]) -> Sequence[Outcome]:
    """What had finished when the run was judged, but for its own attempts."""
    return [
        each
        for each in line
        if each.finished_at <= run.judged_at and (each.run, each.attempt) != (run.run_id, run.attempt)
    ]


def _of_lines(run: Run, lines: Mapping[str, Sequence[Outcome]]) -> list[str]:
    branch = [each for each in lines.get("branch", ()) if each.run != run.run_id]
    siblings = [each for each in lines.get("commit", ()) if each.pipeline and each.pipeline != run.work]
    pipeline = lines.get("pipeline", ())
    recent, reruns = pipeline[-RECENT:], [each for each in pipeline if each.attempt > 1]
    found = ["first" if not branch else "red" if branch[-1].failed else "green"]
    if siblings:
        found.append("sibling_red" if any(each.failed for each in siblings) else "sibling_green")
    if len(recent) == RECENT:
        found.append("often" if sum(each.failed for each in recent) > RECENT // 4 else "seldom")
    if reruns:
        found.append("reruns_fail" if reruns[-1].failed else "reruns_pass")
    return [_SENTENCES[name] for name in found]
