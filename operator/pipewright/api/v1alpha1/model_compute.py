"""Where a Model is trained: on a Ray cluster of the operator's settings, or on one of its own by KubeRay."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import Base, Between, DnsLabel, Duration, Quantity, Rule, parse_duration, rules
from pipewright.api.v1alpha1.tenant_namespaces import LabelValue

_ONE_OF_THEM = Rule(
    cel="has(self.cluster) != has(self.kubeRay)",
    message="compute must have either cluster, a name in the operator's settings, or kubeRay",
)
_VALUE_GOES_WITH_EQUAL = Rule(
    cel="self.operator == 'Equal' ? has(self.key) : !has(self.value)",
    message="a toleration with the operator Equal needs a key, and one with Exists has no value",
)


class Toleration(Base):
    """A taint of nodes that the training's pod bears, as in a Pod."""

    model_config = ConfigDict(json_schema_extra=rules(_VALUE_GOES_WITH_EQUAL))

    key: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """The taint's key; absent for all, with the operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value must be the same, or any will do."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent for all."""


class KubeRay(Base):
    """A Ray cluster of one pod, made by KubeRay in the model's namespace for each training."""

    image: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s]+$")] | None = None
    """The image with Ray and Pipewright's ml package; the one of the operator's settings when absent."""
    cpus: Annotated[int, Field(ge=1, le=64)] = 1
    """How many cores the pod asks for."""
    memory: Quantity = "4Gi"
    """How much memory the pod asks for and may use."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """How many GPUs (nvidia.com/gpu) the pod asks for."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = None
    """Labels that the pod's node must have."""
    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Taints of nodes that the pod bears."""
    queue_name: DnsLabel | None = None
    """The Kueue LocalQueue that admits the training; none when absent."""
    start_deadline: Annotated[Duration, Between("1m", "24h")] = parse_duration("15m")
    """How long the cluster may take to start, once it is admitted, before the training fails, 1m to 24h."""


class Compute(Base):
    """Where trainings run; exactly one of the fields."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_OF_THEM))

    cluster: DnsLabel | None = None
    """The name of a Ray cluster in the operator's settings."""
    kube_ray: KubeRay | None = None
    """A Ray cluster of its own for each training, by KubeRay."""
