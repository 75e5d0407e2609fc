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
from pipewright.ports.provisioner import (
    Databases,
    DataKeys,
    Dumps,
    Logins,
    ProvisionerPorts,
    Registry,
    SecretGrants,
    ServerPorts,
)
from pipewright.ports.runner import (
    Actions,
    Decisions,
    Directory,
    Journal,
    Routes,
    RunnerPorts,
    Triggers,
)

__all__ = [
    "LOGINS",
    "Actions",
    "Clock",
    "Cluster",
    "Connection",
    "DataKeys",
    "Database",
    "Databases",
    "Decisions",
    "Directory",
    "Dump",
    "Dumps",
    "Issued",
    "Journal",
    "Login",
    "Logins",
    "ProvisionerPorts",
    "Registration",
    "Registry",
    "Routes",
    "RunnerPorts",
    "Sealer",
    "Secret",
    "SecretAccess",
    "SecretGrants",
    "SecretStore",
    "ServerPorts",
    "SystemClock",
    "Triggers",
    "WrappingKey",
]
