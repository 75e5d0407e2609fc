"""A Tenant's namespaces, and what bounds the work in them: quota, container limits, network."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import Base, DnsLabel, Quantity, Rule, Ruled, rules

RESERVED = "['default', 'pipewright-system', 'pipewright-system-secrets', 'pipewright-system-runner']"
"""Names of namespaces that belong to the cluster, beside kube-*; as CEL writes a list."""

_COUNTED = (
    "['cpu', 'memory', 'ephemeral-storage', 'pods', 'services', 'secrets', 'configmaps',"
    " 'replicationcontrollers', 'resourcequotas', 'persistentvolumeclaims',"
    " 'services.loadbalancers',"
    " 'services.nodeports', 'limits.cpu', 'limits.memory', 'limits.ephemeral-storage']"
)
_LIMITED = "['cpu', 'memory', 'ephemeral-storage']"

_NOT_RESERVED = Rule(
    cel=f"!(self.name in {RESERVED}) && !self.name.startsWith('kube-')",
    message="namespaces[].name must not be default, pipewright-system or kube-*: these belong to the cluster",
    field_path=".name",
)
_ADOPTED_STAYS_ADOPTED = Rule(
    cel="self.adopt || !oldSelf.adopt",
    message="adopt cannot be taken back: an adopted namespace would become one that is deleted; take it out"
    " of spec.namespaces to release it",
    field_path=".adopt",
)
_NOT_OURS = Rule(
    cel="self.all(key, !key.matches('^([^/]*[.])?(pipewright[.]dev|kubernetes[.]io|k8s[.]io)/'))",
    message="must not have keys of pipewright.dev, kubernetes.io or k8s.io: these belong to Pipewright and to"
    " the cluster",
)
_KEYS = Rule(
    cel="self.all(key, key.matches('^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}"
    "[A-Za-z0-9])?$'))",
    message="keys must be names of at most 63 characters, with a prefix such as example.com/ if you like",
)
_QUOTA_KEYS = Rule(
    cel=f"self.all(key, key in {_COUNTED} || key.startsWith('requests.') || key.startsWith('count/')"
    " || key.startsWith('hugepages-') || key.contains('.storageclass.storage.k8s.io/'))",
    message="quota has a key that a ResourceQuota does not count: use for example requests.cpu,"
    " limits.memory, pods or count/jobs.batch",
)
_LIMIT_KEYS = Rule(
    cel=f"self.all(key, key in {_LIMITED})", message="keys must be cpu, memory or ephemeral-storage"
)
_METADATA_SERVICES = "['169.254.169.254/32', 'fd00:ec2::254/128']"
_IS_CIDR = Rule(
    cel="isCIDR(self) && cidr(self) == cidr(self).masked()",
    message="must be a CIDR whose host bits are zero, for example 203.0.113.0/24 or 2001:db8::/32",
)
_NOT_METADATA = Rule(
    cel=f"!isCIDR(self) || {_METADATA_SERVICES}.all(service, !cidr(service).containsCIDR(self))",
    message="must not be the address of the cloud's metadata service: no tenant reaches it",
)


def _at_most(lower: str, upper: str) -> Rule:
    """Return the rule that no quantity of the map ``lower`` exceeds the same key of ``upper``."""
    exceeds = f"quantity(string(self.{lower}[key])).compareTo(quantity(string(self.{upper}[key]))) > 0"
    return Rule(
        cel=f"!has(self.{lower}) || !has(self.{upper})"
        f" || self.{lower}.all(key, !(key in self.{upper} && {exceeds}))",
        message=f"limits.{lower} must not exceed limits.{upper}",
        field_path=f".{lower}",
    )


LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Labels = Annotated[dict[str, LabelValue], Field(max_length=16), Ruled(_NOT_OURS, _KEYS)]
AnnotationValue = Annotated[str, Field(max_length=1024)]
Annotations = Annotated[dict[str, AnnotationValue], Field(max_length=16), Ruled(_NOT_OURS, _KEYS)]
Quota = Annotated[dict[str, Quantity], Field(max_length=32), Ruled(_QUOTA_KEYS)]
Limit = Annotated[dict[str, Quantity], Field(max_length=3), Ruled(_LIMIT_KEYS)]
Cidr = Annotated[str, Field(min_length=3, max_length=43), Ruled(_IS_CIDR, _NOT_METADATA)]


class TenantNamespace(Base):
    """A namespace that the tenant owns."""

    model_config = ConfigDict(json_schema_extra=rules(_NOT_RESERVED, _ADOPTED_STAYS_ADOPTED))

    name: DnsLabel
    """The namespace's name; not default, pipewright-system or kube-*."""
    labels: Labels | None = None
    """Labels of the namespace beside ours; one that is taken out of here is removed from it."""
    annotations: Annotations | None = None
    """Annotations of the namespace beside ours; one that is taken out of here is removed from it."""
    adopt: bool = False
    """Whether to take over a namespace that exists already; such a one is released and never deleted."""


TenantNamespaces = Annotated[
    tuple[TenantNamespace, ...],
    Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]


class Limits(Base):
    """Bounds of each container in the tenant's namespaces (a LimitRange)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _at_most("defaultRequest", "default"),
            _at_most("defaultRequest", "max"),
            _at_most("default", "max"),
        )
    )

    default: Limit | None = None
    """Limits of a container that names none, by resource: cpu, memory, ephemeral-storage."""
    default_request: Limit | None = None
    """Requests of a container that names none, by resource: cpu, memory, ephemeral-storage."""
    max: Limit | None = None
    """The most that one container may have as its limit, by resource: cpu, memory, ephemeral-storage."""


class Source(Base):
    """Somebody who may talk to the tenant's pods: one namespace, or all of another tenant's."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                cel="has(self.__namespace__) != has(self.tenant)",
                message="must name either a namespace or a tenant",
            )
        )
    )

    namespace: DnsLabel | None = None
    """The name of a namespace, whoever's it is."""
    tenant: Annotated[DnsLabel, Field(max_length=40)] | None = None
    """The name of a Tenant, all of whose namespaces are meant."""


class EgressPort(Base):
    """A port, or a range of ports."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                cel="!has(self.endPort) || self.endPort >= self.port",
                message="endPort must not be less than port",
                field_path=".endPort",
            )
        )
    )

    port: Annotated[int, Field(ge=1, le=65535)]
    """The port, or the first one of the range."""
    end_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The last port of the range."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """The protocol: TCP, UDP or SCTP."""


class Egress(Base):
    """Addresses outside the tenant's namespaces that its pods may talk to."""

    cidr: Cidr
    """The addresses; the cloud's metadata services among them stay closed."""
    ports: Annotated[tuple[EgressPort, ...], Field(max_length=20)] = ()
    """The ports; all of them where the list is empty."""


class Network(Base):
    """Whom the pods in the tenant's namespaces may talk to, and who may talk to them."""

    isolation: Literal["Strict", "Open"] = "Strict"
    """Strict allows DNS, the tenant's own pods and what is listed; Open all but cloud metadata services."""
    allow_from: Annotated[tuple[Source, ...], Field(max_length=50)] = ()
    """Who else may talk to the tenant's pods."""
    egress: Annotated[tuple[Egress, ...], Field(max_length=50)] = ()
    """What else the tenant's pods may talk to."""


__all__ = [
    "RESERVED",
    "Annotations",
    "Egress",
    "EgressPort",
    "Labels",
    "Limits",
    "Network",
    "Quota",
    "Source",
    "TenantNamespace",
    "TenantNamespaces",
]
