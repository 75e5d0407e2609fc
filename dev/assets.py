"""The servers' binaries: from the user's envtest folder, else built once from pinned Go modules.

The builds lie in the cache that all checkouts share, in a folder named by the version that the module's
go.mod requires, and by what of the code is ours; a lock lets two checkouts wait for one build, and a binary
appears whole or not at all.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev import files, places, toolchain
from dev.problem import Problem
from dev.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One Go module of ours under dev/assets/ and the commands that it pins."""

    name: str
    module: str
    """The required module whose version names the cache folder."""
    packages: Mapping[str, str]
    """Binary, as a path in the family's folder → Go package, in the order in which they are built."""
    about: Mapping[str, str]
    """Binary → how long a cold build takes on two cores."""
    tags: str = ""
    """Go's build tags, with commas between."""


KUBERNETES = Family(
    name="kubernetes",
    module="k8s.io/kubernetes",
    packages={
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "etcd": "go.etcd.io/etcd/server/v3",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    },
    about={"kube-apiserver": "4 min", "kube-controller-manager": "2 min"},
)
VAULT = Family(
    name="vault",
    module="github.com/hashicorp/vault",
    # all plugins built in take far longer, most of it for clouds; the two that are needed stand alone
    packages={
        "vault": "github.com/hashicorp/vault",
        "plugins/kubernetes": (
            "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes"
        ),
        "plugins/postgresql-database-plugin": (
            "github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin"
        ),
    },
    about={"vault": "3 min"},
    tags="minimal",
)
REGISTRY = Family(
    name="registry",
    module="github.com/distribution/distribution/v3",
    packages={"registry": "github.com/distribution/distribution/v3/cmd/registry"},
    about={"registry": "2 min"},
)
S3 = Family(
    name="s3",
    module="github.com/versity/versitygw",
    packages={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    about={"versitygw": "2 min"},
)
KAFKA = Family(
    name="kafka",
    module="github.com/twmb/franz-go/pkg/kfake",
    packages={"kafka": "pipewright.dev/assets/kafka"},
    about={"kafka": "half a minute"},
)

_ENVTEST = Path("/usr/local/kubebuilder/bin")


def version(family: Family) -> str:
    """The version that the family's go.mod requires, such as v1.37.2."""
    text = (_module(family) / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(family.module)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise Problem(f"{_module(family) / 'go.mod'} does not require {family.module}.")
    return found[1]


def folder(family: Family) -> Path:
    """Where the family's built binaries lie."""
    code = b"".join(path.read_bytes() for path in sorted(_module(family).glob("*.go")))
    ours = f"-{hashlib.sha256(code).hexdigest()[:8]}" if code else ""
    return places.cache() / "assets" / f"{family.name}-{version(family)}{ours}"


def binaries(family: Family, progress: Progress, *, names: tuple[str, ...] = ()) -> dict[str, Path]:
    """Paths of the family's binaries (all, or those named), built where they are missing.

    Kubernetes binaries come from $KUBEBUILDER_ASSETS, or envtest's default folder, as far as they lie
    there; envtest has no kube-controller-manager, so that one is built in any case.
    """
    wanted = names or tuple(family.packages)
    given = _given(family)
    missing = [name for name in wanted if name not in given and not (folder(family) / name).exists()]
    if missing:
        _build(family, missing, progress)
    return {name: given.get(name, folder(family) / name) for name in wanted}


def _given(family: Family) -> dict[str, Path]:
    """The binaries that the user brought in the folder of controller-runtime's envtest."""
    if family is not KUBERNETES:
        return {}
    named = os.environ.get("KUBEBUILDER_ASSETS")
    source = Path(named).expanduser() if named else _ENVTEST
    found = {name: source / name for name in family.packages if (source / name).exists()}
    absent = sorted({"etcd", "kube-apiserver"} - set(found))
    if named and absent:
        raise Problem(
            f"KUBEBUILDER_ASSETS={named} has no {' and no '.join(absent)}. "
            "Run `setup-envtest use -p path` for a folder that has, or unset it to build the pinned ones."
        )
    return {} if absent else found


def _build(family: Family, names: list[str], progress: Progress) -> None:
    target = folder(family)
    waiting = f"another process builds {family.name} {version(family)}: waiting for it"
    with files.lock(target.with_name(f"{target.name}.lock"), waiting=lambda: progress.say(waiting)):
        missing = [name for name in names if not (target / name).exists()]
        go = toolchain.go(progress) if missing else Path()
        for name in missing:
            cost = family.about.get(name, "half a minute")
            with progress.step(f"building {name} ({target.name}), once, about {cost}", announce=True):
                _compile(go, family, name)


def _compile(go: Path, family: Family, name: str) -> None:
    """Build one binary beside its place and move it there; Go's own cache makes a repetition cheap."""
    target = folder(family) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = folder(family) / f".{target.name}.{os.getpid()}"
    log = folder(family) / f"{target.name}.log"
    command: list[str | Path] = [go, "build", "-trimpath", "-p", "2", "-ldflags", _linker_flags(family)]
    if family.tags:
        command += ["-tags", family.tags]
    with log.open("wb") as out:
        done = subprocess.run(
            [*command, "-o", draft, family.packages[name]],
            cwd=_module(family),
            env=toolchain.environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        draft.unlink(missing_ok=True)
        raise Problem(
            f"Building {name} failed; the end of {log}:\n{files.tail(log)}\n"
            "Is a Go module proxy reachable (GOPROXY, GOSUMDB)? The same target, run again, resumes."
        )
    draft.replace(target)
    log.unlink()


def _linker_flags(family: Family) -> str:
    """Strip symbols; Kubernetes also needs its version stamped, or /version says v0.0.0."""
    if family is not KUBERNETES:
        return "-s -w"
    number = version(family)
    major, minor = number.removeprefix("v").split(".")[:2]
    at = "k8s.io/component-base/version"
    return f"-s -w -X {at}.gitVersion={number} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"


def _module(family: Family) -> Path:
    return places.ROOT / "dev" / "assets" / family.name
