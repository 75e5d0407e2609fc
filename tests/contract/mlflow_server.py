"""A real MLflow server over SQLite, with its own basic authentication."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev import ports, process, uv
from dev.process import Process
from dev.progress import Progress

USER = "admin"


@dataclass(frozen=True, kw_only=True)
class MlflowServer:
    """How it is reached."""

    uri: str
    password: str = field(repr=False)
    password_file: Path
    log: Path


@contextmanager
def running(folder: Path) -> Iterator[MlflowServer]:
    """Until the block ends."""
    environment, port, password = uv.mlflow(Progress()), ports.free(), secrets.token_urlsafe(24)
    password_file = folder / "password"
    password_file.write_text(password)
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {USER}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    uri = f"http://127.0.0.1:{port}"
    place = Process(
        name="mlflow",
        folder=folder,
        command=(
            str(environment / "bin" / "python"), "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(port), "--workers", "1", "--app-name", "basic-auth",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--default-artifact-root", str(folder / "artifacts"),
        ),
        environment={
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        },
        ready=lambda: _answers(uri),
        ready_within=180.0,
    )  # fmt: skip
    process.start(place)
    _hash_fast(folder / "auth.db", password)
    try:
        yield MlflowServer(uri=uri, password=password, password_file=password_file, log=place.log)
    finally:
        process.stop(folder, "mlflow")


def _hash_fast(database: Path, password: str) -> None:
    """Have the password checked in one round: it is done for each request, and took a tenth of a second."""
    salt = secrets.token_hex(8)
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 1).hex()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE users SET password_hash = ?", [f"pbkdf2:sha256:1${salt}${found}"])
    connection.close()


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
