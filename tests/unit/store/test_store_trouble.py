"""psycopg's exceptions in our words: the kind by SQLSTATE, and never the server's text."""

import psycopg
import pytest

from pipewright import errors
from pipewright.store import trouble

CANARY = "canary"


def _error(state: str) -> psycopg.Error:
    return psycopg.errors.lookup(state)(f"password={CANARY} in the server's text")


KINDS = {
    "08006": (errors.Unreachable, "the connection broke"),
    "25006": (errors.Unreachable, "read-only"),
    "3D000": (errors.Unreachable, "not there"),
    "53300": (errors.Unreachable, "out of connections"),
    "55006": (errors.Unreachable, "in use"),
    "55P03": (errors.Unreachable, "a lock"),
    "57014": (errors.Unreachable, "time limit"),
    "57P01": (errors.Unreachable, "stopping"),
    "57P03": (errors.Unreachable, "starting"),
    "42501": (errors.Forbidden, "lacks a right"),
    "28P01": (errors.Forbidden, "lacks a right"),
    "23505": (errors.Conflict, "the same key"),
    "40001": (errors.Conflict, "was first"),
    "40P01": (errors.Conflict, "was first"),
    "42P01": (errors.BackendError, "UndefinedTable"),
    "22P02": (errors.BackendError, "InvalidTextRepresentation"),
}


@pytest.mark.parametrize(("state", "kind", "words"), [(state, *rest) for state, rest in KINDS.items()])
def test_a_sqlstate_becomes_a_kind_of_trouble(state: str, kind: type[Exception], words: str) -> None:
    made = trouble.translate(_error(state), where="database pw_x")
    assert type(made) is kind
    assert words in made.message
    assert state in made.message
    assert "database pw_x" in made.message
    assert CANARY not in f"{made!r} {made}"


CONNECTING = {
    'FATAL: password authentication failed for user "canary"': errors.Forbidden,
    'FATAL: permission denied for database "canary"': errors.Forbidden,
    'FATAL: role "canary" is not permitted to log in': errors.Forbidden,
    'FATAL: no pg_hba.conf entry for host "canary"': errors.Forbidden,
    'connection to server at "canary" failed: Connection refused': errors.Unreachable,
    'FATAL: too many connections for database "canary"': trouble.Full,
    'FATAL: too many connections for role "canary"': trouble.Full,
    "FATAL: sorry, too many clients already": trouble.Full,
    "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute": trouble.Full,
    'FATAL: database "canary" does not exist': errors.Unreachable,
}


@pytest.mark.parametrize(("text", "kind"), CONNECTING.items())
def test_a_refused_connection_becomes_a_kind_of_trouble(text: str, kind: type[Exception]) -> None:
    made = trouble.translate(psycopg.OperationalError(text), where="server main")
    assert type(made) is kind
    assert CANARY not in f"{made!r} {made}"


def test_the_block_lets_no_exception_of_psycopg_out_and_others_through() -> None:
    with pytest.raises(errors.Conflict) as caught, trouble.translated("server main"):
        raise _error("23505")
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError), trouble.translated("server main"):
        raise KeyError("x")
