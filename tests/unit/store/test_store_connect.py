"""Connection strings: our settings are in every one, whatever the DSN says."""

from psycopg.conninfo import conninfo_to_dict

from pipewright.ports import Connection, Secret
from pipewright.store import connect, roles, schema

DSN = "postgresql://me:canary@db.example:5433/somewhere?options=-csearch_path%3Devil&connect_timeout=999"


def test_our_settings_win_over_the_dsns() -> None:
    words = conninfo_to_dict(connect.conninfo(Secret(DSN)))
    assert "-c search_path=pg_catalog" in words["options"]
    assert "evil" not in words["options"]
    assert words["connect_timeout"] == "2"
    assert (words["host"], words["port"], words["user"], words["password"], words["dbname"]) == (
        "db.example",
        "5433",
        "me",
        "canary",
        "somewhere",
    )


def test_words_may_be_overridden_and_settings_added() -> None:
    words = conninfo_to_dict(connect.conninfo(DSN, settings={"lock_timeout": "1s"}, dbname="other"))
    assert words["dbname"] == "other"
    assert "-c lock_timeout=1s" in words["options"]
    assert "-c lock_timeout=5s" not in words["options"]


def test_the_migrator_acts_as_the_owner_from_the_first_moment() -> None:
    words = conninfo_to_dict(schema.migrator(DSN, database="pw_x"))
    assert f"-c role={roles.OWNER}" in words["options"]
    assert words["dbname"] == "pw_x"


def test_a_place_names_database_and_host_and_no_secret() -> None:
    assert connect.place(Secret(DSN)) == "database somewhere on db.example"


def test_a_tenants_dsn_survives_any_password() -> None:
    where = Connection(server="main", host="db.example", port=5432, database="pw_abcdefghijkm")
    password = "p'a\\s s=w%rd'"
    dsn = connect.tenant_dsn(where, user="u", password=Secret(password))
    assert conninfo_to_dict(dsn.reveal())["password"] == password
    assert password not in repr(dsn)
