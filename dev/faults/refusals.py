"""Servers that refuse, are slow, or are cut off in the middle of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dev.faults.admin import TENANTS
from dev.faults.judge import Judge
from dev.faults.kinds import Some, calls, kind, met, writes
from dev.faults.oracles import Broken
from dev.faults.rig import LOOK
from dev.faults.stories import CHANGE, CREATE, DELETE, Story
from dev.faults.world import Subject
from dev.faults.writes import Call, Cut, Delay, Refuse, Treatment, Write

RBAC = "/apis/rbac.authorization.k8s.io/v1/clusterroles/pipewright-provisioner"


def _some(
    judge: Judge, *, story: Story, treatment: Treatment, system: str, only_writes: bool
) -> list[Broken]:
    """Some of the story's calls are met; what is there in the end, and how often made, stays the same."""
    chosen = writes(system) if only_writes else calls(system)
    fault = Some(treatment, chosen, times=3, every=3 if only_writes else 7)

    def wait(subject: Subject) -> None:
        judge.rig.until(
            lambda: fault.met >= fault.times or story.done(judge.rig, subject),
            within=60,
            says=f"{treatment} was met",
        )

    return met(fault, judge.play(story, fault, meanwhile=wait, within=60))


_REFUSALS: Mapping[str, tuple[Treatment, str, bool]] = {
    "kubernetes 409 Conflict": (Refuse(409, "Conflict"), "kubernetes", True),
    "kubernetes 412 Precondition": (Refuse(412, "PreconditionFailed"), "kubernetes", True),
    "kubernetes 429 Retry-After": (Refuse(429, "TooManyRequests", retry_after=1), "kubernetes", False),
    "kubernetes 500": (Refuse(500, "InternalError"), "kubernetes", False),
    "kubernetes 503": (Refuse(503, "ServiceUnavailable"), "kubernetes", False),
    "kubernetes 504": (Refuse(504, "Timeout"), "kubernetes", False),
    "kubernetes slow": (Delay(0.4), "kubernetes", False),
    "kubernetes truncated": (Cut(), "kubernetes", False),
    "vault 412": (Refuse(412), "vault", True),
    "vault 429": (Refuse(429), "vault", False),
    "vault 500": (Refuse(500), "vault", False),
    "vault 503 sealed": (Refuse(503, "Vault is sealed"), "vault", False),
    "vault slow": (Delay(0.4), "vault", False),
    "vault truncated": (Cut(), "vault", False),
    "postgres cut before a write": (Refuse(0), "postgres", True),
    "postgres cut after a write": (Cut(), "postgres", True),
    "postgres slow": (Delay(0.2), "postgres", False),
}
_SAMPLED = {"kubernetes 409 Conflict", "vault 412", "postgres cut after a write"}

for _name, (_treatment, _system, _only_writes) in _REFUSALS.items():
    for _story in (CREATE, CHANGE, DELETE):
        if _story is CHANGE and _system == "vault":
            continue  # changing the spec writes nothing to Vault, and reads it once
        kind(f"{_story.name}: {_name}", sampled=_story is CREATE and _name in _SAMPLED)(
            partial(_some, story=_story, treatment=_treatment, system=_system, only_writes=_only_writes)
        )


class Meddler:
    """Another writer changes the object between the operator's read and its write: a real conflict."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self.name, self.times = judge, "", 0

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Before a write to the Tenant itself, the annotation changes, and so its resourceVersion."""
        if not (call.writes and call.label.startswith("PATCH tenants/") and self.times < 6):
            return None
        self.times += 1
        body = {"metadata": {"annotations": {LOOK: f"meddled-{self.times}"}}}
        self._judge.rig.kubernetes_of_proxies.patch(f"{TENANTS}/{self.name}", body)
        return None


@kind("create: another writer between read and write", sampled=True)
def meddled(judge: Judge) -> list[Broken]:
    """R7: the object changes just before each of our writes to it."""
    fault = Meddler(judge)
    learned = judge.learn(CREATE)
    subject = judge.begin(CREATE)
    fault.name = subject.name
    judge.rig.switch.fault = fault
    try:
        CREATE.act(judge.rig, subject)
        judge.rig.until(lambda: CREATE.done(judge.rig, subject), within=60, says=f"{subject.name} is Ready")
    finally:
        judge.rig.switch.fault = None
    broken = judge.verdict(CREATE, subject, learned.reference)
    return broken if fault.times else [*broken, Broken("O6", "nobody meddled")]


@kind("create: 403 after the role was narrowed", sampled=True)
def narrowed(judge: Judge) -> list[Broken]:
    """R9: a right is taken away; the condition says so within seconds, the rest goes on, and it recovers."""
    rig, learned = judge.rig, judge.learn(CREATE)
    role = rig.kubernetes.get(RBAC)
    narrow = [
        {**rule, "verbs": ["get"]} if "networkpolicies" in rule["resources"] else rule
        for rule in role["rules"]
    ]
    subject = judge.begin(CREATE)
    broken = []
    rig.kubernetes.patch(RBAC, {"rules": narrow})
    try:
        CREATE.act(rig, subject)
        told = rig.until(
            lambda: _condition(judge, subject, "NetworkReady", "Forbidden"),
            within=15,
            says="NetworkReady says Forbidden",
        )
        if not told:
            broken.append(Broken("O6", "NetworkReady does not say Forbidden"))
        rig.until(
            lambda: _condition(judge, subject, "DatabaseReady", "DatabaseReady"),
            within=20,
            says="the database is ready in spite of it",
        )
    finally:
        rig.kubernetes.patch(RBAC, {"rules": role["rules"]})
    return broken + judge.verdict(CREATE, subject, learned.reference, within=60)


def _condition(judge: Judge, subject: Subject, kind_: str, reason: str) -> bool:
    found = judge.rig.kubernetes.get(f"{TENANTS}/{subject.name}") or {}
    told = (found.get("status") or {}).get("conditions") or []
    return any(it["type"] == kind_ and it["reason"] == reason for it in told)
