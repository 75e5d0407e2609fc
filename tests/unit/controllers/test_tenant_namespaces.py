"""Namespaces that come, are adopted, are changed by others, and leave; and what the network lets through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.tenant import objects
from controllers.tenant.observed import Observed
from controllers.tenant.plan import plan_teardown
from controllers.tenant.rules.words import Plan
from pipewright.actions import CreateNamespace
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration, Server
from pipewright.plan import Ref
from tests.unit.controllers.test_tenant_plan import plan_tenant

UID = "11111111-2222-3333-4444-555555555555"
ID = "abcdefghjkmn"
NOW = "2026-01-01T00:00:00Z"


def tenant(*, deleting: bool = False, conditions: Any = (), **spec: Any) -> Tenant:
    metadata = {"name": "team-a", "uid": UID, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = NOW
    return Tenant.parse({"metadata": metadata, "spec": spec, "status": {"conditions": list(conditions)}})


def namespace(subject: Tenant, name: str, *, adopted: bool = False, **metadata: Any) -> dict[str, Any]:
    """A namespace of ours as it is stored."""
    made = objects.namespace(subject, tenant_id=ID, name=name, adopted=adopted)
    return {**made, "metadata": {**made["metadata"], "uid": f"uid-of-{name}", **metadata}}


def stranger(name: str = "shop", **metadata: Any) -> dict[str, Any]:
    """A namespace that was there before the Tenant."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "uid": "stranger", **metadata},
    }


def registered(*names: str) -> Registration:
    return Registration(
        id=ID,
        uid=UID,
        name="team-a",
        server="main",
        state="Active",
        namespaces={name: f"uid-of-{name}" for name in names},
        bundle_version=None,
        bundle_key=None,
    )


def seen(subject: Tenant, *there: dict[str, Any], bound: tuple[str, ...] = (), **more: Any) -> Observed:
    """What is seen of these namespaces; in the bound ones lies what the spec asks for."""
    children: dict[Any, Any] = {}
    for name in bound:
        children |= dict.fromkeys(objects.possible(name))
        for build in (objects.in_namespace, objects.network, objects.access):
            for made in build(subject, tenant_id=ID, namespace=name):
                children[Ref.of(made)] = {**made, "metadata": {**made["metadata"], "uid": "some-uid"}}
    namespaces: dict[str, Any] = dict.fromkeys(subject.spec.namespace_names("team-a"))
    namespaces |= {it["metadata"]["name"]: it for it in there}
    more.setdefault("registration", registered(*bound))
    return Observed(gateway_key="key", namespaces=namespaces, children=children, **more)


def done(plan: Plan) -> list[str]:
    """What is done for the namespaces; database and secrets are other tests'."""
    aspects = ("NamespacesReady", "NetworkReady", "AccessReady")
    return [str(action) for chain in plan.chains if chain.serves in aspects for action in chain.actions]


def fact(plan: Plan) -> tuple[str, str, bool]:
    """What is told of the namespaces: the first that is not well."""
    [first, *_] = [it for it in plan.facts if it.type == "NamespacesReady" and not it.status]
    return first.reason, first.message, first.stalled


# -- adoption ------------------------------------------------------------------------------------------------

