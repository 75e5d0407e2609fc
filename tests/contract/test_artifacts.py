"""The artifact port: one suite, held by the memory and by a folder."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pipewright import errors
from pipewright.backends.artifacts import FileArtifacts
from pipewright.backends.memory_training import MemoryArtifacts
from pipewright.ports.training import Artifacts
from tests.contract.buckets import Buckets


@pytest.fixture(params=["memory", "file", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    match request.param:
        case "memory":
            return MemoryArtifacts()
        case "file":
            return FileArtifacts((tmp_path / "store").as_uri())
        case _:
            buckets: Buckets = request.getfixturevalue("buckets")
            return buckets.store(f"store/{uuid.uuid4().hex}")


async def test_what_is_put_is_got(store: Artifacts) -> None:
    url = store.url_for("abcdefghijkm", "models", "uid", "windows", "0a.parquet")
    assert await store.get(url) is None
    await store.put(url, b"one")
    await store.put(url, b"two")
    assert await store.get(url) == b"two"


async def test_a_folder_goes_with_all_that_lies_in_it(store: Artifacts) -> None:
    home, other = store.url_for("t", "models", "one"), store.url_for("t", "models", "one-more")
    for place in (home, other):
        await store.put(f"{place}/trainings/1-x/model", b"model")
    assert await store.exists(home)
    await store.delete(home)
    await store.delete(home)
    assert not await store.exists(home)
    assert await store.exists(other)


async def test_concurrent_writers_leave_one_whole_file(store: Artifacts) -> None:
    url = store.url_for("t", "models", "one", "model")
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(store.put(url, content) for content in contents))
    assert await store.get(url) in contents


@pytest.mark.parametrize("part", ["..", ".", "", "a/b", ".hidden", "/etc"])
def test_a_part_of_an_address_is_a_plain_name(store: Artifacts, part: str) -> None:
    with pytest.raises(ValueError, match="cannot be a part"):
        store.url_for("t", part)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "file:///memory/../etc/passwd", "http://x/model", "s3://artifacts/other/model",
     "s3://artifacts/store/../other", "s3://artifactsother/store"],
)  # fmt: skip
async def test_an_address_out_of_the_store_is_not_followed(store: Artifacts, url: str) -> None:
    with pytest.raises(errors.BackendError, match="out of the artifact store"):
        await store.get(url)


async def test_a_link_out_of_the_store_is_not_followed(tmp_path: Path) -> None:
    store = FileArtifacts((tmp_path / "store").as_uri())
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "store" / "t").mkdir(parents=True)
    (tmp_path / "store" / "t" / "model").symlink_to(tmp_path / "secret")
    (tmp_path / "store" / "u").symlink_to(tmp_path)
    for parts in (("t", "model"), ("u", "secret")):
        with pytest.raises(errors.BackendError, match="out of the artifact store"):
            await store.get(store.url_for(*parts))
    await store.delete(store.url_for("t"))
    assert (tmp_path / "secret").exists()


def _a_pipe(path: Path) -> None:
    os.mkfifo(path)


def _a_folder(path: Path) -> None:
    path.mkdir()


def _a_link(path: Path) -> None:
    path.with_name("other").write_text("of somebody else")
    path.symlink_to(path.with_name("other"))


def _a_circle(path: Path) -> None:
    path.symlink_to(path)


def _a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [_a_pipe, _a_folder, _a_link, _a_circle, _a_socket])
async def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    store = FileArtifacts(tmp_path.as_uri())
    make(tmp_path / "model")
    with pytest.raises(errors.BackendError, match=r"no plain file|cannot be followed") as refused:
        await asyncio.wait_for(store.get(store.url_for("model")), timeout=5)
    assert not isinstance(refused.value, errors.Unreachable)


async def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path.as_uri(), max_bytes=10)
    await store.put(store.url_for("model"), b"x" * 11)
    with pytest.raises(errors.BackendError, match="larger than"):
        await store.get(store.url_for("model"))


async def test_the_whole_store_is_never_deleted(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path.as_uri())
    with pytest.raises(ValueError, match="never"):
        await store.delete(store.url_for())


@pytest.mark.parametrize("url", ["s3://bucket", "file://host/path", "artifacts"])
def test_a_store_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:///"):
        FileArtifacts(url)


async def pieces(*content: bytes, broken: bool = False) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
    if broken:
        raise errors.BackendError("the source broke")


async def test_what_is_streamed_is_got(store: Artifacts) -> None:
    url = store.url_for("abcdefghijkm", "dumps", "uid.dump")
    await store.stream(url, pieces(b"one", b"two"))
    assert await store.get(url) == b"onetwo"
    await store.stream(url, pieces(b"three"))
    assert await store.get(url) == b"three"


async def test_a_stream_that_breaks_changes_nothing(store: Artifacts) -> None:
    url = store.url_for("abcdefghijkm", "dumps", "uid.dump")
    with pytest.raises(errors.BackendError, match="the source broke"):
        await store.stream(url, pieces(b"half", broken=True))
    assert await store.get(url) is None
    await store.stream(url, pieces(b"whole"))
    with pytest.raises(errors.BackendError):
        await store.stream(url, pieces(b"half", broken=True))
    assert await store.get(url) == b"whole"


async def test_a_broken_stream_leaves_no_draft_and_nobody_else_reads_a_whole_one(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path.as_uri())
    url = store.url_for("dumps", "uid.dump")
    with pytest.raises(errors.BackendError):
        await store.stream(url, pieces(b"half", broken=True))
    assert list((tmp_path / "dumps").iterdir()) == []
    await store.stream(url, pieces(b"whole"))
    [made] = (tmp_path / "dumps").iterdir()
    assert made.stat().st_mode & 0o777 == 0o600
    made.with_name(f".{made.name}.0123abcd").write_bytes(b"what a killed process left")
    other = made.with_name(".other.dump.0123abcd")
    other.write_bytes(b"another file's draft")
    await store.stream(url, pieces(b"again"))
    assert set((tmp_path / "dumps").iterdir()) == {made, other}
    with pytest.raises(errors.BackendError, match="leads out"):
        await store.stream("file:///etc/passwd", pieces(b"x"))
