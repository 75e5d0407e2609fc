"""What all kinds share: the camelCase base, conditions, status and the resource itself.

The API server is the judge of a manifest: every rule here that refuses a value is also in the generated CRD,
so ``parse`` accepts whatever the server stored. The reverse is not true: CEL rules run in the server only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from pipewright.api.rules import OVERLAP_IS_SHORTER, Matching, Rule, Ruled, immutable, rules, shorter
from pipewright.api.scalars import (
    LABEL_PATTERN,
    Between,
    Cel,
    Count,
    Digest,
    DnsLabel,
    Duration,
    JsonObject,
    Quantity,
    Time,
    format_duration,
    now_without_fraction,
    parse_duration,
)

__all__ = [
    "AGE",
    "CATEGORY",
    "GROUP",
    "LABEL_PATTERN",
    "MESSAGE",
    "OVERLAP_IS_SHORTER",
    "VERSION",
    "Base",
    "Between",
    "Cel",
    "Column",
    "Condition",
    "Count",
    "Digest",
    "DnsLabel",
    "Duration",
    "JsonObject",
    "Matching",
    "ObjectMeta",
    "Quantity",
    "Resource",
    "Rule",
    "Ruled",
    "Status",
    "Time",
    "condition_columns",
    "format_duration",
    "immutable",
    "now_without_fraction",
    "parse_duration",
    "rules",
    "shorter",
]

GROUP = "pipewright.dev"
VERSION = "v1alpha1"
CATEGORY = "pipewright"


class Base(BaseModel):
    """A value of the contract: immutable, camelCase on the wire, unknown fields ignored.

    Ignored rather than refused because the API server has pruned what the CRD does not know, and a CRD newer
    than this process must not stop it.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, Any]:
        """Return the value as the JSON object that the API server keeps; what is absent is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(Base):
    """One aspect of the object's state, as metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*)$")]
    """What the condition is about, e.g. Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds: True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*)$")]
    """Why, as one CamelCase word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, as a sentence for people, with the next step where there is one."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Count | None = None
    """The metadata.generation that the condition speaks about."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class Status(Base):
    """What every kind's status has; written by Pipewright only."""

    observed_generation: Count | None = None
    """The metadata.generation that this status speaks about."""
    conditions: Conditions = ()
    """The state of the object by aspect; Ready (or Succeeded for a run) sums them up."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Return ``raw`` as far as it can be read; what an older version left in another shape is dropped.

        Status is what we told others, never what we remember: losing a part of it costs one rewrite.
        """
        fields = dict(raw) if isinstance(raw, Mapping) else {}
        try:
            return cls.model_validate(fields)
        except ValidationError as refused:
            broken = {str(error["loc"][0]) for error in refused.errors() if error["loc"]}
            return cls.model_validate({key: value for key, value in fields.items() if key not in broken})


