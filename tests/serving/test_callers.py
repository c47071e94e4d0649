"""Whose a path is, and who is near."""

import pytest

from timonel.errors import NotAllowed
from timonel.serving.callers import Place, check_near, check_page, is_far, place_of

PROJECTS = ("digits", "penguins")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/health", Place("probe")),
        ("/digits/ready/", Place("probe")),
        ("/v2/health/live", Place("probe")),
        ("/v2/models/digits/cnn/ready", Place("probe")),
        ("/", Place("about")),
        ("/docs/", Place("about")),
        ("/docs/assets/swagger-ui.css", Place("about")),
        ("/docs/assets/health", Place("about")),
        ("/openapi.json", Place("about")),
        ("/v2", Place("about")),
        ("/v2/models", Place("about")),
        ("/metrics", Place("metrics")),
        ("/digits/predict", Place("predict", "digits")),
        ("/digits/predict/", Place("predict", "digits")),
        ("/penguins/feedback", Place("feedback", "penguins")),
        ("/penguins/feedback/", Place("feedback", "penguins")),
        ("/penguins/invocations", Place("predict", "penguins")),
        ("/endpoints/penguins/invocations", Place("predict", "penguins")),
        ("/v2/models/digits/infer", Place("predict", "digits")),
        ("/v2/models/digits/cnn/versions/3/infer", Place("predict", "digits")),
        ("/predict", Place("predict")),
        ("/docsy", Place("predict")),
        ("//api/projects/digits/runs", Place("operate", "digits")),
        ("/api", Place("operate")),
        ("/api/events", Place("operate")),
        ("/api/projects/digits/runs", Place("operate", "digits")),
        ("/api/projects/digits/health", Place("operate", "digits")),
        ("/digits/run-pipeline/", Place("operate", "digits")),
        ("/run-pipeline", Place("operate")),
        ("/v2/repository/models/digits/load", Place("operate")),
    ],
)
def test_a_path_has_a_place(path: str, place: Place) -> None:
    assert place_of(path, PROJECTS, at_root=False) == place


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/predict", Place("predict", "digits")),
        ("/invocations", Place("predict", "digits")),
        ("/digits/predict", Place("predict", "digits")),
        ("/feedback", Place("feedback", "digits")),
        ("/run-pipeline", Place("operate", "digits")),
        ("/api/events", Place("operate")),
        ("/health", Place("probe")),
    ],
)
def test_what_is_at_the_root_is_the_only_projects(path: str, place: Place) -> None:
    assert place_of(path, ("digits",), at_root=True) == place


@pytest.mark.parametrize(
    ("client", "host", "near"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", None, True),
        ("::1", "[::1]:8000", True),
        ("", "LOCALHOST:8000", True),
        ("10.0.0.7", "127.0.0.1:8000", False),
        ("unknown", "127.0.0.1:8000", False),
        ("127.0.0.1", "evil.example:8000", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "[::1", False),
        ("127.0.0.1", "", False),
        ("", "evil.example", False),
    ],
)
def test_only_this_machine_by_its_own_name_is_near(
    client: str, host: str | None, near: bool
) -> None:
    if near:
        check_near(client, host)
    else:
        with pytest.raises(NotAllowed, match="--keys"):
            check_near(client, host)


@pytest.mark.parametrize(
    ("origin", "host", "locked", "allowed"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1:8000", False, True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", False, True),
        ("http://evil.example", "127.0.0.1:8000", False, False),
        ("http://evil.example:8000", "evil.example:8000", False, False),
        ("https://models.example", "models.example", True, True),
        ("http://evil.example", "models.example", True, False),
        ("null", "127.0.0.1:8000", False, False),
        ("null", "null", True, False),
    ],
)
def test_a_page_is_this_servers_or_one_that_is_known(
    origin: str, host: str, locked: bool, allowed: bool
) -> None:
    headers = {b"origin": origin.encode(), b"host": host.encode()}
    if allowed:
        check_page(headers, ["http://127.0.0.1:3000"], locked=locked)
    else:
        with pytest.raises(NotAllowed, match=r"evil\.example|null"):
            check_page(headers, ["http://127.0.0.1:3000"], locked=locked)


def test_a_browser_that_says_cross_site_without_saying_which_is_refused() -> None:
    for site in (b"same-origin", b"same-site", b"none"):
        check_page({b"sec-fetch-site": site}, [], locked=False)
    with pytest.raises(NotAllowed, match="another site"):
        check_page({b"sec-fetch-site": b"cross-site"}, [], locked=False)


@pytest.mark.parametrize(
    ("host", "far"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("testserver", False),
        ("/run/timonel.sock", False),
        ("0.0.0.0", True),
        ("10.0.0.7", True),
        ("fe80::1", True),
    ],
)
def test_an_address_that_others_reach_is_far(host: str, far: bool) -> None:
    assert is_far(host) is far
