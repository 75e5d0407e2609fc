"""Everything that must lie on this machine before a server can start: binaries and Ray's environment.

On a fresh machine this takes minutes, once; the builds run one after the other, because each takes both
cores, and Ray's packages are fetched beside them.
"""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dev import assets, layout, uv
from dev.layout import Origin
from dev.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Which servers are ours to start, in a stack that is made, or would be made now."""

    cluster: Origin
    vault: Origin
    ray: Origin


def wanted(environment: Mapping[str, str] = os.environ) -> Origins:
    """The origins that the environment variables ask for."""
    chosen = layout.origins(environment)
    return Origins(cluster=chosen["cluster"], vault=chosen["vault"], ray=chosen["ray"])


def everything(origins: Origins, progress: Progress, *, ray: bool) -> None:
    """Build and install what is missing; costs a few file look-ups when nothing is.

    Raises Problem that names what could not be had.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        fetched = beside.submit(uv.ray, progress) if ray and origins.ray == "local" else None
        if origins.cluster == "local":
            assets.binaries(assets.KUBERNETES, progress)
        else:
            kubectl(progress)
        if origins.vault == "local":
            assets.binaries(assets.VAULT, progress)
        if fetched is not None:
            fetched.result()


def kubectl(progress: Progress) -> Path:
    """The user's own kubectl for a cluster that somebody else runs, else the pinned one."""
    found = shutil.which("kubectl")
    return (
        Path(found) if found else assets.binaries(assets.KUBERNETES, progress, names=("kubectl",))["kubectl"]
    )
