"""`ports.Actions` on the catalogue of connectors: what a provider's answer means for those who asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors import actions, catalogue
from connectors.actions import OutcomeUnknown
from connectors.auth import Tokens
from connectors.calls import Account
from connectors.manifest import Manifest
from connectors.outbound import Outbound
from pipewright import errors
from pipewright.ports import Secret, SystemClock
from pipewright.runner_facts import CredentialCheck, Performed, Scopes

_DONE = frozenset({"AnswerTooLarge", "AnswerNotUnderstood"})
"""Refusals of the answer and not of the action: it was done, and must not be repeated blindly."""


class ConnectorActions:
    """Providers, by the connectors that this release carries."""

    def __init__(self, client: Outbound, *, connectors: Mapping[str, Manifest] | None = None) -> None:
        """`connectors` is the catalogue unless a test brings its own."""
        self._client = client
        self._tokens = Tokens(clock=SystemClock())
        self._connectors = catalogue.load() if connectors is None else connectors

    @property
    def connectors(self) -> Mapping[str, Manifest]:
        """The catalogue by name."""
        return self._connectors

    async def check(
        self, *, connector: str, config: Mapping[str, Any], credentials: Mapping[str, Secret]
    ) -> CredentialCheck:
        """Show the credentials to the provider."""
        manifest = self._connectors[connector]
        account = Account(config=config, credentials=credentials)
        try:
            told = await actions.check(manifest, account=account, client=self._client, tokens=self._tokens)
        except errors.Stalled as refused:
            return CredentialCheck(accepted=False, reason=refused.reason, message=refused.message)
        except (errors.Waiting, errors.BackendError) as trouble:
            message = f"{trouble.message}; it is asked again"
            return CredentialCheck(accepted=None, reason=trouble.reason, message=message)
        scopes = Scopes(granted=told.granted, missing=told.missing) if told is not None else None
        if scopes is not None and scopes.missing:
            message = (
                f"{manifest.title} accepts the token, but it lacks the scopes {', '.join(scopes.missing)}: "
                "give it these, or put one that has them into the Secret"
            )
            return CredentialCheck(accepted=False, reason="ScopesMissing", message=message, scopes=scopes)
        if not manifest.credentials:
            message = f"{manifest.title} answers, and needs no credentials"
            return CredentialCheck(accepted=True, reason="NotNeeded", message=message)
        message = f"{manifest.title} accepts the credentials"
        return CredentialCheck(accepted=True, reason="CredentialsValid", message=message, scopes=scopes)

    async def perform(
        self,
        *,
        connector: str,
        action: str,
        config: Mapping[str, Any],
        credentials: Mapping[str, Secret],
        inputs: Mapping[str, str],
    ) -> Performed:
        """Perform an action once."""
        manifest = self._connectors.get(connector)
        if manifest is None:
            return Performed(phase="Failed", message=f"there is no connector {connector}")
        account = Account(config=config, credentials=credentials)
        try:
            result = await actions.perform(
                manifest,
                action,
                inputs=inputs,
                account=account,
                client=self._client,
                tokens=self._tokens,
            )
        except OutcomeUnknown as lost:
            return Performed(phase="Unknown", message=lost.message)
        except errors.Stalled as refused:
            return Performed(
                phase="Unknown" if refused.reason in _DONE else "Failed", message=refused.message
            )
        except errors.Waiting as later:
            return Performed(phase="Failed", message=later.message, after=later.after)
        except errors.BackendError as trouble:
            return Performed(phase="Failed", message=trouble.message)
        return Performed(phase="Succeeded", result=dict(result))
