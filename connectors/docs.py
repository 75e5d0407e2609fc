"""The pages of `docs/connectors/`: one for each manifest, and a table of all. Written by `make crds`.

What a page says is in the manifest alone: its schemas, and the sentences of its metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from connectors import catalogue, coverage, markdown, overview
from connectors.manifest import METHODS

CHECKOUT = Path(__file__).parents[1]
PLACE: Final = Path("docs/connectors")
BY_HAND: Final = frozenset({"authoring.md"})
"""Pages there that people write."""

PROOFS: Final = {
    "hmac": "an HMAC of the body in `{header}`",
    "hmac-timestamped": "an HMAC of time and body in `{header}`",
    "token": "the secret itself in `{header}`",
    "basic": "the user name `{username}` and the secret as the password",
    "rsa": "an RSA signature by the system's own key, in `{header}`",
    "http-signature": "an HTTP signature over date and digest, in `Signature`",
    "oidc": "a token that Google signs, in `Authorization`",
    "sns": "the signature of Amazon SNS",
    "none": "nothing: only the path, which nobody can guess",
    "code": "code of the connector's package",
}
SECRETLESS: Final = frozenset({"rsa", "oidc", "sns", "none"})
"""Proofs that need no secret of ours."""
SHAPES: Final = {
    "json": "`application/json`",
    "cloudevent": "`application/cloudevents+json`",
    "form": "`application/x-www-form-urlencoded`",
    "text": "`text/plain`",
    "batch": "`application/cloudevents-batch+json`",
    "ndjson": "`application/x-ndjson`",
}
WAYS: Final = {
    "oci": "An operation of the OCI Distribution API",
    "code": "By code of the connector's package",
}
ONCE: Final = "is not repeated while nobody knows whether it was done"
CHECKED: Final = "[how each is checked](../integration.md#how-deliveries-are-verified)"
HISTORY: Final = "../integration.md#reading-history"
REGISTERED: Final = (
    "With `spec.webhook.register` [it is made, repaired and removed]"
    "(../integration.md#registering-the-webhook) for each project, and nothing is entered by hand."
)

Data = Mapping[str, Any]


def manifests() -> dict[str, Data]:
    """The manifests by name, as they are written.

    Raises:
        ManifestError: one of them is wrong.
    """
    folder = resources.files("connectors").joinpath("catalogue")
    return {
        name: yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
        for name in catalogue.load()
    }


# --- one page ----------------------------------------------------------------------------------------------


def page(name: str, data: Data) -> str:
    """The page of one connector."""
    metadata = data["metadata"]
    parts = [
        f"# {metadata['title']}: `{name}`\n",
        *([f"{metadata['summary']}\n"] if "summary" in metadata else []),
        _maturity(metadata),
        "## Connecting it\n",
        *_steps(name, data),
        "## Settings\n",
        _settings(data["config"], none="`spec.config` has no settings."),
        *(["## Webhook\n", *_webhook(data["webhook"])] if "webhook" in data else []),
        *(["## What becomes of it\n", markdown.bullets(metadata["mapped"])] if "mapped" in metadata else []),
        *(["## Backfill\n", _backfill(data["sync"])] if "sync" in data else []),
        *(["## Actions\n", *_actions(data["actions"])] if data.get("actions") else []),
        *(
            [f"## {overview.NOT_THERE}\n", markdown.bullets(missing)]
            if (missing := list(overview.reasons(data)))
            else []
        ),
        *(["## Good to know\n", markdown.bullets(metadata["notes"])] if "notes" in metadata else []),
    ]
    return overview.HEAD + "\n".join(parts)


def _maturity(metadata: Data) -> str:
    word, says = metadata["maturity"], f"[What the system itself says]({metadata['docs']})."
    tried = f" Tried end to end {overview.TRIED[metadata['tried']]}." if "tried" in metadata else ""
    return f"Maturity: `{word}`, {overview.MATURITY[word]}.{tried} {says}\n"


def _steps(name: str, data: Data) -> Iterator[str]:
    """The numbered steps of connecting, each with its commands."""
    steps: list[str] = []
    if "credentials" in data:
        choices = [" and ".join(f"`{key}`" for key in keys) for keys in _auth_keys(data)]
        needs = "; or ".join(choices)
        steps.append(
            f"Create the Secret with the credentials, keys {needs}:\n\n"
            + markdown.indented(markdown.table(["key", "what it is"], _credentials(data)))
            + "\n"
            + markdown.indented(
                f"```sh\nkubectl -n acme create secret generic {name}-credentials {_literals(data)}\n```"
            )
        )
    steps.append("Create the Integration:\n\n" + markdown.indented(f"```yaml\n{_example(name, data)}```"))
    hook = data.get("webhook")
    if hook is not None:
        fields = ["url"] if _secretless(hook) else ["url", "secret"]
        reads = "\n".join(
            f"kubectl -n acme get secret {name}-webhook -o jsonpath='{{.data.{field}}}' | base64 -d"
            for field in fields
        )
        told = "the URL" if len(fields) == 1 else "the URL and the secret"
        steps.append(
            f"When its condition `WebhookReady` is True, read {told} for the webhook:\n\n"
            + markdown.indented(f"```sh\n{reads}\n```")
        )
    steps += data["metadata"].get("setup", [])
    yield "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)) + "\n"


def _secretless(hook: Data) -> bool:
    return "config" not in hook and all(kind["kind"] in SECRETLESS for kind in overview.kinds(hook["verify"]))


def _auth_keys(data: Data) -> list[list[str]]:
    """The keys that each way to authenticate needs."""
    auth = data["http"]["auth"]
    ways = auth if isinstance(auth, list) else [auth]
    return [
        [
            value
            for option, value in way.get("login", way).items()
            if option == "field" or option.endswith("Field")
        ]
        for way in ways
    ]


def _credentials(data: Data) -> list[list[str]]:
    return [[f"`{key}`", field["description"]] for key, field in data["credentials"].items()]


def _literals(data: Data) -> str:
    return " ".join(f"--from-literal={key}=…" for key in _auth_keys(data)[0])


def _example(name: str, data: Data) -> str:
    spec: dict[str, Any] = {"connector": name}
    if "credentials" in data:
        spec["credentials"] = {"secretRef": {"name": f"{name}-credentials"}}
    config = data["config"]
    needed = {key: config["properties"][key] for key in config.get("required", ())}
    if needed:
        spec["config"] = {key: field.get("examples", ["…"])[0] for key, field in needed.items()}
    spec["projects"] = [data["metadata"].get("project", "acme/shop")]
    if "webhook" in data and "config" not in data["webhook"] and data["webhook"]["verify"]["kind"] == "none":
        spec["webhook"] = {"allowUnsigned": True}
    return str(
        yaml.safe_dump(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Integration",
                "metadata": {"name": name, "namespace": "acme"},
                "spec": spec,
            },
            sort_keys=False,
            allow_unicode=True,
        )
    )


def _settings(schema: Data, *, none: str) -> str:
    needed = schema.get("required", ())
    rows = [
        [
            f"`{key}`",
            "required" if key in needed else _default(field),
            field["description"],
        ]
        for key, field in schema["properties"].items()
    ]
    return markdown.table(["field of `spec.config`", "default", "meaning"], rows) if rows else f"{none}\n"


def _default(field: Data) -> str:
    found = field.get("default")
    return "" if found is None else f"`{found if isinstance(found, str) else json.dumps(found)}`"


def _webhook(hook: Data) -> Iterator[str]:
    if "config" in hook:
        yield (
            f"`spec.config.{hook['config']}` says how deliveries are verified, told apart and mapped: "
            "[any other CI system](../integration.md#any-other-ci-system).\n"
        )
        return
    shapes = hook.get("body", {}).get("accepts", ["json"])
    kinds = overview.kinds(hook["verify"])
    proofs = ", or ".join(PROOFS[kind["kind"]].format_map({"header": "", **kind}) for kind in kinds)
    names = dict.fromkeys(rule["name"] for rule in hook["events"])
    yield markdown.bullets(
        [
            f"A delivery is proved by {proofs} ({CHECKED}).",
            f"Its body comes as {' or '.join(SHAPES[shape] for shape in shapes)}.",
            f"Its id is {_source(hook['delivery'])}: one that comes twice counts once.",
            *([REGISTERED] if "registration" in hook else []),
            f"Used are the events {', '.join(f'`{name}`' for name in names)}; others are listed as ignored."
            if "event" in hook
            else "All deliveries are of one kind.",
        ]
    )


def _source(source: Data) -> str:
    match source:
        case {"header": name}:
            return f"the header `{name}`"
        case {"headers": headers}:
            return f"the headers {' and '.join(f'`{name}`' for name in headers)} together"
        case {"expression": expression}:
            return f"`{' '.join(expression.split())}`"
        case {"digestWithinMinutes": minutes}:
            return f"the SHA-256 of the body and which {minutes} minutes it came in, as the system gives none"
        case _:
            return "the SHA-256 of the body, as the system gives none"


def _backfill(sync: Data) -> str:
    if "code" not in sync and "newestFirst" in json.dumps(sync["list"]):
        way = "from the newest on until they are too old, as the system lists them by no time"
    else:
        way = f"in parts of {sync['sliceHours'] // 24} days"
    jobs = ", with their jobs," if "jobs" in coverage.covers({"sync": sync}, "backfill") else ""
    return f"With [`spec.sync`]({HISTORY}) a project's runs that have ended{jobs} are read {way}.\n"


def _actions(actions: Mapping[str, Data]) -> Iterator[str]:
    yield "A step of a [Workflow](../workflow.md) names one as `uses: <integration>/<action>`.\n"
    for name, action in actions.items():
        method = next((method for method in METHODS if method in action), "")
        first = "A look into a list, and one" if "find" in action else "One"
        way = f"{first} `{method.upper()}`" if method else WAYS["oci" if "oci" in action else "code"]
        again = (
            "may be repeated"
            if action["idempotent"]
            else "is not repeated when nobody knows whether it was done"
        )
        yield f"### {name}\n"
        yield f"{action['description']} {way}, which {again}.\n"
        needed = action["input"].get("required", ())
        yield markdown.table(
            ["input", "needed", "meaning"],
            [
                [f"`{key}`", "yes" if key in needed else "no", field["description"]]
                for key, field in action["input"]["properties"].items()
            ],
        )
        if action["output"]:
            yield f"Outputs: {', '.join(f'`{key}`' for key in action['output'])}.\n"


# --- files -------------------------------------------------------------------------------------------------


def generated(root: Path) -> dict[Path, str]:
    """The text of each page in the checkout `root`.

    Raises:
        ManifestError: a manifest is wrong.
    """
    found = manifests()
    pages = {root / PLACE / f"{name}.md": page(name, data) for name, data in found.items()}
    return {root / PLACE / "README.md": overview.table(found), **pages}


def differing(root: Path) -> list[Path]:
    """The pages that are not what the manifests say, and those of no connector."""
    wanted = generated(root)
    by_hand = {root / PLACE / name for name in BY_HAND}
    left_over = [path for path in (root / PLACE).glob("*.md") if path not in wanted and path not in by_hand]
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    return sorted(left_over + stale)


def write(root: Path) -> None:
    """Make the pages what the manifests say; one of no connector goes."""
    texts = generated(root)
    (root / PLACE).mkdir(parents=True, exist_ok=True)
    for path in differing(root):
        if path in texts:
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m connectors.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page differs")
    parser.add_argument("--root", type=Path, default=CHECKOUT, metavar="FOLDER", help="the checkout")
    given = parser.parse_args(arguments)
    if not given.check:
        write(given.root)
        return 0
    stale = differing(given.root)
    for path in stale:
        sys.stderr.write(f"{path} is not what the manifests say: run `make crds` and commit it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
