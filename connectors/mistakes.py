"""What can be wrong with a manifest, and with what a user gives to one."""

from __future__ import annotations


class ManifestError(ValueError):
    """A manifest that cannot be used: the message names the connector, the place and what is wrong there."""

    def __init__(self, message: str, *, place: str = "", problem: str = "") -> None:
        """`place` and `problem` are the message's parts, where it has these."""
        super().__init__(message)
        self.place, self.problem = place, problem or message


class ConfigError(ValueError):
    """Settings or inputs that a connector's schema refuses: the message names each field."""
