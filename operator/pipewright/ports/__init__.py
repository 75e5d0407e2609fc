"""What the controllers need of the world: small Protocols, answered by `pipewright.backends`.

Absent is a value (None), never an exception. Trouble comes as `pipewright.errors`. Secret values travel
only as `Secret`, whose text and repr are redacted.
"""

from pipewright.facts import (
    LOGINS,
    Connection,
    Database,
    Dump,
    Issued,
    Login,
    Registration,
    SecretAccess,
    WrappingKey,
)
from pipewright.ports.common import Clock, Cluster, Sealer, Secret, SecretStore, SystemClock
from pipewright.ports.isolation import (
    ClusterDoor,
    DatabaseDoor,
    Isolation,
    ProofBook,
    Proofs,
    SecretDoor,
)
from pipewright.ports.provisioner import (
    Databases,
    DataKeys,
    Dumps,
    Logins,
    ProvisionerPorts,
    Registry,
    Rollouts,
    SecretGrants,
    ServerPorts,
    Sweeps,
)
from pipewright.ports.runner import (
    Actions,
    Decisions,
    Directory,
    GapBook,
    HistoryImport,
    Journal,
    ProviderAccount,
    Routes,
    RunnerPorts,
    Triggers,
)

__all__ = [
    "LOGINS",
    "Actions",
    "Clock",
    "Cluster",
    "ClusterDoor",
    "Connection",
    "DataKeys",
    "Database",
    "DatabaseDoor",
    "Databases",
    "Decisions",
    "Directory",
    "Dump",
    "Dumps",
    "GapBook",
    "HistoryImport",
    "Isolation",
    "Issued",
    "Journal",
    "Login",
    "Logins",
    "ProofBook",
    "Proofs",
    "ProviderAccount",
    "ProvisionerPorts",
    "Registration",
    "Registry",
    "Rollouts",
    "Routes",
    "RunnerPorts",
    "Sealer",
    "Secret",
    "SecretAccess",
    "SecretDoor",
    "SecretGrants",
    "SecretStore",
    "ServerPorts",
    "Sweeps",
    "SystemClock",
    "Triggers",
    "WrappingKey",
]