class ObjectMeta(Base):
    """What we read of an object's metadata."""

    name: str = ""
    """The object's name."""
    namespace: str | None = None
    """The namespace it lies in; absent for cluster-scoped kinds."""
    uid: str = ""
    """The identity of this very object; another one of the same name has another."""
    generation: int = 0
    """Counts the changes of the spec."""
    resource_version: str = ""
    """The version to compare and swap by."""
    creation_timestamp: Time | None = None
    """When it was created."""
    deletion_timestamp: Time | None = None
    """When somebody asked for its deletion; absent while nobody did."""
    finalizers: tuple[str, ...] = ()
    """Who must still clean up before the object may go."""
    labels: dict[str, str] = {}
    """Its labels."""
    annotations: dict[str, str] = {}
    """Its annotations."""

    @field_validator("labels", "annotations", "finalizers", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object, info: Any) -> object:
        return value if value is not None else cls.model_fields[info.field_name].default

    def requested(self, annotation: str) -> datetime | None:
        """Return the time that an annotation names; None when there is none, or it is no RFC 3339."""
        try:
            asked = datetime.fromisoformat(self.annotations.get(annotation, ""))
        except ValueError:
            return None
        return asked if asked.tzinfo is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of ``kubectl get``; those of a priority above 0 show with ``-o wide``."""

    name: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    path: str
    description: str
    priority: int = 0


def condition_columns(summary: str = "Ready") -> tuple[Column, Column]:
    """Return the columns for the condition that sums up a kind, and for its reason."""
    path = f'.status.conditions[?(@.type=="{summary}")]'
    return (
        Column(name=summary, path=f"{path}.status", description=f"Status of the {summary} condition."),
        Column(name="Reason", path=f"{path}.reason", description=f"Reason of the {summary} condition."),
    )


MESSAGE = Column(
    name="Message",
    path='.status.conditions[?(@.type=="Ready")].message',
    description="Message of the Ready condition.",
    priority=1,
)
AGE = Column(
    name="Age", type="date", path=".metadata.creationTimestamp", description="Time since the creation."
)


class Resource(Base):
    """An object of one of our kinds; the subclass adds ``spec``, ``status`` and what the CRD needs."""

    group: ClassVar[str] = GROUP
    version: ClassVar[str] = VERSION
    api_version: ClassVar[str] = f"{GROUP}/{VERSION}"
    kind: ClassVar[str]
    plural: ClassVar[str]
    singular: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    scope: ClassVar[Literal["Cluster", "Namespaced"]]
    name_length: ClassVar[int] = 63
    """The longest metadata.name; it fits a label's value."""
    printer_columns: ClassVar[tuple[Column, ...]]
    selectable_fields: ClassVar[tuple[str, ...]] = ()
    """What ``--field-selector`` takes beside the name and the namespace."""

    metadata: ObjectMeta

    @model_validator(mode="before")
    @classmethod
    def _is_of_this_kind(cls, manifest: object) -> object:
        if isinstance(manifest, Mapping):
            found = (manifest.get("apiVersion", cls.api_version), manifest.get("kind", cls.kind))
            if found != (cls.api_version, cls.kind):
                raise ValueError(f"expected {cls.api_version} {cls.kind}, found {found[0]} {found[1]}")
        return manifest

    @field_validator("status", mode="before", check_fields=False)
    @classmethod
    def _lenient_status(cls, raw: object) -> object:
        annotation = cls.model_fields["status"].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Status)
        return raw if isinstance(raw, annotation) else annotation.parse(raw)

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Return the object that the API server answered.

        Raises:
            pydantic.ValidationError: it is of another kind, or its spec is not what the CRD promises.
        """
        return cls.model_validate(dict(manifest))

    @classmethod
    def parse_for_teardown(cls, manifest: Mapping[str, Any]) -> Self:
        """Return the object with the kind's defaults for the fields of its spec that cannot be read.

        Who asked for the deletion does not want the spec any more, only what is there to go away. A field
        is dropped as a whole: half of a list would be another wish than the one that was written.

        Raises:
            pydantic.ValidationError: what cannot be read has no default, or does not lie in the spec.
        """
        try:
            return cls.parse(manifest)
        except ValidationError as refused:
            readable = _readable(manifest.get("spec"), refused)
        return cls.parse({**manifest, "spec": readable})

    def dump(self) -> dict[str, Any]:
        """Return the object as a manifest."""
        return {"apiVersion": self.api_version, "kind": self.kind, **super().dump()}

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """metadata.namespace; empty for cluster-scoped kinds."""
        return self.metadata.namespace or ""

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return self.metadata.uid

    @property
    def generation(self) -> int:
        """metadata.generation."""
        return self.metadata.generation

    @property
    def deleting(self) -> bool:
        """Whether somebody asked for the object's deletion."""
        return self.metadata.deletion_timestamp is not None


def _readable(spec: object, refused: ValidationError) -> dict[str, Any]:
    """The fields of a spec that no error names; none when an error is about the spec as a whole."""
    places = [error["loc"] for error in refused.errors() if error["loc"][:1] == ("spec",)]
    if not isinstance(spec, Mapping) or any(len(place) == 1 for place in places):
        return {}
    broken = {place[1] for place in places}
    return {name: value for name, value in spec.items() if name not in broken}
