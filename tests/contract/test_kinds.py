"""The kinds before a real API server: it takes the CRDs, refuses what they forbid, and says where.

No operator may run, it would take up what is created here: that is why it is among the contracts.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.dynamic
import pytest
import yaml

from pipewright.api.meta import Resource
from pipewright.api.v1alpha1 import KINDS

CHECKOUT = Path(__file__).parents[2]
NAMESPACE = "contract"

Manifest = dict[str, Any]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


BY_SINGULAR = {kind.singular: kind for kind in KINDS}
TABLES = {
    kind.singular: documents(Path(__file__).parent / "refused" / f"{kind.singular}.yaml")[0] for kind in KINDS
}
REFUSED = [
    pytest.param(name, case, id=f"{name}: {case['sentence']}")
    for name, table in TABLES.items()
    for case in table["refused"]
]
CHANGES = [
    pytest.param(case, id=case["sentence"]) for case in documents(Path(__file__).parent / "changes.yaml")[0]
]
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.yaml"))


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the API server says about a manifest that it does not take."""

    fields: frozenset[str]
    message: str


@dataclass(frozen=True, slots=True)
class Api:
    """The administrator's view of the API server, over one connection."""

    client: kubernetes.dynamic.DynamicClient

    def create(self, manifest: Manifest, *, keep: bool = False) -> Manifest | Refusal:
        return self._send("post", path(manifest), manifest, keep=keep)

    def replace(self, manifest: Manifest) -> Manifest | Refusal:
        return self._send("put", f"{path(manifest)}/{manifest['metadata']['name']}", manifest)

    def delete(self, manifest: Manifest) -> None:
        self.client.request("delete", f"{path(manifest)}/{manifest['metadata']['name']}")

    def get(self, where: str) -> Manifest:
        return dict(self.client.request("get", where).to_dict())

    def _send(self, method: str, where: str, manifest: Manifest, *, keep: bool = False) -> Manifest | Refusal:
        query = [("fieldValidation", "Strict")] + ([] if keep else [("dryRun", "All")])
        try:
            return dict(self.client.request(method, where, body=manifest, query_params=query).to_dict())
        except kubernetes.client.ApiException as refused:
            status = json.loads(refused.body or "{}")
            causes = (status.get("details") or {}).get("causes") or []
            return Refusal(
                fields=frozenset(cause.get("field", "") for cause in causes), message=status["message"]
            )


def path(manifest: Manifest) -> str:
    kind = next(kind for kind in KINDS if kind.kind == manifest["kind"])
    scope = f"/namespaces/{manifest['metadata']['namespace']}" if kind.scope == "Namespaced" else ""
    return f"/apis/{kind.api_version}{scope}/{kind.plural}"


@pytest.fixture(scope="module")
def kubectl(control_plane: Any) -> Any:
    """kubectl as the administrator, once the five kinds of crds/ are served."""
    names = (f"{kind.plural}.{kind.group}" for kind in KINDS)
    control_plane.kubectl.run("wait", "--for=condition=Established", "crd", *names)
    return control_plane.kubectl


@pytest.fixture(scope="module")
def api(kubectl: Any) -> Iterator[Api]:
    configured = kubernetes.config.new_client_from_config(str(kubectl.kubeconfig))
    kubectl.attempt("create", "namespace", NAMESPACE)
    yield Api(kubernetes.dynamic.DynamicClient(configured))
    kubectl.attempt("delete", "namespace", NAMESPACE, "--wait=false")


