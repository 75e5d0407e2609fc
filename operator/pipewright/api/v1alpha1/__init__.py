"""Version v1alpha1 of the five kinds."""

from pipewright.api.v1alpha1.integration import Integration
from pipewright.api.v1alpha1.model import Model
from pipewright.api.v1alpha1.tenant import Tenant
from pipewright.api.v1alpha1.workflow import Workflow
from pipewright.api.v1alpha1.workflowrun import WorkflowRun

__all__ = ["KINDS", "Integration", "Model", "Tenant", "Workflow", "WorkflowRun"]

KINDS = (Tenant, Integration, Model, Workflow, WorkflowRun)
"""All kinds, in the order in which a user meets them."""
