"""CI systems on loopback, one narrow simulator for each connector that reads or does something at its system.

    engine      the server of one system: login, recorded answers, faults, webhooks
    pages       the ways in which vendors cut lists into pages
    proofs      what vendors prove a webhook with
    <system>    one file each: what is this vendor's own

The shapes are those of the connectors' samples; a system's file says how its vendor asks for credentials,
signs, pages, refuses and does what an action wants. It is written from the vendor's documentation and not
from the connector's manifest, so that the two are held against each other. A GitHub whose runs play by
themselves is `dev.provider`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from dev.systems import (
    azure,
    bitbucket,
    buildkite,
    cdevents,
    circleci,
    drone,
    github,
    gitlab,
    jenkins,
    prow,
    travis,
)
from dev.systems.engine import Simulator, System

__all__ = ["SYSTEMS", "Simulator", "System"]

SYSTEMS: Final[Mapping[str, Callable[[], System]]] = {
    "azure-pipelines": azure.system,
    "bitbucket": bitbucket.system,
    "buildkite": buildkite.system,
    "cdevents": cdevents.system,
    "circleci": circleci.system,
    "drone": drone.system,
    "github": github.system,
    "gitlab": gitlab.system,
    "jenkins": jenkins.system,
    "prow": prow.system,
    "travis": travis.system,
}
"""By the connector's name."""