def test_the_api_server_serves_each_kind_in_our_category_under_its_short_name(kubectl: Any) -> None:
    listed = kubectl.run("api-resources", "--categories=pipewright", "--no-headers", "--cached=false")
    served = {tuple(line.split()[:2]) for line in listed.splitlines()}
    assert served == {(kind.plural, kind.short_names[0]) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_api_server_has_nothing_against_the_schema(kind: type[Resource], api: Api) -> None:
    where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.plural}.{kind.group}"
    conditions = {item["type"]: item["status"] for item in api.get(where)["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_at_least_sixty_bad_manifests_are_in_the_table() -> None:
    assert len(REFUSED) >= 60


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_manifest_that_the_bad_ones_differ_from_is_good(name: str, api: Api) -> None:
    assert isinstance(api.create(TABLES[name]["good"]), dict)


@pytest.mark.parametrize(("name", "case"), REFUSED)
def test_a_bad_manifest_is_refused_with_the_field_and_the_reason(name: str, case: Manifest, api: Api) -> None:
    answer = api.create(merged(TABLES[name]["good"], case["merge"]))
    assert isinstance(answer, Refusal), "the API server took it"
    assert case["field"] in answer.fields, answer
    assert case["says"] in answer.message


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_a_stored_object(case: Manifest, api: Api) -> None:
    stored = api.create(merged(TABLES[case["kind"]]["good"], case.get("before", {})), keep=True)
    assert isinstance(stored, dict), stored
    try:
        answer = api.replace(merged(stored, case["after"]))
    finally:
        api.delete(stored)
    if "says" not in case:
        assert isinstance(answer, dict), answer
        return
    assert isinstance(answer, Refusal), "the API server took it"
    assert case["field"] in answer.fields, answer
    assert case["says"] in answer.message


DEFAULTS: list[tuple[str, Manifest, Manifest]] = [
    (
        "tenant",
        {"spec": None},
        {
            "deletionPolicy": "Retain",
            "finalDump": "Required",
            "deletionProtection": False,
            "suspended": False,
            "podSecurity": "restricted",
            "network": {"isolation": "Strict"},
            "database": {"connectionLimit": 20, "rotation": {"overlap": "30m"}},
            "retention": {"events": "90d", "runs": "400d", "audit": "400d"},
        },
    ),
    (
        "integration",
        {},
        {
            "connector": "github",
            "credentials": {"secretRef": {"name": "github-credentials"}},
            "projects": ["acme/shop"],
            "webhook": {
                "enabled": True,
                "allowUnsigned": False,
                "register": False,
                "rotation": {"overlap": "1d"},
            },
        },
    ),
    (
        "model",
        {},
        {
            "task": "RunFailure",
            "data": {"window": "90d", "minRuns": 500},
            "training": {"timeZone": "Etc/UTC", "deadline": "30m", "retries": 2},
            "evaluation": {"holdout": 0.25},
            "serving": {"default": False, "controlShare": 0.02},
        },
    ),
    (
        "workflow",
        {},
        {
            "triggers": [{"event": "pipelinerun.finished"}],
            "suspended": False,
            "timeout": "1h",
            "steps": [
                {
                    "name": "rerun",
                    "uses": "github/rerun-failed-jobs",
                    "retry": {"limit": 0, "backoff": "10s"},
                    "timeout": "1m",
                    "onUnknown": "Fail",
                }
            ],
        },
    ),
]


@pytest.mark.parametrize(("name", "merge", "spec"), DEFAULTS, ids=[row[0] for row in DEFAULTS])
def test_what_a_manifest_leaves_out_is_filled_in(
    name: str, merge: Manifest, spec: Manifest, api: Api
) -> None:
    stored = api.create(merged(TABLES[name]["good"], merge))
    assert isinstance(stored, dict), stored
    assert stored["spec"] == spec


GOOD: list[tuple[str, str, Manifest]] = [
    ("integers are quantities", "tenant", {"spec": {"quota": {"requests.cpu": 4, "pods": "50"}}}),
    ("extended resources count", "tenant", {"spec": {"quota": {"requests.nvidia.com/gpu": 1}}}),
    ("objects count", "tenant", {"spec": {"quota": {"count/jobs.batch": 9, "hugepages-2Mi": "0"}}}),
    (
        "equal limits do not exceed each other",
        "tenant",
        {
            "spec": {
                "limits": {"defaultRequest": {"cpu": "1000m"}, "default": {"cpu": 1}, "max": {"cpu": "1"}}
            }
        },
    ),
    (
        "a ServiceAccount of another namespace may have access",
        "tenant",
        {"spec": {"access": {"owners": [{"kind": "ServiceAccount", "name": "ci", "namespace": "build"}]}}},
    ),
    ("a project may lie in a subgroup", "integration", {"spec": {"projects": ["group/sub.group/project_1"]}}),
    (
        "the connector's settings may have any shape",
        "integration",
        {
            "spec": {
                "config": {"baseUrl": "https://ci.example", "deep": {"list": [1, "two", None, {"x": 0.5}]}}
            }
        },
    ),
    ("hours, minutes and seconds combine", "workflow", {"spec": {"timeout": "1h30m5s"}}),
    ("the bounds of a duration belong to it", "model", {"spec": {"data": {"window": "730d"}}}),
    ("a day may be written in hours", "model", {"spec": {"data": {"window": "24h"}}}),
    (
        "a schedule may have lists, ranges, steps and names",
        "model",
        {
            "spec": {
                "training": {"schedule": "*/15 0-6,22,23 1-31/2 JAN-JUN,12 MON-FRI", "timeZone": "Etc/GMT+1"}
            }
        },
    ),
    (
        "a model of durations has gates of its own",
        "model",
        {
            "spec": {
                "task": "Duration",
                "evaluation": {"gates": {"minPinballGain": 0, "maxCoverageError": 0.1}},
            }
        },
    ),
    (
        "a model of causes has gates of its own",
        "model",
        {"spec": {"task": "FailureCause", "evaluation": {"gates": {"minAccuracy": 0.7}}}},
    ),
    ("a search may be asked for in two words", "model", {"spec": {"training": {"search": {}}}}),
    (
        "a search may take most of a long deadline",
        "model",
        {"spec": {"training": {"deadline": "90m", "search": {"trials": 200, "timeout": "1h"}}}},
    ),
    (
        "a Model of a pool may be trained on a cluster of the settings",
        "model",
        {"spec": {"pool": "ci", "training": {"compute": {"cluster": "gpu"}}}},
    ),
    ("a Tenant may be in some pools", "tenant", {"spec": {"modelPools": ["ci", "mobile"]}}),
    ("a gate may allow a loss", "model", {"spec": {"evaluation": {"gates": {"minGainOverBaseline": -0.02}}}}),
    (
        "thirty steps may each need all before",
        "workflow",
        {
            "spec": {
                "steps": [
                    {"name": f"s{n}", "uses": "github/comment", "needs": [f"s{m}" for m in range(n)]}
                    for n in range(30)
                ]
            }
        },
    ),
]


@pytest.mark.parametrize(("name", "merge"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_manifest_is_taken_and_read_back_as_it_is_stored(name: str, merge: Manifest, api: Api) -> None:
    stored = api.create(merged(TABLES[name]["good"], merge))
    assert isinstance(stored, dict), stored
    read = BY_SINGULAR[name].parse(stored)
    again = api.create(merged(TABLES[name]["good"], {"spec": read.dump()["spec"]}))
    assert isinstance(again, dict), again
    assert BY_SINGULAR[name].parse(again).dump()["spec"] == read.dump()["spec"]


def test_a_status_that_the_types_write_is_kept_whole(api: Api, kubectl: Any) -> None:
    when = "2026-11-23T12:00:00Z"
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "message": "All is there."}
    metrics = {"accuracy": 0.875, "falsePositiveRate": 0.0625, "brier": 0.125}
    version = {"version": "0a1b", "artifact": {"uri": "file:///a", "sha256": "0" * 64}, "metrics": metrics}
    status = {
        "observedGeneration": 1,
        "conditions": [{**condition, "lastTransitionTime": when, "observedGeneration": 1}],
        "active": {
            **version,
            "promotedAt": when,
            "registered": {"model": "a.a.m", "version": "3"},
            "pooled": {"tenants": 2, "runs": 940, "ownRuns": 40},
        },
        "candidate": version,
        "baselines": {
            "alwaysPass": {"accuracy": 0.75},
            "lastOutcome": {},
            "recentRuns": {"pinballLoss": 20.5, "coverageError": 0.125, "medianError": 40.0},
            "lastRun": {"pinballLoss": 48.5},
            "majority": {"accuracy": 0.625},
            "lineRate": {"accuracy": 0.75},
        },
        "dataset": {"uri": "file:///d", "rows": 9, "from": when, "to": when, "sha256": "1" * 64},
        "lastTraining": {
            "attempt": 1,
            "submissionId": "x",
            "startedAt": when,
            "outcome": "Passed",
            "search": {
                "trials": 20,
                "loss": 0.25,
                "defaultLoss": 0.5,
                "hyperparameters": {"numLeaves": 8, "learningRate": 0.25, "lambdaL2": 5.5},
            },
        },
        "trainings": [
            {
                "attempt": 1,
                "version": "0a1b",
                "startedAt": when,
                "outcome": "Passed",
                "accuracy": 0.875,
                "mlflowRun": "0123456789abcdef",
            },
            {"attempt": 1, "startedAt": when, "outcome": "Passed", "pinballLoss": 20.5},
        ],
        "lastSkipped": {"turn": when, "reason": "Nothing is new."},
        "nextTrainingAt": when,
    }
    model = api.create(TABLES["model"]["good"], keep=True)
    assert isinstance(model, dict), model
    try:
        written = BY_SINGULAR["model"].parse({**model, "status": status}).dump()
        kubectl.run("replace", "--subresource=status", "--filename", "-", given=json.dumps(written))
        assert api.get(f"{path(model)}/refused")["status"] == status
    finally:
        api.delete(model)


def test_kubectl_explains_a_field_by_its_sentence(kubectl: Any) -> None:
    told = kubectl.run("explain", "tenant.spec.database")
    assert "The tenant's own PostgreSQL database" in told
    assert "How many connections each of the tenant's logins may hold at once." in told


def test_kubectl_shows_whether_a_tenant_is_ready(kubectl: Any, api: Api) -> None:
    tenant = api.create(TABLES["tenant"]["good"], keep=True)
    assert isinstance(tenant, dict), tenant
    try:
        header = kubectl.run("get", "ptn", "refused").splitlines()[0].split()
    finally:
        api.delete(tenant)
    assert header == ["NAME", "READY", "REASON", "NAMESPACE", "AGE"]


def test_runs_are_selected_by_their_workflow(kubectl: Any, api: Api) -> None:
    run = api.create(TABLES["workflowrun"]["good"], keep=True)
    assert isinstance(run, dict), run
    select = ("get", "pwr", "--namespace", NAMESPACE, "--output", "name", "--field-selector")
    try:
        found = kubectl.run(*select, "spec.workflow.name=heal").split()
        others = kubectl.run(*select, "spec.workflow.name=other").split()
    finally:
        api.delete(run)
    assert (found, others) == (["workflowrun.pipewright.dev/refused"], [])


def test_a_trigger_list_under_a_bare_on_is_refused_because_yaml_reads_it_as_true(kubectl: Any) -> None:
    manifest = yaml.safe_dump(TABLES["workflow"]["good"]).replace("triggers:", "on:")
    told: subprocess.CompletedProcess[str] = kubectl.attempt(
        "create", "--dry-run=server", "-f", "-", given=manifest
    )
    assert told.returncode != 0
    assert 'unknown field "spec.true"' in told.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_taken_by_the_api_server(example: Path, api: Api, kubectl: Any) -> None:
    for manifest in documents(example):
        namespaced = "namespace" in manifest["metadata"]
        here = merged(manifest, {"metadata": {"namespace": NAMESPACE}}) if namespaced else manifest
        assert isinstance(api.create(here), dict), api.create(here)
