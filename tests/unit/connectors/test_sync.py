"""A history read over the wire: pages, slices of time, lists within lists, and where reading goes on."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors import portions, sync
from connectors.calls import Account, Calls
from connectors.mistakes import ManifestError
from connectors.outbound import Outbound
from connectors.sync import Batch, Budget, Cursor
from pipewright import errors
from pipewright.ports import Secret
from pipewright.records import TestRecord

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 1, 2, tzinfo=UTC)
BEARER = {"kind": "bearer", "field": "token"}
TIMES = {"startedAt": "'2026-01-01T00:00:00Z'", "finishedAt": "'2026-01-01T00:01:00Z'"}
JOBS = {
    "when": "item.jobs == true",
    "inputs": {"run": "item.id"},
    "get": "/runs/${{ input.run }}/jobs",
    "paginate": {"kind": "link"},
    "items": "body",
    "records": [
        {
            "record": "job",
            "map": TIMES
            | {
                "project": "project",
                "run": "parent.id",
                "attempt": "1",
                "id": "item.id",
                "name": "item.name",
                "outcome": "lookup.outcome[item.result]",
            },
        }
    ],
}
LIST = {
    "get": "/projects/${{ input.project }}/runs",
    "query": {"from": "${{ input.since }}", "to": "${{ input.until }}", "none": "${{ '' }}"},
    "paginate": {"kind": "cursor", "parameter": "after", "next": "body.next"},
    "items": "body.runs",
    "capped": "has(body.total) && body.total > 2",
    "records": [
        {
            "when": "item.result != 'running'",
            "record": "run",
            "map": TIMES
            | {
                "project": "project",
                "pipeline": "'ci'",
                "id": "item.id",
                "attempt": "1",
                "outcome": "lookup.outcome[item.result]",
            },
        }
    ],
    "each": [JOBS],
}
SYNC = {"sliceHours": 24, "lookup": {"outcome": {"ok": "success", "bad": "failure"}}, "list": LIST}
RUNS = "/projects/acme%2Fshop/runs"


def run(number: int | str, *, result: str = "ok", jobs: bool = False) -> dict[str, Any]:
    return {"id": str(number), "result": result, "jobs": jobs, "unread": [[]] * 3}


class Reader:
    """Reads with one manifest, and keeps the cursor."""

    def __init__(self, connector: Any, provider: Any, client: Outbound, clock: Any) -> None:
        self._connector, self.provider, self._client, self._clock = connector, provider, client, clock
        self.sync: Any = SYNC
        self.cursor: Cursor | None = None
        self.found: list[str] = []
        """The ids of all records that came, also of a reading that broke off."""

    async def read(self, *, budget: Budget | None = None, until: datetime = UNTIL) -> list[Batch]:
        manifest = self._connector(BEARER, sync=self.sync)
        assert manifest.sync is not None
        account = Account(config={}, credentials={"token": Secret("s3cret")})
        session = Calls(manifest, account, client=self._client, clock=self._clock)
        batches = []
        async for batch in sync.history(
            session,
            manifest.sync,
            project="acme/shop",
            since=SINCE,
            until=until,
            cursor=self.cursor,
            budget=budget,
        ):
            batches.append(batch)
            self.found += ids([batch])
            # as it is kept: a text, and what comes of it
            self.cursor = Cursor.parse(batch.cursor.text()) if batch.cursor is not None else None
            assert self.cursor == batch.cursor
        return batches


@pytest.fixture
def reader(connector: Any, provider: Any, client: Outbound, clock: Any) -> Reader:
    return Reader(connector, provider, client, clock)


def ids(batches: list[Batch]) -> list[str]:
    return [record.id for batch in batches for record in batch.records]


def asked(provider: Any, path: str = RUNS) -> list[dict[str, str]]:
    """The parameters of each request for a path."""
    return [
        {name: values[0] for name, values in parse_qs(urlsplit(seen.path).query).items()}
        for seen in provider.asked(path)
    ]


DAY = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}


async def test_pages_are_read_to_the_last_one(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1), run(2, result="running")], "next": "p/2"})
    reader.provider.on(RUNS, {"runs": [], "next": "p/3"})
    reader.provider.on(RUNS, {"runs": [run(3, result="bad")], "next": None})
    batches = await reader.read()
    assert [(record.id, record.outcome) for batch in batches for record in batch.records] == [
        ("1", "success"),
        ("3", "failure"),
    ]
    assert asked(reader.provider) == [DAY, DAY | {"after": "p/2"}, DAY | {"after": "p/3"}]
    assert reader.cursor is None
    assert batches[-1] == Batch(records=(), refused=(), cursor=None)


async def test_what_belongs_to_an_item_comes_with_it(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True), run(2)]})
    job = {"id": "j1", "name": "unit", "result": "ok"}
    second = {"link": f'<{reader.provider.url}/runs/1/jobs?page=2>; rel="next"'}
    reader.provider.on("/runs/1/jobs", [job], headers=second)
    reader.provider.on("/runs/1/jobs?page=2", [job | {"id": "j2", "result": "bad"}])
    first, *rest = await reader.read()
    assert [(record.id, record.outcome) for record in first.records] == [
        ("1", "success"),
        ("j1", "success"),
        ("j2", "failure"),
    ]
    assert ids(rest) == ["2"]


@pytest.mark.parametrize(
    ("inside", "found", "refused"),
    [
        ({"list": [{"id": "j1", "name": "unit", "result": "ok"}]}, ["1", "j1"], ()),
        ({"list": None}, ["1"], ()),
        (None, ["1"], ()),
        ({"list": "many"}, ["1"], ("jobs.list: is no list, or too long a one",)),
    ],
)
async def test_a_list_that_an_item_holds_is_not_asked_for(
    reader: Reader, inside: Any, found: list[str], refused: tuple[str, ...]
) -> None:
    held = {"within": "jobs.list", "records": JOBS["records"]}
    reader.sync = SYNC | {"list": LIST | {"each": [held]}}
    reader.provider.on(RUNS, {"runs": [run(1) | {"jobs": inside}]})
    first, *_ = await reader.read()
    assert [record.id for record in first.records] == found
    assert first.refused == refused
    assert len(reader.provider.seen) == 1


async def test_a_list_that_knows_no_time_is_read_until_it_is_too_old(reader: Reader) -> None:
    reader.sync = SYNC | {"list": LIST | {"newestFirst": "item.made", "each": []}}
    times = {4: "2026-01-02T09:00:00Z", 3: "2026-01-01T09:00:00Z", 2: None, 1: "2025-12-31T09:00:00Z"}
    runs = [run(number) | {"made": made} for number, made in times.items()]
    reader.provider.on(RUNS, {"runs": runs, "next": "b"})
    assert ids(await reader.read()) == ["3", "2"], "one that does not tell its time is read, too"
    assert reader.cursor is None
    assert len(reader.provider.seen) == 1


async def test_time_is_read_in_slices_from_old_to_new(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1)]})
    batches = await reader.read(until=SINCE + timedelta(hours=60))
    ends = [query["to"] for query in asked(reader.provider)]
    assert ends == ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-03T12:00:00Z"]
    assert [query["from"] for query in asked(reader.provider)][1:] == ends[:2]
    assert ids(batches) == ["1", "1", "1"]


async def test_a_slice_with_too_much_in_it_is_halved(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1)], "total": 3})
    reader.provider.on(RUNS, {"runs": [run(1)], "total": 3})
    reader.provider.on(RUNS, {"runs": [run(1)], "total": 2})
    batches = await reader.read()
    assert [(query["from"][11:16], query["to"][11:16]) for query in asked(reader.provider)] == [
        ("00:00", "00:00"),
        ("00:00", "12:00"),
        ("00:00", "06:00"),
        ("06:00", "00:00"),
    ]
    assert ids(batches) == ["1", "1"]


async def test_a_minute_with_too_much_in_it_is_taken_as_far_as_it_is_listed(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1)], "total": 3})
    batches = await reader.read(until=SINCE + timedelta(minutes=2))
    assert ids(batches) == ["1", "1"]
    assert len(reader.provider.seen) == 3


# --- going on -----------------------------------------------------------------------------------------


async def test_reading_stops_with_the_budget_and_goes_on_where_it_stopped(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1), run(2)], "next": "b"})
    reader.provider.on(
        f"{RUNS}?from=2026-01-01T00%3A00%3A00Z&to=2026-01-02T00%3A00%3A00Z&after=b", {"runs": [run(3)]}
    )
    looks = 0
    while looks < 10:
        looks += 1
        await reader.read(budget=Budget(pages=1))
        if reader.cursor is None:
            break
    assert reader.found == ["1", "2", "3"]
    assert looks == 4, "one item for each look, and one look for the end"


async def test_a_spent_budget_still_reads_one_item(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1), run(2)]})
    assert ids(await reader.read(budget=Budget(items=0, bytes=0))) == ["1"]
    assert ids(await reader.read(budget=Budget(items=0, bytes=0))) == ["2"]


async def test_pages_without_items_spend_the_budget_too(reader: Reader) -> None:
    for number in range(50):
        reader.provider.on(RUNS, {"runs": [], "next": f"p{number}"})
    assert ids(await reader.read(budget=Budget(pages=5))) == []
    assert len(reader.provider.seen) == 5
    assert reader.cursor is not None
    assert reader.cursor.place == "p4"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        "[]",
        "[1,2,3,4]",
        '["2026-01-01T00:00:00Z","2026-01-02T00:00:00Z","",-1]',
        '["2026-01-01T00:00:00Z","2026-01-02T00:00:00Z","",true]',
        '["2026-01-01T00:00:00Z","2026-01-02T00:00:00Z",5,0]',
        '["2026-01-02T00:00:00Z","2026-01-01T00:00:00Z","",0]',
        '["yesterday","2026-01-01T00:00:00Z","",0]',
        "[" * 5000,
    ],
)
def test_what_is_no_cursor_begins_anew(text: str) -> None:
    assert Cursor.parse(text) is None


async def test_a_cursor_that_leads_elsewhere_is_not_followed(reader: Reader) -> None:
    reader.sync = {**SYNC, "list": LIST | {"paginate": {"kind": "link"}}}
    reader.cursor = Cursor(since=SINCE, until=UNTIL, place="https://evil.example/runs")
    with pytest.raises(errors.Stalled, match="at another address than the provider"):
        await reader.read()
    assert reader.provider.seen == []


# --- what is not as it should be --------------------------------------------------------------------------


async def test_a_next_page_elsewhere_is_not_asked_and_what_was_read_stands(reader: Reader) -> None:
    reader.sync = {**SYNC, "list": LIST | {"paginate": {"kind": "url", "next": "body.next"}}}
    reader.provider.on(RUNS, {"runs": [run(1)], "next": "https://evil.example/steal"})
    with pytest.raises(errors.Stalled) as refused:
        await reader.read()
    assert refused.value.reason == "AddressRefused"
    assert (reader.found, len(reader.provider.seen)) == (["1"], 1)


async def test_pages_that_go_round_in_a_circle_stop(reader: Reader) -> None:
    for place in ("a", "b", "a"):
        reader.provider.on(RUNS, {"runs": [run(place)], "next": place})
    with pytest.raises(errors.Stalled, match="lead back to one that was read"):
        await reader.read()
    assert len(reader.provider.seen) == 3
    assert reader.cursor is not None


@pytest.mark.parametrize(
    ("answer", "error", "after"),
    [
        ({"status": 429, "headers": {"Retry-After": "17"}}, errors.Waiting, timedelta(seconds=17)),
        ({"status": 503}, errors.Waiting, timedelta(seconds=30)),
        (
            {"status": 403, "headers": {"X-Remaining": "0", "X-Reset": "1772366460"}},
            errors.Waiting,
            timedelta(minutes=1),
        ),
        ({"status": 500}, errors.Unreachable, None),
        ({"status": 401}, errors.Stalled, None),
        ({"body": {"runs": {}}}, errors.Stalled, None),
        ({"body": "<html>"}, errors.Stalled, None),
        ({"body": {"runs": [run("x" * 70_000)]}}, errors.Stalled, None),
    ],
)
async def test_trouble_on_the_second_page_leaves_the_first(
    reader: Reader, answer: dict[str, Any], error: type[Exception], after: timedelta | None
) -> None:
    reader.provider.on(RUNS, {"runs": [run(1), run(2)], "next": "b"})
    reader.provider.on(RUNS, answer.pop("body", {}), **answer)
    with pytest.raises(error) as trouble:
        await reader.read()
    if after is not None:
        assert isinstance(trouble.value, errors.Waiting)
        assert trouble.value.after == after
    assert reader.cursor == Cursor(since=SINCE, until=UNTIL, place="b", done=0)


async def test_a_quota_that_is_spent_is_not_asked_beyond(reader: Reader) -> None:
    headers = {"X-Remaining": "0", "X-Reset": "1772366405"}
    reader.provider.on(RUNS, {"runs": [run(1)], "next": "b"}, headers=headers)
    with pytest.raises(errors.Waiting) as waiting:
        await reader.read()
    assert waiting.value.after == timedelta(seconds=5)
    assert len(reader.provider.seen) == 1
    assert reader.cursor is not None
    assert reader.cursor.place == "b"


async def test_a_list_that_begins_with_the_newest_is_read_back_to_the_time_asked_for(reader: Reader) -> None:
    reader.sync = {**SYNC, "list": {**LIST, "newestFirst": "item.at", "query": {}}}
    times = {
        "new": "2026-01-02T00:00:00Z",
        "b": "2026-01-01T23:59:59Z",
        "x": "?",
        "a": "2026-01-01T00:00:00Z",
    }
    first = [run(name) | {"at": at} for name, at in times.items()]
    reader.provider.on(RUNS, {"runs": first, "next": "2"})
    second = [run("c") | {"at": times["a"]}, run("old", jobs=True) | {"at": "2025-12-31T23:59:59Z"}]
    reader.provider.on(RUNS, {"runs": second, "next": "3"})
    await reader.read()
    assert reader.found == ["b", "x", "a", "c"]
    assert [seen.path for seen in reader.provider.seen] == [RUNS, f"{RUNS}?after=2"]


async def test_an_item_that_is_not_understood_is_told_and_left_out(reader: Reader) -> None:
    reader.provider.on(
        RUNS,
        {
            "runs": [
                run(1),
                run(2, result="canary"),
                {"id": 3, "jobs": False, "result": "ok"},
                "canary",
                run(5),
            ]
        },
    )
    batches = await reader.read()
    assert ids(batches) == ["1", "5"]
    refused = [problem for batch in batches for problem in batch.refused]
    assert [problem.split(":")[:2] for problem in refused[:2]] == [["run", " outcome"], ["run", " id"]]
    assert len(batches[3].refused) >= 1
    assert "canary" not in "".join(refused[1:])


async def test_a_run_whose_jobs_are_gone_is_kept(reader: Reader) -> None:
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True), run(2)]})
    reader.provider.on("/runs/1/jobs", {"message": "Not Found"}, status=404)
    batches = await reader.read()
    assert ids(batches) == ["1", "2"]
    assert batches[0].refused == ("Xen CI answered 404: Not Found",)


@pytest.mark.parametrize(
    ("status", "error"), [(401, errors.Stalled), (429, errors.Waiting), (500, errors.Unreachable)]
)
async def test_jobs_that_cannot_be_read_now_leave_their_run_for_later(
    reader: Reader, status: int, error: type[Exception]
) -> None:
    reader.provider.on(RUNS, {"runs": [run(1), run(2, jobs=True)]})
    reader.provider.on("/runs/2/jobs", status=status)
    with pytest.raises(error):
        await reader.read()
    assert reader.cursor == Cursor(since=SINCE, until=UNTIL, done=1)


@pytest.mark.parametrize(
    ("status", "refused"), [(404, ()), (403, ("Xen CI refused the credentials (status 403)",))]
)
async def test_an_optional_list_may_be_missing_or_refused(
    reader: Reader, status: int, refused: tuple[str, ...]
) -> None:
    reader.sync = {**SYNC, "list": LIST | {"each": [JOBS | {"optional": True}]}}
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True), run(2)]})
    reader.provider.on("/runs/1/jobs", status=status)
    batches = await reader.read()
    assert ids(batches) == ["1", "2"]
    assert tuple(note.partition(";")[0] for note in batches[0].refused) == refused


@pytest.mark.parametrize(("status", "error"), [(429, errors.Waiting), (500, errors.Unreachable)])
async def test_an_optional_list_that_is_away_only_now_is_waited_for(
    reader: Reader, status: int, error: type[Exception]
) -> None:
    reader.sync = {**SYNC, "list": LIST | {"each": [JOBS | {"optional": True}]}}
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True)]})
    reader.provider.on("/runs/1/jobs", status=status)
    with pytest.raises(error):
        await reader.read()
    assert reader.cursor is None


async def test_an_item_within_sees_what_the_lists_around_it_have_said(reader: Reader) -> None:
    case = {
        "record": "test",
        "map": TIMES
        | {
            "project": "project",
            "run": "input.run",
            "suite": "parent.name",
            "name": "item.name",
            "outcome": "lookup.outcome[item.result]",
        },
    }
    report = {**JOBS, "records": [], "each": [{"within": "cases", "records": [case]}]}
    reader.sync = {**SYNC, "list": LIST | {"each": [report]}}
    reader.provider.on(RUNS, {"runs": [run(71, jobs=True)]})
    cases = [{"name": "adds", "result": "ok"}, {"name": "pays", "result": "bad"}]
    reader.provider.on("/runs/71/jobs", [{"name": "unit", "cases": cases}])
    _, adds, pays = (await reader.read())[0].records
    assert isinstance(adds, TestRecord)
    assert isinstance(pays, TestRecord)
    assert (adds.run, adds.suite, adds.name, adds.outcome) == ("71", "unit", "adds", "success")
    assert (pays.run, pays.suite, pays.name, pays.outcome) == ("71", "unit", "pays", "failure")


async def test_a_list_without_end_within_an_item_is_cut(reader: Reader) -> None:
    paged = {**JOBS, "paginate": {"kind": "page", "parameter": "page", "sizeParameter": "n", "size": 1}}
    reader.sync = {**SYNC, "list": LIST | {"each": [paged]}}
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True), run(2)]})
    reader.provider.on("/runs/1/jobs", [{"id": "j", "name": "unit", "result": "ok"}])
    batches = await reader.read()
    assert len(reader.provider.asked("/runs/1/jobs")) == 50
    assert batches[0].refused == ("a list has more than 50 pages, the rest is not read",)
    assert ids(batches)[-1] == "2"


async def test_an_item_of_more_records_than_are_kept_is_cut(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "MAX_RECORDS", 3)
    reader.provider.on(RUNS, {"runs": [run(1, jobs=True), run(2)]})
    reader.provider.on("/runs/1/jobs", [{"id": f"j{at}", "name": "unit", "result": "ok"} for at in range(9)])
    batches = await reader.read()
    assert ids(batches) == ["1", "j0", "j1", "2"]
    assert batches[0].refused == ("a run has more than 3 records, the rest is not read",)


# --- manifests ----------------------------------------------------------------------------------------


DEEP = {**JOBS, "each": [{**JOBS, "each": [{**JOBS, "each": [JOBS]}]}]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no slices": ({"list": LIST}, "'sliceHours' is a required property"),
    "an unknown word": (SYNC | {"list": LIST | {"colour": "red"}}, "'colour'"),
    "an unknown word within": (SYNC | {"list": LIST | {"each": [JOBS | {"colour": "red"}]}}, "'colour'"),
    "a list that is asked for and held": (
        SYNC | {"list": LIST | {"each": [JOBS | {"within": "jobs"}]}},
        "Additional properties are not allowed ('get', 'inputs', 'items', 'paginate'",
    ),
    "no pages": (SYNC | {"list": {**LIST, "paginate": {"kind": "scroll"}}}, "'scroll' is not one of"),
    "a page without its size": (
        SYNC | {"list": {**LIST, "paginate": {"kind": "page", "parameter": "page"}}},
        "'sizeParameter' is a required property",
    ),
    "a cursor of nothing": (
        SYNC | {"list": LIST | {"paginate": {"kind": "cursor", "parameter": "a", "next": "item.x"}}},
        "sync.list.paginate.next: line 1, column 5: nothing is called 'item.x' here; there is body",
    ),
    "a map of something unknown": (
        SYNC | {"list": LIST | {"records": [{"record": "run", "map": {"id": "body.id"}}]}},
        "sync.list.records[0].map.id: line 1, column 5: nothing is called 'body.id'",
    ),
    "too deep": (SYNC | {"list": LIST | {"each": [DEEP]}}, "lists are nested more than 4 deep"),
}


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_sync_that_is_wrong_is_refused_with_the_place(
    connector: Any, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        connector(BEARER, sync=data)
    assert message in str(refused.value)
