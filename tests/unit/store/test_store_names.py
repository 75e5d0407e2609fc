"""Names of roles and databases: prefix + id, and no other text gets in."""

import pytest

from pipewright.store import roles

REFUSED = ["", "short", "A" * 12, "a" * 13, 'x"; DROP --', "abc_def-ghij", "aaaaaaaaaaa\n", "äaaaaaaaaaaa"]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_but_an_id_becomes_a_name(text: str) -> None:
    for name in (roles.database, roles.app_owner, roles.all_roles):
        with pytest.raises(ValueError, match="12 lower-case letters and digits"):
            name(text)


def test_an_unknown_purpose_has_no_login() -> None:
    with pytest.raises(ValueError, match="app_a, app_b, readonly, ingest, runner"):
        roles.login("abcdefghijkm", "superuser")


def test_a_tenants_roles_are_its_logins_and_the_owner() -> None:
    assert roles.all_roles("abcdefghijkm") == (
        "pw_abcdefghijkm_app_a",
        "pw_abcdefghijkm_app_b",
        "pw_abcdefghijkm_readonly",
        "pw_abcdefghijkm_ingest",
        "pw_abcdefghijkm_runner",
        "pw_abcdefghijkm_app",
    )


def test_ids_are_random_over_32_letters() -> None:
    assert len(set(roles.ALPHABET)) == 32
    made = {roles.new_id() for _ in range(500)}
    assert len(made) == 500
    assert {letter for each in made for letter in each} == set(roles.ALPHABET)
    assert all(roles.database(each) == f"pw_{each}" for each in made)