ADOPTING = tenant(namespaces=[{"name": "shop", "adopt": True}])
REFUSED: dict[str, tuple[Tenant, dict[str, Any], str]] = {
    "one that the spec does not ask to adopt": (
        tenant(namespaces=[{"name": "shop"}]),
        stranger(),
        "set adopt to true",
    ),
    "one with another Tenant's UID": (
        ADOPTING,
        stranger(labels={"pipewright.dev/tenant-uid": "other", "pipewright.dev/tenant": "b"}),
        "it carries the UID of the Tenant b",
    ),
    "one that another controller owns": (
        ADOPTING,
        stranger(ownerReferences=[{"kind": "Project", "name": "p", "uid": "u", "apiVersion": "x/v1"}]),
        "the Project p owns it",
    ),
    "one of the cluster, whatever let the name through": (
        tenant(namespaces=[{"name": "kube-public", "adopt": True}]),
        stranger("kube-public"),
        "it belongs to the cluster",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_not_adopted_is(sentence: str) -> None:
    subject, there, says = REFUSED[sentence]
    plan = plan_tenant(subject, seen(subject, there))
    reason, message, stalled = fact(plan)
    assert (done(plan), reason, stalled) == ([], "NamespaceOwnedByOther", True)
    assert says in message


def test_one_that_is_being_deleted_is_waited_for() -> None:
    plan = plan_tenant(ADOPTING, seen(ADOPTING, stranger(deletionTimestamp=NOW)))
    assert (done(plan), fact(plan)[0]) == ([], "Terminating")
    assert plan.check_after is not None


def test_what_an_adoption_changes_is_told_before_it_is_done() -> None:
    there = stranger(labels={"pod-security.kubernetes.io/enforce": "privileged"})
    first = plan_tenant(ADOPTING, seen(ADOPTING, there))
    reason, message, stalled = fact(first)
    assert (done(first), reason, stalled) == ([], "Adopting", False)
    assert "metadata.labels.pod-security.kubernetes.io/enforce" in message
    assert "metadata.labels.pipewright.dev/tenant-uid" in message
    assert message.endswith(", overwrites metadata.labels.pod-security.kubernetes.io/enforce")
    assert "restricted" not in message
    assert first.check_after is not None

    told = {"type": "NamespacesReady", "status": "False", "reason": reason, "lastTransitionTime": NOW}
    second = tenant(namespaces=[{"name": "shop", "adopt": True}], conditions=[{**told, "message": message}])
    assert done(plan_tenant(second, seen(second, there))) == ["bind namespace shop", "apply Namespace shop"]
    changed = stranger()
    assert done(plan_tenant(second, seen(second, changed))) == []  # other changes than those that were told


def test_an_adopted_namespace_carries_the_mark() -> None:
    there = namespace(ADOPTING, "shop", adopted=True)
    assert there["metadata"]["annotations"]["pipewright.dev/adopted"] == "true"
    assert done(plan_tenant(ADOPTING, seen(ADOPTING, there, bound=("shop",)))) == []


# -- leaving -------------------------------------------------------------------------------------------------

GROWN = tenant(namespaces=[{"name": "team-a"}, {"name": "shop"}])
RUN = {
    "apiVersion": "pipewright.dev/v1alpha1",
    "kind": "Integration",
    "metadata": {"name": "github", "namespace": "shop", "uid": "run"},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "pipewright-database", "namespace": "shop", "uid": "secret"},
}
REMOVED = (
    "remove pipewright.dev/tenant, pipewright.dev/tenant-id, pipewright.dev/tenant-uid,"
    " pipewright.dev/adopted from Namespace shop"
)
BINDINGS = [
    "delete RoleBinding shop/pipewright-runner",
    "delete RoleBinding shop/pipewright-provisioner",
]


def leaving(policy: str, *, adopted: bool = False, inside: bool = True, **more: Any) -> Plan:
    """The plan for a Tenant that has given up the namespace shop."""
    subject = tenant(deletionPolicy=policy, quota={"pods": "4"})
    metadata = more.pop("metadata", {})
    home, shop = namespace(subject, "team-a"), namespace(GROWN, "shop", adopted=adopted, **metadata)
    observed = seen(subject, home, shop, bound=("team-a", "shop"), **more)
    if not inside:
        kept = {ref: it for ref, it in observed.children.items() if ref.namespace != "shop"}
        observed = replace(observed, children=kept)
    return plan_tenant(subject, observed)


def test_retain_takes_the_connection_and_every_way_in_and_keeps_the_rest() -> None:
    plan = leaving("Retain", leaving_connections={"shop": SECRET})
    assert done(plan) == ["delete Secret shop/pipewright-database", *BINDINGS]


def test_retain_releases_the_namespace_last() -> None:
    assert done(leaving("Retain", inside=False)) == [REMOVED, "release namespace shop"]


def test_delete_takes_the_custom_resources_first() -> None:
    assert done(leaving("Delete", resources=(RUN,))) == ["delete Integration shop/github"]
    going = {**RUN, "metadata": {**RUN["metadata"], "deletionTimestamp": NOW}}
    plan = leaving("Delete", resources=(going,))
    assert (done(plan), fact(plan)[0]) == ([], "Deleting")
    assert done(leaving("Delete")) == ["delete Namespace shop"]


def test_delete_waits_until_the_namespace_is_gone_and_then_forgets_it() -> None:
    plan = leaving("Delete", metadata={"deletionTimestamp": NOW})
    assert (done(plan), fact(plan)[0]) == ([], "Deleting")
    subject = tenant(deletionPolicy="Delete")
    gone = seen(subject, namespace(subject, "team-a"), bound=("team-a", "shop"))
    gone = replace(gone, children={ref: it for ref, it in gone.children.items() if ref.namespace != "shop"})
    assert done(plan_tenant(subject, gone)) == ["release namespace shop"]


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_an_adopted_namespace_is_left_as_it_was_whatever_the_policy(policy: str) -> None:
    plan = leaving(policy, adopted=True, leaving_connections={"shop": SECRET})
    assert done(plan)[0] == "delete Secret shop/pipewright-database"
    assert "delete ResourceQuota shop/pipewright" in done(plan)
    assert "delete NetworkPolicy shop/pipewright-default-deny" in done(plan)
    assert "delete Namespace shop" not in done(plan)
    assert done(plan)[-1] == BINDINGS[-1]


def test_what_was_in_an_adopted_namespace_under_our_name_is_not_ours_to_delete() -> None:
    subject = tenant()
    shop = namespace(GROWN, "shop", adopted=True)
    observed = seen(subject, namespace(subject, "team-a"), shop, bound=("team-a", "shop"))
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pipewright", "uid": "x"}}
    children = {ref: it for ref, it in observed.children.items() if ref.namespace != "shop"}
    children[Ref(api_version="v1", kind="ServiceAccount", namespace="shop", name="pipewright")] = theirs
    assert done(plan_tenant(subject, replace(observed, children=children))) == [
        REMOVED,
        "release namespace shop",
    ]


def test_one_that_was_bound_and_never_marked_is_not_deleted() -> None:
    plan = leaving("Delete", inside=False, metadata={"labels": {}})
    assert done(plan) == [REMOVED, "release namespace shop"]


def test_a_namesake_of_a_namespace_that_left_is_nobodys_business() -> None:
    assert done(leaving("Delete", metadata={"uid": "another"})) == ["release namespace shop"]


def test_a_teardown_deletes_what_it_made_and_releases_what_it_adopted() -> None:
    subject = tenant(deleting=True, deletionPolicy="Delete")
    there = (namespace(subject, "team-a"), namespace(subject, "shop", adopted=True))
    going = replace(registered("team-a", "shop"), state="Deleting")
    observed = seen(subject, *there, bound=("team-a", "shop"), registration=going)
    first = done(plan_teardown(subject, observed))
    assert "delete RoleBinding shop/pipewright-provisioner" in first
    assert not [it for it in first if "Namespace" in it or "team-a/" in it]
    observed = replace(observed, children={})
    assert done(plan_teardown(subject, observed)) == [REMOVED, "release namespace shop"]
    released = {**there[1], "metadata": {"name": "shop", "uid": "uid-of-shop"}}
    observed = replace(
        observed,
        namespaces={"team-a": there[0], "shop": released},
        registration=replace(going, namespaces={"team-a": "uid-of-team-a"}),
    )
    assert done(plan_teardown(subject, observed)) == ["delete Namespace team-a"]


# -- labels and drift ----------------------------------------------------------------------------------------


def managed(manager: str, *labels: str) -> dict[str, Any]:
    fields = {"f:metadata": {"f:labels": {f"f:{label}": {} for label in labels}}}
    return {"manager": manager, "time": "2026-01-01T10:20:30Z", "fieldsV1": fields}


def test_the_specs_labels_and_annotations_are_set_and_ours_win() -> None:
    spec = {"name": "team-a", "labels": {"team": "a"}, "annotations": {"note": "b"}}
    made = objects.namespace(tenant(namespaces=[spec]), tenant_id=ID, name="team-a")
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["metadata"]["labels"]["pipewright.dev/tenant-uid"] == UID
    assert made["metadata"]["annotations"]["note"] == "b"


def test_a_label_that_the_spec_no_longer_has_is_removed_also_where_our_create_set_it() -> None:
    before = tenant(namespaces=[{"name": "team-a", "labels": {"team": "a"}}])
    there = namespace(before, "team-a", managedFields=[managed("pipewright", "team")])
    subject = tenant()
    assert done(plan_tenant(subject, seen(subject, there, bound=("team-a",)))) == [
        "apply Namespace team-a",
        "remove team from Namespace team-a",
    ]


def test_a_label_that_somebody_else_set_stays() -> None:
    subject = tenant()
    there = namespace(subject, "team-a", managedFields=[managed("kubectl", "team")])
    there["metadata"]["labels"] = {**there["metadata"]["labels"], "team": "a"}
    assert done(plan_tenant(subject, seen(subject, there, bound=("team-a",)))) == []


def test_who_changed_our_field_is_told_when_it_is_set_back() -> None:
    subject, label = tenant(), "pod-security.kubernetes.io/enforce"
    there = namespace(subject, "team-a", managedFields=[managed("kubectl-label", label)])
    there["metadata"]["labels"] = {**there["metadata"]["labels"], label: "privileged"}
    plan = plan_tenant(subject, seen(subject, there, bound=("team-a",)))
    [action] = [it for it in plan if "Namespace" in str(it)]
    assert getattr(action, "event", None) == "DriftCorrected"
    assert str(action) == (
        f"Namespace team-a: metadata.labels.{label} was changed by kubectl-label at 2026-01-01T10:20Z"
    )


# -- nodes ---------------------------------------------------------------------------------------------------

NODES = "scheduler.alpha.kubernetes.io/node-selector"
OWN = Server(name="main", region="eu", database_class="standard", node_selector={"pool": "eu", "disk": ""})
ANY = replace(OWN, node_selector={})
OTHER = replace(OWN, name="other", node_selector={"pool": "us"})
PLACED = "disk=,pool=eu"


def placed(nodes: str | None) -> dict[str, Any]:
    """A namespace as we made it with this node selector."""
    made = objects.namespace(tenant(), tenant_id=ID, name="team-a", nodes=nodes)
    return owned(made, by="pipewright") if nodes is not None else owned(made)


def owned(manifest: dict[str, Any], *, by: str | None = None) -> dict[str, Any]:
    """As it is stored, with who wrote the node selector."""
    fields = {"f:metadata": {"f:annotations": {f"f:{NODES}": {}}}}
    written = [{"manager": by, "time": "2026-01-01T10:20:30Z", "fieldsV1": fields}] if by else []
    metadata = {**manifest["metadata"], "uid": "uid-of-team-a", "managedFields": written}
    return {**manifest, "metadata": metadata}


def changed(there: dict[str, Any], nodes: str | None) -> dict[str, Any]:
    """The same one after somebody wrote the node selector, or removed it: then nobody owns it."""
    annotations = {key: it for key, it in there["metadata"]["annotations"].items() if key != NODES}
    annotations |= {NODES: nodes} if nodes is not None else {}
    metadata = {**there["metadata"], "annotations": annotations}
    return owned({**there, "metadata": metadata}, by="kubectl" if nodes is not None else None)


APPLY = "apply Namespace team-a"
PLACES: dict[str, tuple[dict[str, Any], tuple[Server, ...], list[str]]] = {
    "as the server says": (placed(PLACED), (OTHER, OWN), []),
    "any node, and no annotation": (placed(None), (OTHER, ANY), []),
    "the server got a selector": (placed(None), (OWN,), [APPLY]),
    "the server got another one": (placed("pool=us"), (OWN,), [APPLY]),
    "the server has none any more": (
        placed(PLACED),
        (ANY,),
        [APPLY, f"remove {NODES} from Namespace team-a"],
    ),
    "the settings no longer name the server": (placed(PLACED), (OTHER,), []),
    "nor had they a selector when they did": (placed(None), (OTHER,), []),
    "somebody changed it": (
        changed(placed(PLACED), "pool=us"),
        (OWN,),
        [f"Namespace team-a: metadata.annotations.{NODES} was changed by kubectl at 2026-01-01T10:20Z"],
    ),
    "somebody removed it": (
        changed(placed(PLACED), None),
        (OWN,),
        [f"Namespace team-a: metadata.annotations.{NODES} was changed"],
    ),
    "an administrator's own, where we have none": (changed(placed(None), "pool=us"), (ANY,), []),
}


@pytest.mark.parametrize(("there", "servers", "wanted"), PLACES.values(), ids=PLACES)
def test_pods_run_on_the_nodes_of_the_tenants_server(
    there: dict[str, Any], servers: tuple[Server, ...], wanted: list[str]
) -> None:
    assert done(plan_tenant(tenant(), seen(tenant(), there, bound=("team-a",), servers=servers))) == wanted


@pytest.mark.parametrize(("server", "nodes"), [(OWN, PLACED), (ANY, None), (OTHER, None)])
def test_a_namespace_is_created_with_its_node_selector(server: Server, nodes: str | None) -> None:
    subject = tenant()
    plan = plan_tenant(subject, seen(subject, servers=(server,), registration=registered()))
    [create] = [it for it in plan if isinstance(it, CreateNamespace)]
    assert create.manifest["metadata"]["annotations"].get(NODES) == nodes


def test_an_adoption_tells_that_it_overwrites_a_node_selector() -> None:
    there = stranger(annotations={NODES: "pool=us"})
    _, message, _ = fact(
        plan_tenant(ADOPTING, seen(ADOPTING, there, servers=(OWN,), registration=registered()))
    )
    assert message.endswith(f", overwrites metadata.annotations.{NODES}")
    _, message, _ = fact(
        plan_tenant(ADOPTING, seen(ADOPTING, there, servers=(ANY,), registration=registered()))
    )
    assert "overwrites" not in message


def test_a_released_namespace_loses_its_node_selector() -> None:
    subject = tenant(namespaces=[{"name": "shop"}])
    observed = seen(
        subject, namespace(subject, "shop"), placed(PLACED), bound=("shop", "team-a"), servers=(OWN,)
    )
    children = {ref: it for ref, it in observed.children.items() if ref.namespace == "shop"}
    left = [it for it in done(plan_tenant(subject, replace(observed, children=children))) if "team-a" in it]
    assert NODES in left[0]
    assert left[1:] == ["release namespace team-a"]


# -- quota and network ---------------------------------------------------------------------------------------


def test_gpus_are_part_of_the_quota() -> None:
    subject = tenant(quota={"pods": 3}, gpuQuota=2)
    quota, *_ = objects.in_namespace(subject, tenant_id=ID, namespace="team-a")
    assert quota["spec"]["hard"] == {"pods": "3", "requests.nvidia.com/gpu": "2"}


def test_two_namespaces_share_the_quota() -> None:
    subject = tenant(namespaces=[{"name": "team-a"}, {"name": "shop"}], quota={"pods": "4"})
    there = [namespace(subject, name) for name in ("team-a", "shop")]
    observed = seen(subject, *there, bound=("team-a", "shop"))
    refs = [objects.quota_ref(name) for name in ("team-a", "shop")]
    observed = replace(observed, children={**observed.children, **dict.fromkeys(refs)})
    hard = {
        manifest["metadata"]["namespace"]: manifest["spec"]["hard"]
        for action in plan_tenant(subject, observed)
        if (manifest := getattr(action, "manifest", {})).get("kind") == "ResourceQuota"
    }
    assert hard == {"team-a": {"pods": "2"}, "shop": {"pods": "2"}}


def test_what_waits_for_its_share_is_told() -> None:
    subject = tenant(namespaces=[{"name": "team-a"}, {"name": "shop"}], quota={"pods": "4"})
    there = [namespace(subject, name) for name in ("team-a", "shop")]
    observed = seen(subject, *there, bound=("team-a", "shop"))
    children = dict(observed.children)
    children[objects.quota_ref("shop")] = None
    assert fact(plan_tenant(subject, replace(observed, children=children)))[0] == "QuotaSettling"


def policies(**network: Any) -> dict[str, Any]:
    subject = tenant(network=network)
    made = objects.network(subject, tenant_id=ID, namespace="team-a")
    return {it["metadata"]["name"]: it["spec"] for it in made}


def test_strict_without_a_list_has_three_policies() -> None:
    made = policies()
    assert set(made) == {"pipewright-default-deny", "pipewright-allow-dns", "pipewright-same-tenant"}
    denied = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}
    assert made["pipewright-default-deny"] == denied


