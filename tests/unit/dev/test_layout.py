"""The decisions of one stack: ports, origins of the servers, what is refused."""

import stat
from pathlib import Path

import pytest

from dev import layout
from dev.problem import Problem


def test_a_layout_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = layout.create(tmp_path / "state", durable=False, environment={})
    assert layout.load(tmp_path / "state") == made


def test_no_port_is_given_twice(tmp_path: Path) -> None:
    ports = layout.create(tmp_path / "state", durable=True, environment={}).ports
    assert len(set(ports.values())) == len(ports)
    assert all(20000 <= port < 30000 for port in ports.values())


def test_without_variables_every_server_is_our_own(tmp_path: Path) -> None:
    environment = {"KUBECONFIG": "/home/me/.kube/production"}
    made = layout.create(tmp_path / "state", durable=True, environment=environment)
    assert (made.cluster, made.database, made.vault, made.ray) == ("local", "local", "local", "local")


def test_named_servers_are_used_and_their_secrets_kept_private(tmp_path: Path) -> None:
    environment = {
        "CLUSTER": "existing",
        "KUBECONFIG": "/home/me/.kube/staging",
        "DATABASE_DSN": "postgresql://admin:canary@db.example:5433/postgres",
        "VAULT_ADDR": "https://vault.example",
        "VAULT_TOKEN": "canary",
        "RAY_ADDRESS": "http://ray.example:8265",
        "RAY_AUTH_TOKEN": "canary",
    }
    folder = tmp_path / "state"
    made = layout.create(folder, durable=True, environment=environment)
    assert (made.cluster, made.database, made.vault, made.ray) == ("external",) * 4
    assert (made.vault_address, made.ray_address) == ("https://vault.example", "http://ray.example:8265")
    assert "canary" not in (folder / "stack.json").read_text()
    kept = [path for path in folder.iterdir() if path.is_file() and "canary" in path.read_text()]
    assert sorted(path.name for path in kept) == ["external-admin.dsn", "ray.token", "vault-root.token"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"CLUSTER": "existing"}, "CLUSTER=existing also needs KUBECONFIG"),
        ({"CLUSTER": "kind"}, "CLUSTER=kind is not known"),
        ({"VAULT_ADDR": "https://vault.example"}, "VAULT_ADDR also needs VAULT_TOKEN"),
        ({"VAULT": "consul"}, "VAULT=consul is not known"),
        ({"VAULT": "none", "VAULT_ADDR": "https://vault.example"}, "contradict each other"),
        ({"DATABASE_DSN": "not a dsn"}, "DATABASE_DSN is not a PostgreSQL connection URI"),
        ({"DATABASE_DSN": "postgresql:///postgres?host=/run"}, "must name a TCP host"),
    ],
)
def test_a_variable_that_cannot_be_followed_is_named(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence):
        layout.create(tmp_path / "state", durable=True, environment=environment)


def test_a_broken_dsn_is_refused_without_its_password(tmp_path: Path) -> None:
    environment = {"DATABASE_DSN": "postgresql://admin:canary@[db/x"}
    with pytest.raises(Problem) as refused:
        layout.create(tmp_path / "state", durable=True, environment=environment)
    assert "canary" not in str(refused.value)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(Problem, match=r"is not empty \(thesis.tex"):
        layout.create(tmp_path, durable=True, environment={})


def test_forgetting_keeps_the_logs_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    made = layout.create(folder, durable=True, environment={})
    for name in ("logs/etcd.log", "identities/runner/kubeconfig", "admin.kubeconfig"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    layout.forget(folder, made)
    assert [path.name for path in folder.iterdir()] == ["logs"]
    assert not Path(made.postgres_home).exists()


def test_a_running_stack_of_another_origin_is_told_by_the_variables_name(tmp_path: Path) -> None:
    made = layout.create(tmp_path / "state", durable=True, environment={})
    assert layout.contradictions(made, {}) == []
    asked = {"CLUSTER": "existing", "RAY_ADDRESS": "http://ray.example:8265"}
    assert layout.contradictions(made, asked) == ["CLUSTER", "RAY_ADDRESS"]


def test_a_stack_without_vault_is_remembered(tmp_path: Path) -> None:
    made = layout.create(tmp_path / "state", durable=True, environment={"VAULT": "none"})
    assert made.vault == "none"
    assert layout.load(tmp_path / "state") == made
    assert layout.contradictions(made, {"VAULT": "none"}) == []
    assert layout.contradictions(made, {}) == ["VAULT_ADDR"]
