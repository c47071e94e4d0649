"""Settings: variables, defaults, and the same for a process of ours."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from timonel.settings import Settings


def test_everything_lives_in_the_home_by_default(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/timonel.db"
    assert settings.registry_url == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.objects_url == (tmp_path / "objects").as_uri()


def test_variables_give_settings_and_arguments_override_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIMONEL_PORT", "9000")
    monkeypatch.setenv("TIMONEL_WORKERS", "4")
    assert Settings().port == 9000
    settings = Settings(port=9001)
    assert (settings.port, settings.workers) == (9001, 4)


def test_the_environment_and_the_registry_have_the_names_that_others_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    settings = Settings()
    assert settings.environment == "prod"
    assert settings.registry_url == "http://127.0.0.1:5001"


def test_a_value_that_is_not_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMONEL_PORT", "70000")
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("answers", ["127.0.0.1:6379", "http://127.0.0.1"])
def test_an_answers_cache_that_is_no_redis_is_refused(answers: str) -> None:
    with pytest.raises(ValidationError, match="redis"):
        Settings(answers=answers)


def test_a_process_of_ours_is_given_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, port=9000, environment="prod", registry="sqlite:///a.db")
    for name, value in settings.environment_variables().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