def test_what_is_listed_is_allowed() -> None:
    made = policies(
        allowFrom=[{"namespace": "ingress"}, {"tenant": "team-b"}],
        egress=[
            {
                "cidr": "203.0.113.0/24",
                "ports": [{"port": 443}, {"port": 5000, "endPort": 5009, "protocol": "UDP"}],
            }
        ],
    )["pipewright-allow-listed"]
    assert made["ingress"] == [
        {
            "from": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}},
                {"namespaceSelector": {"matchLabels": {"pipewright.dev/tenant": "team-b"}}},
            ]
        }
    ]
    assert made["egress"] == [
        {
            "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
            "ports": [
                {"protocol": "TCP", "port": 443},
                {"protocol": "UDP", "port": 5000, "endPort": 5009},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("cidr", "closed"),
    [
        ("0.0.0.0/0", ["169.254.169.254/32"]),
        ("169.254.0.0/16", ["169.254.169.254/32"]),
        ("169.254.169.254/31", ["169.254.169.254/32"]),
        ("169.254.169.252/31", None),
        ("10.0.0.0/8", None),
        ("::/0", ["fd00:ec2::254/128"]),
        ("fd00::/8", ["fd00:ec2::254/128"]),
        ("2001:db8::/32", None),
    ],
)
def test_the_metadata_services_are_never_among_the_addresses(cidr: str, closed: list[str] | None) -> None:
    [rule] = policies(egress=[{"cidr": cidr}])["pipewright-allow-listed"]["egress"]
    assert rule["to"][0]["ipBlock"].get("except") == closed


def test_open_allows_all_but_the_metadata_services() -> None:
    made = policies(isolation="Open")["pipewright-allow-listed"]
    assert made["ingress"] == [{}]
    blocks = [peer["ipBlock"] for peer in made["egress"][0]["to"] if "ipBlock" in peer]
    assert blocks == [
        {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]},
        {"cidr": "::/0", "except": ["fd00:ec2::254/128"]},
    ]


@pytest.mark.parametrize("isolation", ["Strict", "Open"])
def test_every_policy_is_looked_at(isolation: str) -> None:
    names = set(policies(isolation=isolation, allowFrom=[{"tenant": "b"}]))
    assert names == {ref.name for ref in objects.possible("team-a") if ref.kind == "NetworkPolicy"}
