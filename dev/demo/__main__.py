"""`make demo`: exit code 0 only when every step was verified by reading it back. KEEP=1 leaves it running."""

from __future__ import annotations

import argparse
import os
import sys

from dev import places
from dev.demo import steps, table
from dev.demo.scene import ProviderClient, Scene
from dev.problem import Problem
from dev.progress import Progress
from dev.stack import Stack


def play(scene: Scene) -> steps.Findings:
    """The whole demo. Raises Problem at the first thing that is not as it should be."""
    findings, provider = steps.Findings(), ProviderClient(scene.stack)
    steps.tenants(scene, findings)
    steps.integration(scene, provider)
    steps.history(scene, provider, findings)
    steps.model(scene, findings)
    steps.workflow(scene)
    steps.heal(scene, provider, findings)
    steps.isolation(scene, findings)
    return findings


def main() -> int:
    """Start the stack, play, show the table, and stop the stack unless it is to be kept."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP") == "1")
    keep = parser.parse_args().keep
    progress = Progress()
    stack = Stack(places.state(), progress=progress)
    if stack.status():
        sys.stderr.write("A stack runs already: `make down` first, so that the demo starts from nothing.\n")
        return 1
    verified, scene = False, Scene(stack=stack, progress=progress)
    try:
        stack.up()
        steps.enter(scene)
        try:
            findings = play(scene)
        finally:
            if stack.layout.cluster == "external" and not keep:
                steps.leave(scene)
        verified = True
        print(table.render(findings))
    except Problem as problem:
        sys.stderr.write(f"\nNot verified: {problem}\n")
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
    finally:
        if keep and stack.status():
            print(table.further(kubeconfig=str(stack.parts.cluster().kubectl.kubeconfig)))
        else:
            stack.down()
            progress.say(f"stack stopped; its logs stay in {stack.folder / 'logs'}")
    if verified and not keep:
        print("Look around with: make demo KEEP=1")
    return 0 if verified else 1


if __name__ == "__main__":
    sys.exit(main())
