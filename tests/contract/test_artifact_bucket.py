"""What a bucket has beside the port's suite: addresses that are lent, and what a server refuses."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev import ports
from gateway.artifacts import reader
from ml import transfer
from pipewright import artifact_store, errors
from pipewright.backends.artifacts.bucket import S3Access, S3Artifacts
from pipewright.ports import Secret
from pipewright.settings import Artifacts
from pipewright.store.records import ModelPointer
from tests.contract.buckets import BUCKET, REGION, Buckets

A_WHILE = timedelta(minutes=5)


@pytest.fixture
def store(buckets: Buckets) -> S3Artifacts:
    return buckets.store(f"lent/{uuid.uuid4().hex}")


async def test_a_lent_address_is_for_one_file_and_one_way(store: S3Artifacts) -> None:
    url, other = store.url_for("t", "window"), store.url_for("t", "other")
    await store.put(url, b"window")
    read = await store.lend(url, to="read", lasting=A_WHILE)
    write = await store.lend(url, to="write", lasting=A_WHILE)
    assert transfer.get(read) == b"window"
    transfer.put(write, b"model")
    assert await store.get(url) == b"model"
    for lent, call in (
        (read, lambda address: transfer.put(address, b"x")),
        (write, transfer.get),
        (read.replace("/window?", "/other?"), transfer.get),
        (read.partition("?")[0], transfer.get),
        (read[:-1] + ("0" if read[-1] != "0" else "1"), transfer.get),
    ):
        with pytest.raises(transfer.TransferFailed, match="403") as refused:
            call(lent)
        assert "X-Amz" not in str(refused.value)
    assert await store.get(url) == b"model"
    assert await store.get(other) is None


async def test_a_lent_address_ends(store: S3Artifacts) -> None:
    url = store.url_for("t", "window")
    await store.put(url, b"window")
    read = await store.lend(url, to="read", lasting=timedelta(seconds=2))
    assert transfer.get(read) == b"window"
    ends = time.monotonic() + 30
    while not is_refused(read):
        assert time.monotonic() < ends, "it is good for longer than it was lent"
        await asyncio.sleep(0.2)


def is_refused(address: str) -> bool:
    try:
        transfer.get(address)
    except transfer.TransferFailed as refused:
        return "403" in str(refused)
    return False


async def test_a_large_file_comes_in_parts_and_is_there_when_it_is_whole(buckets: Buckets) -> None:
    store = buckets.store(f"lent/{uuid.uuid4().hex}", max_bytes=64 * 1024 * 1024)
    url, content = store.url_for("t", "window"), b"0123456789abcdef" * 800_000

    async def pieces():
        for at in range(0, len(content), 1_000_000):
            assert await store.get(url) is None
            yield content[at : at + 1_000_000]

    await store.stream(url, pieces())
    assert await store.get(url) == content


async def test_what_is_too_large_is_not_read(buckets: Buckets) -> None:
    store = buckets.store(f"lent/{uuid.uuid4().hex}", max_bytes=10)
    url = store.url_for("model")
    await store.put(url, b"x" * 11)
    with pytest.raises(errors.BackendError, match="model is larger than 10 bytes"):
        await store.get(url)
    with pytest.raises(errors.BackendError, match="larger than"):
        store.read(url)


async def test_a_thread_reads_the_same(store: S3Artifacts) -> None:
    url = store.url_for("model")
    assert store.read(url) is None
    await store.put(url, b"model")
    assert store.read(url) == b"model"


async def test_the_gateway_reads_where_the_settings_say_and_nowhere_else(
    buckets: Buckets, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{buckets.key}\n")
    (tmp_path / "secret").write_text(f"{buckets.secret}\n")
    settings = Artifacts.model_validate(
        {
            "url": f"s3://{BUCKET}/gateway/{uuid.uuid4().hex}",
            "region": REGION,
            "endpoint": f"http://{buckets.host}",
            "accessKeyIdFile": tmp_path / "key",
            "secretAccessKeyFile": tmp_path / "secret",
        }
    )
    store = artifact_store.of(settings)
    url = store.url_for("t", "models", "m", "model")
    await store.put(url, b"model")
    pointer = ModelPointer(
        model_uid="m", tenant_id="t", namespace="acme", model="run-failure", task="RunFailure",
        is_default=True, version="v", artifact_uri=url, artifact_sha256="0" * 64,
        promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    read = reader(settings)
    assert read(pointer) == b"model"
    for elsewhere, why in (
        (f"s3://{BUCKET}/other/model", "leads out"),
        ("file:///etc/passwd", "leads out"),
        (f"{url}-gone", "is not there"),
    ):
        with pytest.raises(transfer.TransferFailed, match=why):
            read(replace(pointer, artifact_uri=elsewhere))


async def test_wrong_credentials_are_told_without_them(buckets: Buckets) -> None:
    wrong = "not-the-secret-key"
    store = S3Artifacts(f"s3://{BUCKET}/x", buckets.access(secret=wrong))
    for call in (
        store.put(store.url_for("model"), b"x"),
        store.get(store.url_for("model")),
        store.exists(store.url_for("model")),
        store.delete(store.url_for("model")),
    ):
        with pytest.raises(errors.Forbidden, match="the bucket refuses the credentials") as refused:
            await call
        assert wrong not in str(refused.value)
        assert buckets.key not in str(refused.value)


async def test_a_bucket_or_a_server_that_is_not_there_is_unreachable(buckets: Buckets) -> None:
    nobody = S3Artifacts(f"s3://{BUCKET}/x", S3Access(
        region="eu-central-1", endpoint=f"http://127.0.0.1:{ports.free()}",
        credentials=lambda: (Secret("k"), Secret("s")),
    ))  # fmt: skip
    none = buckets.store("x", bucket="nobodys")
    for store in (nobody, none):
        with pytest.raises(errors.Unreachable, match="artifact store: write model"):
            await store.put(store.url_for("model"), b"x")


async def test_a_whole_store_is_never_deleted(store: S3Artifacts) -> None:
    with pytest.raises(ValueError, match="never"):
        await store.delete(store.url_for())


@pytest.mark.parametrize(
    "url", ["file:///folder", "s3:///folder", "s3://key:secret@bucket/x", "s3://bucket/x?endpoint=y"]
)
def test_an_address_that_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be s3://bucket"):
        S3Artifacts(url, S3Access())
