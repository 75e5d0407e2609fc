"""The vocabulary of effects: what a controller may do to the world, one module per area.

The unions mirror the privilege split: what the provisioner may do is not what the runner may do.
"""

from __future__ import annotations

from pipewright.actions.integration import (
    DeleteWebhookSecret,
    IntegrationAction,
    IssueWebhookSecret,
    ProjectWebhookSecret,
    PublishRoute,
    WithdrawRoute,
)
from pipewright.actions.objects import (
    ApplyObject,
    CorrectDrift,
    CreateObject,
    DeleteObject,
    ObjectAction,
    PlaceAction,
    RemoveMetadata,
)
from pipewright.actions.run import (
    BeginRun,
    BeginStep,
    FinishRun,
    FinishStep,
    PerformStep,
    RunAction,
    SkipStep,
)
from pipewright.actions.tenant import (
    BindNamespace,
    CreateDatabase,
    DisableLogins,
    DropDatabase,
    GrantSecretAccess,
    IssueCredentials,
    LimitConnections,
    MarkTenant,
    MigrateDatabase,
    ProjectConnection,
    PurgeSecrets,
    RegisterTenant,
    RevokeSecretAccess,
    SealGatewayBundle,
    SetLogins,
    TenantAction,
    UnbindNamespace,
)
from pipewright.actions.workflow import PublishTriggers, WithdrawTriggers, WorkflowAction

ProvisionerAction = ObjectAction | PlaceAction | TenantAction
RunnerAction = ObjectAction | IntegrationAction | WorkflowAction | RunAction

__all__ = [
    "ApplyObject",
    "BeginRun",
    "BeginStep",
    "BindNamespace",
    "CorrectDrift",
    "CreateDatabase",
    "CreateObject",
    "DeleteObject",
    "DeleteWebhookSecret",
    "DisableLogins",
    "DropDatabase",
    "FinishRun",
    "FinishStep",
    "GrantSecretAccess",
    "IntegrationAction",
    "IssueCredentials",
    "IssueWebhookSecret",
    "LimitConnections",
    "MarkTenant",
    "MigrateDatabase",
    "ObjectAction",
    "PerformStep",
    "PlaceAction",
    "ProjectConnection",
    "ProjectWebhookSecret",
    "ProvisionerAction",
    "PublishRoute",
    "PublishTriggers",
    "PurgeSecrets",
    "RegisterTenant",
    "RemoveMetadata",
    "RevokeSecretAccess",
    "RunAction",
    "RunnerAction",
    "SealGatewayBundle",
    "SetLogins",
    "SkipStep",
    "TenantAction",
    "UnbindNamespace",
    "WithdrawRoute",
    "WithdrawTriggers",
    "WorkflowAction",
]
