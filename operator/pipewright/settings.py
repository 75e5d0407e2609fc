"""The settings of one process: a YAML file, named by the one environment variable that is read here.

Secrets are paths of files, as Kubernetes mounts them; `read_secret` reads one when it is needed. What is
wrong is said with the field's name before anything starts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

VARIABLE = "PIPEWRIGHT_SETTINGS"

_MIB = 1024 * 1024


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, the field and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Listen(_Part):
    """Where this process serves: health and metrics (operator), or the REST API (gateway)."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)]


class PlatformDatabase(_Part):
    """The platform database, as this process's own login."""

    dsn_file: Path


Label = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


Extension = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_-]*$")]


NodeLabel = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
NodeLabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
]


class Server(_Part):
    """A server for tenants' databases. The logins are the provisioner's only."""

    name: Label
    """Its name in the registry, for as long as a tenant is on it."""
    region: Label = "local"
    """What a Tenant's placement.region names."""
    database_class: Label = "standard"
    """What a Tenant's placement.class names."""
    capacity: Annotated[int, Field(ge=1)] | None = None
    """How many tenants it takes, retained ones included; absent for as many as come."""
    extensions: Annotated[tuple[Extension, ...], Field(max_length=100)] = ()
    """PostgreSQL extensions that a Tenant may ask for; Pipewright itself makes trusted ones only."""
    node_selector: Annotated[
        dict[NodeLabel, NodeLabelValue],
        Field(max_length=16, json_schema_extra={"additionalProperties": False}),
    ] = {}
    """Labels of the nodes that pods of tenants on this server run on; needs admission by PodNodeSelector."""
    host: str
    """Where tenants and the other processes reach it."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its port there."""
    provisioner_dsn_file: Path | None = None
    """File with the connection string of the login that makes databases and roles."""
    migrator_dsn_file: Path | None = None
    """File with the connection string of the login that migrates Pipewright's schema."""
    dumper_dsn_file: Path | None = None
    """File with the connection string of the login that takes a last dump before a drop."""


class Vault(_Part):
    """Vault (or OpenBao), by Kubernetes auth with this process's ServiceAccount token, or by a token.

    Absent altogether, secrets lie in Kubernetes Secrets. Decide once: what is in the one is not in the other.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["role", "jwtFile"]}, {"required": ["tokenFile"]}]}
    )

    address: str
    role: str | None = None
    """The Kubernetes-auth role of this process; with jwtFile."""
    jwt_file: Path | None = None
    """File with this process's ServiceAccount token for Vault; with role."""
    token_file: Path | None = None
    """File with a token of Vault, for development, instead of role and jwtFile; renewed where it can be."""
    mount: str = "tenants"
    transit: str = "transit"
    database: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Mount of the database engine that makes short-lived logins; absent: a Tenant cannot have any."""

    @model_validator(mode="after")
    def _logs_in_by_one_way(self) -> Self:
        by_role = (self.role is not None, self.jwt_file is not None)
        if by_role != (self.token_file is None,) * 2:
            raise ValueError("name role and jwtFile (Kubernetes auth), or tokenFile, and not both")
        return self


class Sealing(_Part):
    """The gateway's public key (X25519, 32 raw bytes, base64)."""

    public_key_file: Path


class Gateway(_Part):
    """The gateway's private key, its address as providers reach it, its tokens' audience, its largest bodies.

    A larger body is answered 413. Bodies under way are held in memory: allow no more than providers need.
    """

    private_key_file: Path | None = None
    base_url: str
    audience: str = "pipewright"
    token_file: Path | None = None
    """The runner's ServiceAccount token of this audience: with it the runner hands in what it reads."""
    hook_body_bytes: Annotated[int, Field(ge=1024, le=25 * _MIB)] = _MIB
    """Of one webhook delivery. GitHub sends up to 25 MiB; events of runs and jobs have some 20 KiB."""
    import_body_bytes: Annotated[int, Field(ge=1024, le=1024 * _MIB)] = 64 * _MIB
    """Of one import of history: some 50,000 runs with their jobs fit into 64 MiB. Send more in several."""
    database_connections: Annotated[int, Field(ge=16, le=5000)] = 40
    """Connections that one gateway process opens at most, to all databases of all servers together.

    Replicas × this must fit into each server's `max_connections`, 100 as PostgreSQL comes, beside what others
    need. Some two for each tenant whose events come at the same moment are enough; with fewer they wait."""


DEFAULT_CLUSTER = "default"
"""What Models may call the cluster of `ray`, which they need not name."""


class Ray(_Part):
    """A Ray cluster's Jobs API."""

    address: str
    token_file: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        host = urlsplit(self.address).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")


class RayCluster(Ray):
    """One more Ray cluster, which Models name."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class KubeRay(_Part):
    """Ray clusters that KubeRay makes, one for each training, in the Model's namespace."""

    image: Annotated[str, Field(min_length=1, max_length=255)]
    """The training image, for Models that name none: Ray, and this release's package `ml`."""


class MlFlow(_Part):
    """An MLflow tracking server, on which the runner records trainings and registers versions."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"username": ["tokenFile"]}})

    uri: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
    """Its address, e.g. https://mlflow.example.com."""
    token_file: Path | None = None
    """File with a bearer token, or with the password of `username`; read for each request."""
    username: Annotated[str, Field(max_length=256)] | None = None
    """Whose password the file has, for MLflow's own (basic) authentication."""
    experiment: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s'\"]+$")] = "pipewright"
    """Runs go to the experiment `<this>/<tenant>`."""
    alias: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")] = "active"
    """The alias of a registered model's version that predicts."""

    @model_validator(mode="after")
    def _a_user_has_a_password(self) -> Self:
        if self.username is not None and self.token_file is None:
            raise ValueError("username needs tokenFile, the file with its password")
        return self


