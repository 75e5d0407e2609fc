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
from pipewright.actions.objects import ApplyObject, CreateObject, DeleteObject, ObjectAction
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
    BeginOverlap,
    BindNamespace,
    CreateDatabase,
    CreateExtension,
    DisableLogins,
    DropDatabase,
    GrantSecretAccess,
    HandOverDatabase,
    HandOverSecrets,
    IssueCredentials,
    LimitConnections,
    MarkTenant,
    MigrateDatabase,
    ProjectConnection,
    PurgeSecrets,
    RebindTenant,
    RegisterTenant,
    RenewCredentials,
    RetireLogin,
    RevokeSecretAccess,
    RotateCredentials,
    SealGatewayBundle,
    SetLogins,
    TakeDump,
    TenantAction,
)
from pipewright.actions.workflow import PublishTriggers, WithdrawTriggers, WorkflowAction

ProvisionerAction = ObjectAction | TenantAction
RunnerAction = ObjectAction | IntegrationAction | WorkflowAction | RunAction

__all__ = [
    "ApplyObject",
    "BeginOverlap",
    "BeginRun",
    "BeginStep",
    "BindNamespace",
    "CreateDatabase",
    "CreateExtension",
    "CreateObject",
    "DeleteObject",
    "DeleteWebhookSecret",
    "DisableLogins",
    "DropDatabase",
    "FinishRun",
    "FinishStep",
    "GrantSecretAccess",
    "HandOverDatabase",
    "HandOverSecrets",
    "IntegrationAction",
    "IssueCredentials",
    "IssueWebhookSecret",
    "LimitConnections",
    "MarkTenant",
    "MigrateDatabase",
    "ObjectAction",
    "PerformStep",
    "ProjectConnection",
    "ProjectWebhookSecret",
    "ProvisionerAction",
    "PublishRoute",
    "PublishTriggers",
    "PurgeSecrets",
    "RebindTenant",
    "RegisterTenant",
    "RenewCredentials",
    "RetireLogin",
    "RevokeSecretAccess",
    "RotateCredentials",
    "RunAction",
    "RunnerAction",
    "SealGatewayBundle",
    "SetLogins",
    "SkipStep",
    "TakeDump",
    "TenantAction",
    "WithdrawRoute",
    "WithdrawTriggers",
    "WorkflowAction",
]
