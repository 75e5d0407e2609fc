"""The command line of the development stack: `python -m dev up`, `down`, `status` …; see `make help`."""

import argparse
import shutil
import sys
from collections.abc import Callable

from dev import assets, lock, places, prepare
from dev.problem import Problem
from dev.progress import Progress
from dev.stack import Stack


def main() -> int:
    """Run one command; a Problem becomes its message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m dev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, about) in _COMMANDS.items():
        command = commands.add_parser(name, help=about)
        command.set_defaults(function=function)
        if name in ("up", "assets"):
            command.add_argument("--no-ray", action="store_true", help="leave Ray out")
        if name == "restart":
            command.add_argument("process", help="a name that `status` shows")
    arguments = parser.parse_args()
    try:
        return int(arguments.function(arguments))
    except Problem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. `make down` ends what still runs.", file=sys.stderr)
        return 130


def _up(arguments: argparse.Namespace) -> int:
    stack = Stack(places.state())
    stack.up(ray=not arguments.no_ray)
    kubectl = stack.parts.cluster().kubectl
    print(f"\nexport KUBECONFIG={kubectl.kubeconfig}")
    if shutil.which("kubectl") is None:
        print(f"export PATH={kubectl.binary.parent}:$PATH")
    print("\nNext: kubectl get namespaces; make status; make down")
    return 0


def _down(_: argparse.Namespace) -> int:
    stack = Stack(places.state())
    external = any(row.name == "cluster" for row in stack.status())
    stopped = stack.down()
    print(f"{stopped} processes ended." if stopped else "Nothing was running.")
    if external:
        print("The cluster that you named keeps what was applied: the namespace pipewright-system, the kinds")
        print("(crds/), the roles (charts/pipewright/files/rbac/) and every object of those kinds.")
    return 0


def _status(_: argparse.Namespace) -> int:
    rows = Stack(places.state()).status()
    if not rows:
        print("There is no stack. `make up` starts one.")
        return 0
    for row in rows:
        log = str(row.log or "").removeprefix(f"{places.ROOT}/")
        print(f"{row.name:<24}{row.state:<9}{row.pid or '-':>8}  {row.address:<18} {log}".rstrip())
    return 0


def _assets(arguments: argparse.Namespace) -> int:
    prepare.everything(prepare.wanted(), Progress(), ray=not arguments.no_ray)
    for family in (assets.REGISTRY, assets.S3, assets.KAFKA):  # only tests run them
        assets.binaries(family, Progress())
    return 0


def _lock(_: argparse.Namespace) -> int:
    lock.write(Progress())
    return 0


def _restart(arguments: argparse.Namespace) -> int:
    Stack(places.state()).restart(arguments.process)
    print(f"{arguments.process} is ready again.")
    return 0


_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "up": (_up, "start every server and process that does not run"),
    "down": (_down, "end all of them and remove their data"),
    "status": (_status, "what runs, where it answers, where its log is"),
    "assets": (_assets, "build and install what the servers need, without starting them"),
    "lock": (_lock, "write requirements/*.txt anew"),
    "restart": (_restart, "stop and start one process"),
}

if __name__ == "__main__":
    sys.exit(main())
