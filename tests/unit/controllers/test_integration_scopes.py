"""The scopes in an Integration's status: told, kept while nobody answers, gone with a refusal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controllers.integration import plan
from controllers.integration.history import Told
from controllers.integration.status import status
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus, ScopesStatus
from pipewright.plan import Results
from pipewright.runner_facts import CredentialCheck, Scopes

LAST = ScopesStatus(granted=("repo",), missing=())
MISSING = CredentialCheck(
    accepted=False,
    reason="ScopesMissing",
    message="it lacks the scopes repo",
    scopes=Scopes(granted=("gist",), missing=("repo",)),
)
VALID = CredentialCheck(
    accepted=True,
    reason="CredentialsValid",
    message="accepted",
    scopes=Scopes(granted=("repo", "workflow"), missing=()),
)
UNTOLD = CredentialCheck(accepted=True, reason="CredentialsValid", message="accepted")
DOWN = CredentialCheck(accepted=None, reason="Unreachable", message="it is down")
REFUSED = CredentialCheck(accepted=False, reason="CredentialsRefused", message="refused")


def project(
    check: CredentialCheck | None, *, told_of: int = 1, last: ScopesStatus | None = LAST
) -> IntegrationStatus:
    before = IntegrationStatus(observed_generation=told_of, scopes=last)
    subject = Integration.parse(
        {
            "metadata": {"name": "github", "namespace": "acme", "uid": "u", "generation": 1},
            "spec": {
                "connector": "github",
                "credentials": {"secretRef": {"name": "github-token"}},
                "projects": ["acme/shop"],
            },
            "status": before.dump(),
        }
    )
    seen = plan.Observed(gateway_key="key", known=("github",), credentials=check)
    wanted: Any = plan._credentials(subject, check)
    return status(subject, seen, wanted, results=Results(), now=datetime(2026, 3, 1, tzinfo=UTC), told=Told())


@pytest.mark.parametrize(
    ("check", "told_of", "scopes"),
    [
        (VALID, 1, ScopesStatus(granted=("repo", "workflow"), missing=())),
        (MISSING, 1, ScopesStatus(granted=("gist",), missing=("repo",))),
        (UNTOLD, 1, None),
        (REFUSED, 1, None),
        (None, 1, None),
        (DOWN, 1, LAST),
        (DOWN, 0, None),
    ],
)
def test_the_scopes_in_the_status(
    check: CredentialCheck | None, told_of: int, scopes: ScopesStatus | None
) -> None:
    assert project(check, told_of=told_of).scopes == scopes


def test_a_missing_scope_makes_the_credentials_invalid_and_is_looked_at_again() -> None:
    found = project(MISSING)
    (condition,) = [each for each in found.conditions if each.type == "CredentialsValid"]
    assert (condition.status, condition.reason) == ("False", "ScopesMissing")
    assert "repo" in condition.message