class Artifacts(_Part):
    """Where data windows, model artifacts and last dumps lie: a folder (file:///…) or a bucket (s3://…)."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {
                "accessKeyIdFile": ["secretAccessKeyFile"],
                "secretAccessKeyFile": ["accessKeyIdFile"],
            },
            "if": {"properties": {"url": {"pattern": "^file:"}}},
            "then": {
                "properties": {"region": False, "endpoint": False, "accessKeyIdFile": False},
            },
        }
    )

    url: Annotated[str, Field(pattern=r"^(file:///|s3://[a-z0-9])[^\s?#@]*$")]
    region: str | None = None
    """The bucket's region."""
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")] | None = None
    """The address of a bucket that is not AWS's."""
    access_key_id_file: Path | None = None
    """With `secretAccessKeyFile`, read again every five minutes; without both the credentials come from where
    AWS' tools have them: the environment, a web identity, the instance."""
    secret_access_key_file: Path | None = None

    @property
    def is_bucket(self) -> bool:
        """Whether it lies in S3, or in what speaks its protocol."""
        return self.url.startswith("s3://")

    @model_validator(mode="after")
    def _a_key_has_two_parts(self) -> Self:
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            raise ValueError("accessKeyIdFile and secretAccessKeyFile are set together, or neither is")
        if not self.is_bucket and (self.region or self.endpoint or self.access_key_id_file):
            raise ValueError("region, endpoint and keys are for a bucket (s3://…), not for a folder")
        return self


class Outbound(_Part):
    """What connectors may reach although it is private, loopback or plain http: `host:port`."""

    allow: tuple[str, ...] = ()


Distribution = Annotated[str, Field(min_length=1, max_length=100)]


class Connectors(_Part):
    """Connectors beside those of this release. The gateway and the runner need the same."""

    folders: Annotated[tuple[Path, ...], Field(max_length=20)] = ()
    """Folders with manifests, `<name>.yaml` each."""
    packages: Annotated[tuple[Distribution, ...], Field(max_length=100)] = ()
    """Installed Python distributions whose connectors may run in this process; of no other is code loaded."""


class Settings(_Part):
    """Everything that one process is told."""

    component: Literal["provisioner", "runner", "gateway"]
    controllers: tuple[Literal["tenant", "integration", "workflow", "workflowrun", "model"], ...] = ()
    identity: str
    system_namespace: str = "pipewright-system"
    kubeconfig: Path | None = None
    listen: Listen
    platform_database: PlatformDatabase
    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    vault: Vault | None = None
    sealing: Sealing | None = None
    gateway: Gateway | None = None
    ray: Ray | None = None
    """The Ray cluster for Models that name none."""
    ray_clusters: Annotated[tuple[RayCluster, ...], Field(max_length=20)] = ()
    """More of them, by name."""
    kube_ray: KubeRay | None = None
    artifacts: Artifacts | None = None
    mlflow: MlFlow | None = None
    """Absent: trainings are recorded in the tenant's database and in the status alone."""
    pg_dump: Path | None = None
    """The program that takes a last dump before a drop: of the servers' major version or newer."""
    outbound: Outbound = Outbound()
    connectors: Connectors = Connectors()
    data_key_rotation_days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """After how many days another key wraps a tenant's data key, which stays; absent for on demand only."""
    resync_seconds: Annotated[float, Field(gt=0)] = 3600.0
    isolation_proofs: bool = True
    """Whether each tenant's own credentials are tried at another tenant's doors in every such period."""
    otlp_endpoint: str | None = None

    @model_validator(mode="after")
    def _servers_have_names_of_their_own(self) -> Self:
        for what, names in (
            ("servers", [server.name for server in self.servers]),
            ("Ray clusters", [DEFAULT_CLUSTER, *(cluster.name for cluster in self.ray_clusters)]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {what} have the name {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _a_ray_elsewhere_has_no_folder(self) -> Self:
        clusters = (*((self.ray,) if self.ray else ()), *self.ray_clusters)
        elsewhere = self.kube_ray is not None or not all(cluster.is_local for cluster in clusters)
        if self.artifacts and not self.artifacts.is_bucket and elsewhere:
            raise ValueError(
                "artifacts.url: a Ray cluster on other machines does not see this folder: use a bucket (s3://…)"
            )
        return self


def load() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: the variable is missing, or the file is not what it must be.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise SettingsError(f"set {VARIABLE} to the path of this process's settings file")
    return read(Path(named))


def read(path: Path) -> Settings:
    """The settings in a file.

    Raises:
        SettingsError: the file cannot be read, or a field is missing, unknown or out of bounds.
    """
    try:
        return Settings.model_validate(yaml.safe_load(path.read_text()))
    except OSError as broken:
        raise SettingsError(f"cannot read {path}: {broken.strerror}") from None
    except yaml.YAMLError:
        raise SettingsError(f"{path} is not YAML") from None
    except pydantic.ValidationError as refused:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in refused.errors())
        raise SettingsError(f"{path}: {wrong}") from None


def read_secret(path: Path) -> str:
    """The content of a mounted secret, without the line break at its end.

    Raises:
        SettingsError: the file cannot be read or is empty.
    """
    try:
        text = path.read_text().strip()
    except OSError as broken:
        raise SettingsError(f"cannot read the secret file {path}: {broken.strerror}") from None
    if not text:
        raise SettingsError(f"the secret file {path} is empty")
    return text
