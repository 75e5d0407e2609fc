"""Our fields of a Kubernetes object: what we want, compared with what the API server has. Pure.

A steady state makes no write, and a dry-run apply is a write too, so drift is found by comparing. The server
adds defaults and other people add fields: both are no drift. A field that we no longer want is found by the
hash of what we applied last, which lies in an annotation.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipewright.plan import Manifest

APPLIED = "pipewright.dev/applied"
"""Annotation: hash of the manifest that we applied last."""

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}


def stamped(manifest: Manifest) -> dict[str, Any]:
    """The manifest with its own hash as an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": metadata}


def drifted(wanted: Manifest, found: Manifest) -> bool:
    """Whether a field that we name differs in `found`, or one that we named once is no longer wanted."""
    return not _covers(found, wanted)


def _covers(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        # the server drops what is empty
        return isinstance(found or {}, Mapping) and all(
            _covers((found or {}).get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        found = found or []
        return len(found) == len(wanted) and all(map(_covers, found, wanted))
    return bool(found == wanted) or _same_quantity(found, wanted)


def _same_quantity(found: Any, wanted: Any) -> bool:
    left, right = _quantity(found), _quantity(wanted)
    return left is not None and left == right


def _quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity (apimachinery's resource.Quantity): the server rewrites 1000m as 1."""
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    return Decimal(match[1]) * _FACTORS[match[2] or ""] if match else None
