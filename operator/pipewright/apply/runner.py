"""The runner's actions as port calls: this match says which area does what; the areas say how."""

from __future__ import annotations

from typing import assert_never

from pipewright.actions import RunnerAction, integration, objects, run, workflow
from pipewright.apply import integrations, runs
from pipewright.ports import RunnerPorts
from pipewright.runner_facts import Synced


async def perform(
    action: RunnerAction, *, ports: RunnerPorts, gateway_url: str, synced: list[Synced] | None = None
) -> None:
    """Do one action. `gateway_url` is the gateway's address as providers reach it.

    How far a history was read is appended to `synced`: the one thing that no later look could see.
    """
    match action:
        case integration.ReadHistory():
            (synced if synced is not None else []).append(await integrations.read_history(action, ports))
        case objects.ApplyObject():
            await ports.cluster.apply(action.manifest)
        case objects.CreateObject():
            await ports.cluster.create(action.manifest)
        case objects.DeleteObject():
            await ports.cluster.delete(action.ref, uid=action.uid)
        case (
            integration.IssueWebhookSecret()
            | integration.RotateWebhookSecret()
            | integration.BeginWebhookOverlap()
            | integration.RetireWebhookSecret()
            | integration.ProjectWebhookSecret()
            | integration.PublishRoute()
            | integration.RegisterWebhook()
            | integration.RepairWebhook()
            | integration.RemoveWebhook()
            | integration.LeaveWebhook()
            | integration.FillGap()
            | integration.NoteWebhook()
            | integration.WithdrawRoute()
            | integration.DeleteWebhookSecret()
        ):
            await integrations.perform(action, ports=ports, gateway_url=gateway_url)
        case workflow.PublishTriggers():
            await ports.triggers.publish(workflow_uid=action.workflow_uid, triggers=action.triggers)
        case workflow.WithdrawTriggers():
            await ports.triggers.withdraw(workflow_uid=action.workflow_uid)
        case (
            run.BeginRun()
            | run.SkipStep()
            | run.BeginStep()
            | run.PerformStep()
            | run.FinishStep()
            | run.FinishRun()
        ):
            await runs.perform(action, ports=ports)
        case _:
            assert_never(action)
