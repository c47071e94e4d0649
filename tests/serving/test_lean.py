"""What the lean path answers is what the route behind it would have, byte for byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from tests.homes import app_of, deploy, deploy_digits, deploy_embedded, home_at
from tests.serving.bad_inputs import BODIES, PENGUINS
from tests.serving.boats import MALE, Passenger, boat, launch
from tests.serving.bodies import bodies_of, pictures_of
from timonel.contract import Answer
from timonel.errors import JournalFull
from timonel.journal.append import Journal
from timonel.journal.records import read
from timonel.policies import Cache
from timonel.project import Project, load_project
from timonel.serving.lean import LeanPath, why_not_lean
from timonel.settings import Settings

Message = dict[str, Any]
PENGUIN = {
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
}
TITANIC = {"Age": 22.0, "Sex": "male", "Embarked": "S"}
CRIME = {
    "iucr": "0930",
    "primary_type": "MOTOR VEHICLE THEFT",
    "description": "THEFT / RECOVERY - AUTOMOBILE",
    "location_description": "STREET",
    "arrest": False,
    "domestic": False,
    "beat": 412,
    "district": 4,
    "ward": 7,
    "community_area": 46,
    "latitude": 41.743747398,
    "longitude": -87.566115082,
    "mes": 6,
    "dia_mes": 4,
    "dia_semana": 1,
    "hora": 5,
}


async def ask(
    app: Any,
    path: str,
    *parts: bytes,
    headers: Iterable[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
    **scope: Any,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of what an ASGI application answers to a body in parts."""
    body = b"".join(parts)
    messages = [
        {"type": "http.request", "body": part, "more_body": place < len(parts)}
        for place, part in enumerate(parts, 1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asked = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "http_version": "1.1",
    }
    await app(asked | scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content


class Served:
    """Projects in this process: by way of the lean path, and without it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.handed_on = 0
        self.whole = app.front
        behind = app.behind

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.handed_on += scope["type"] == "http"
            await behind(scope, receive, send)

        app.front._app._app = counted

    async def both(self, path: str, *parts: bytes, **given: Any) -> bool:
        """Ask both ways and compare; returns whether the lean path answered."""
        before = self.handed_on
        quick = await ask(self.app, path, *parts, **given)
        lean = self.handed_on == before
        slow = await ask(self.app.behind, path, *parts, **given)
        assert quick[0] == slow[0], parts[0][:300]
        assert list(quick[1]) == list(slow[1])
        assert without_ids(quick) == without_ids(slow), parts[0][:300]
        assert not lean or quick[0] == 200
        return lean


def without_ids(reply: tuple[int, dict[bytes, bytes], bytes]) -> object:
    headers = {name: value for name, value in reply[1].items() if name != b"x-prediction-id"}
    body = json.loads(reply[2])
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "id"}
    return headers, body


@asynccontextmanager
async def serving(
    projects: list[Project], settings: Settings, *, at_root: bool = False
) -> AsyncIterator[Served]:
    app = app_of(projects, settings, at_root=at_root)
    async with app.router.lifespan_context(app):
        yield Served(app)


def recorded(settings: Settings) -> list[tuple[Any, ...]]:
    """The journal's records without ids and times, in the order of writing."""
    files = sorted(settings.journal_folder.glob("*"), key=lambda file: file.name)
    return [
        (item.project, list(item.rows), item.answers, item.via, item.environment)
        for file in files
        for item in read(file)
    ]


def replay(
    projects: list[Project], settings: Settings, path: str, bodies: Iterable[bytes]
) -> tuple[int, int]:
    """Send all bodies both ways; how many the lean path answered, and how many were recorded."""

    async def run() -> tuple[int, int]:
        lean = good = 0
        async with serving(projects, settings) as served:
            for body in bodies:
                lean += await served.both(path, body)
                status, _, _ = await ask(served.app.behind, path, body)
                good += status == 200 and body.strip() != b"[]"
        return lean, good

    counts = asyncio.run(run())
    # Each good body was recorded thrice: once by the path under test, twice by the route behind.
    records = recorded(settings)
    assert len(records) == 3 * counts[1]
    assert records[0::3] == records[1::3] == records[2::3]
    return counts


def test_penguins_are_answered_alike_both_ways(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    deploy(project, settings)
    bodies = [*bodies_of(PENGUIN), *(bad.body for bad in PENGUINS if len(bad.body) < 1_000_000)]
    lean, good = replay([project], settings, "/penguins/predict", bodies)
    assert lean == good > 90


def test_digits_are_answered_alike_both_ways(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("digits")
    deploy_digits(settings)
    bodies = [
        *pictures_of(784, ("pixels", "data", "image")),
        *(bad.body for bad in BODIES if len(bad.body) < 1_000_000),
    ]
    lean, good = replay([project], settings, "/digits/predict/", bodies)
    # Nested lists, and bodies with another key, are for the route behind.
    assert 80 < lean < good


@pytest.mark.parametrize("name", ["titanic", "crimes"])
def test_tables_with_texts_are_answered_alike_both_ways(name: str, tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project(name)
    deploy_embedded(project, settings, rows=700)
    row, under = (TITANIC, None) if name == "titanic" else (CRIME, "features")
    bodies = list(bodies_of(row, under))
    if name == "titanic":  # which takes lists
        bodies += [b"[" + body + b"]" for body in bodies] + [
            b"[" + body + b"," + bodies[0] + b"]" for body in bodies[::7]
        ]
    lean, good = replay([project], settings, f"/{name}/predict", bodies)
    assert lean == good > 50


@pytest.mark.parametrize("rows", ["one", "many", "either"])
def test_every_kind_of_field_is_answered_alike_both_ways(rows: str, tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), boat(rows=rows, under=None)
    launch(project, settings)
    bodies = list(bodies_of(MALE, seed=len(rows)))
    bodies += [b"[" + body + b"]" for body in bodies[::3]]
    lean, good = replay([project], settings, "/boat/predict", bodies)
    assert lean == good > 20


def test_validators_of_the_features_run_on_the_lean_path(tmp_path: Path) -> None:
    class Older(Passenger):
        @field_validator("age")
        @classmethod
        def adult(cls, age: float | None) -> float | None:
            if age is not None and age < 18:
                raise ValueError("an adult is expected")
            return age

    settings, project = home_at(tmp_path), boat(features=Older)
    launch(project, settings)
    bodies = [json.dumps(MALE | {"age": age}).encode() for age in (17, 18, None)]
    assert replay([project], settings, "/boat/predict", bodies) == (2, 2)


def test_what_is_not_plain_is_for_the_route_behind(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path, max_body=2_000), load_project("penguins")
    deploy(project, settings)
    body = json.dumps(PENGUIN).encode()
    json_type = (b"content-type", b"application/json")

    async def run() -> None:
        async with serving([project], settings, at_root=True) as served:
            assert await served.both("/predict", body)
            assert await served.both("/predict/", body, headers=())
            assert await served.both("/predict", body[:20], body[20:50], body[50:])
            form = (b"content-type", b"Multipart/form-data; boundary=x")
            for headers in (
                [form],
                [json_type, (b"origin", b"http://localhost:3000")],
                [json_type, (b"content-encoding", b"gzip")],
                [(b"content-type", b"text/csv")],
            ):
                assert not await served.both("/predict", body, headers=headers)
            assert not await served.both("/predict", body, query_string=b"model=rf")
            assert not await served.both("/predict", body + b" " * 2_000)
            assert not await served.both("/predict", body, b" " * 1_500, b" " * 1_500)
            for method in ("GET", "PUT", "OPTIONS"):
                assert not await served.both("/predict", body, method=method)
            assert not await served.both("/predictions", body)
            assert not await served.both("/predict", body, **{"timonel.deadline": 0.0})

    asyncio.run(run())


def test_without_a_version_and_without_a_quick_one_the_route_behind_answers(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")

    async def run(expected: int) -> None:
        async with serving([project], settings) as served:
            body = json.dumps(PENGUIN).encode()
            assert not await served.both("/penguins/predict", body)
            assert (await ask(served.app, "/penguins/predict", body))[0] == expected

    asyncio.run(run(503))
    deploy(project, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timonel.serving.measure.INLINE_SECONDS", 0.0)
        asyncio.run(run(200))


def test_a_full_journal_refuses_both_ways_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    deploy(project, settings)

    def full(journal: Journal, payloads: list[bytes]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_write", full)

    async def run() -> None:
        async with serving([project], settings) as served:
            quick, slow = [
                await ask(app, "/penguins/predict", json.dumps(PENGUIN).encode())
                for app in (served.app, served.app.behind)
            ]
            assert quick == slow
            assert list(quick[1]) == list(slow[1])
            assert quick[0] == JournalFull.status
            assert served.handed_on == 0

    asyncio.run(run())


def test_a_reply_that_fails_is_an_error_of_the_route_behind(tmp_path: Path) -> None:
    def reply(answer: Answer) -> dict[str, str]:
        raise KeyError(answer.id)

    settings, project = home_at(tmp_path), boat(reply=reply)
    launch(project, settings)

    async def run() -> None:
        async with serving([project], settings) as served:
            with pytest.raises(KeyError):
                await ask(served.app, "/boat/predict", json.dumps(MALE).encode())
            assert served.handed_on == 1

    asyncio.run(run())


def test_a_client_that_goes_before_its_body_is_there_is_not_answered(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    deploy(project, settings)

    async def run() -> None:
        async with serving([project], settings) as served:
            sent: list[Message] = []
            body = json.dumps(PENGUIN).encode()
            coming = [{"type": "http.request", "body": body, "more_body": True}]

            async def receive() -> Message:
                return coming.pop() if coming else {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/penguins/predict",
                "query_string": b"",
                "headers": [],
            }
            await served.app.front._app(scope, receive, send)
            assert sent[0]["status"] == 400

    asyncio.run(run())
    assert recorded(settings) == []


def test_a_project_with_a_cache_says_why_it_has_no_lean_path() -> None:
    class Anything(BaseModel):
        a: float

    plain = boat(features=Anything)
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    assert why_not_lean(plain) is None
    assert "cache" in str(why_not_lean(Project(**fields | {"cache": Cache()})))


def test_other_kinds_of_connections_are_handed_on() -> None:
    seen: list[str] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*given: Any) -> Any:
        raise NotImplementedError

    asyncio.run(LeanPath(behind, {})({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]
