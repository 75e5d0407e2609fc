"""Kubeconfig files: what is written is what kubectl and the operator's client understand."""

import base64
import stat
from pathlib import Path

import pytest
import yaml

from dev import kubeconfig
from dev.problem import Problem

ENDPOINT = kubeconfig.Endpoint(server="https://127.0.0.1:6443", authority=b"PEM", context="dev")


def test_a_kubeconfig_names_one_cluster_one_user_and_one_context(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "config", endpoint=ENDPOINT, user="runner", token="canary")
    assert yaml.safe_load(path.read_text()) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "dev",
                "cluster": {
                    "server": "https://127.0.0.1:6443",
                    "certificate-authority-data": base64.b64encode(b"PEM").decode(),
                },
            }
        ],
        "users": [{"name": "runner", "user": {"token": "canary"}}],
        "contexts": [
            {"name": "dev", "context": {"cluster": "dev", "user": "runner", "namespace": "default"}}
        ],
        "current-context": "dev",
    }


def test_only_its_owner_may_read_a_kubeconfig(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "config", endpoint=ENDPOINT, user="runner", token="canary")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_endpoint_is_read_back(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "config", endpoint=ENDPOINT, user="runner", token="canary")
    assert kubeconfig.endpoint_of(path) == ENDPOINT


def test_a_cluster_whose_certificate_is_not_checked_is_refused(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "config", endpoint=ENDPOINT, user="runner", token="canary")
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"] = {"server": "https://x", "insecure-skip-tls-verify": True}
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(Problem, match="without checking its certificate"):
        kubeconfig.endpoint_of(path)
