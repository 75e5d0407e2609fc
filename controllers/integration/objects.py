"""Names of an Integration's neighbours. The one object of ours is a Secret: `apply` makes it."""

from __future__ import annotations

from pipewright import runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.plan import Manifest, Ref


def credentials_ref(integration: Integration) -> Ref | None:
    """Names the Secret with the credentials; None where the spec does not."""
    if integration.spec.credentials is None:
        return None
    name = integration.spec.credentials.secret_ref.name
    return Ref(api_version="v1", kind="Secret", namespace=integration.namespace, name=name)


def webhook_secret_ref(integration: Integration) -> Ref:
    """Names the Secret for the provider's webhook settings."""
    name = runner_facts.webhook_secret(integration.name)
    return Ref(api_version="v1", kind="Secret", namespace=integration.namespace, name=name)


def belongs_to(integration: Integration, found: Manifest) -> bool:
    """Whether an object was made for this very Integration."""
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == integration.uid for owner in owners)
