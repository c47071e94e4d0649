"""Where things live and how much is allowed: environment variables TIMONEL_*, one place."""

from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone, by a name or address that nobody else can take."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Every setting; the environment's TIMONEL_<NAME> gives it, arguments override it."""

    model_config = SettingsConfigDict(
        env_prefix="TIMONEL_", frozen=True, populate_by_name=True, extra="ignore"
    )

    home: Path = Field(Path(".timonel"), description="the folder that everything is kept under")
    data: Path | None = Field(None, description="a folder searched before any URL")
    database: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in the home")
    objects: str | None = Field(None, description="object store URL; default: a folder in the home")
    registry: str | None = Field(
        None,
        description="MLflow tracking URI; default: SQLite in the home",
        validation_alias=AliasChoices("TIMONEL_REGISTRY", "MLFLOW_TRACKING_URI", "registry"),
    )
    answers: str | None = Field(
        None,
        pattern="^(redis|rediss|unix)://",
        description="Redis URL of the answers cache; default: each process's memory",
    )
    environment: Literal["dev", "prod"] = Field(
        "dev",
        description="names the text log of predictions",
        validation_alias=AliasChoices("TIMONEL_ENVIRONMENT", "ENVIRONMENT", "environment"),
    )
    projects: str = Field(
        "digits,penguins", description="what timonel.asgi:app serves, comma-separated"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    workers: int = Field(2, ge=1, le=256, description="processes that answer")
    keys: bool = Field(False, description="ask for a key on a loopback address too")
    open: Literal["predict"] | None = Field(
        None, description="`predict`: predictions need no key, whatever the address"
    )
    origins: str = Field(
        "http://127.0.0.1:3000,http://localhost:3000",
        description="page addresses allowed to call the API, comma-separated",
    )
    max_body: int = Field(8_000_000, ge=1_000, description="largest request body in bytes")
    max_rows: int = Field(10_000, ge=1, description="most rows in one request")
    max_table_rows: int = Field(
        100_000, ge=1, description="most rows in a request whose body is a table (CSV, Arrow, …)"
    )
    max_pixels: int = Field(50_000_000, ge=1_000, description="largest picture in pixels")
    max_waiting: int = Field(
        0, ge=0, description="most requests that a worker holds at once; 0: by its slowest model"
    )
    max_held: int = Field(
        64_000_000, ge=1_000, description="most bytes of bodies that a worker holds at once"
    )
    body_seconds: float = Field(
        30.0, gt=0, description="longest that a request's body may take to arrive"
    )
    journal_full: Literal["refuse", "answer"] = Field(
        "refuse", description="what to do when the journal cannot be written"
    )
    journal_fsync: bool = Field(False, description="fsync each group of journal records")
    journal_rotate_seconds: float = Field(
        5.0, gt=0, description="oldest that a journal file gets before it is exported"
    )
    journal_rotate_bytes: int = Field(
        64_000_000, ge=4_096, description="largest that a journal file gets"
    )
    controller: bool = Field(
        True, description="run the process that steers rollouts and watches for drift"
    )
    jobs: int = Field(0, ge=0, description="processes for training; 0: one a core")

    @cached_property
    def root(self) -> Path:
        """The home as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def locked(self) -> bool:
        """Whether callers need a key: asked for, or the address is not only this machine's."""
        return self.keys or not is_loopback(self.host)

    def environment_variables(self) -> dict[str, str]:
        """These settings as variables, for a process that is to have the same."""
        given = self.model_dump(mode="json", exclude_none=True) | {"home": str(self.root)}
        return {f"TIMONEL_{name.upper()}": str(value) for name, value in given.items()}

    @property
    def database_url(self) -> str:
        """The state database."""
        return self.database or f"sqlite:///{self.root / 'timonel.db'}"

    @property
    def objects_url(self) -> str:
        """The object store."""
        return self.objects or (self.root / "objects").as_uri()

    @property
    def registry_url(self) -> str:
        """MLflow's tracking and registry store."""
        return self.registry or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def journal_folder(self) -> Path:
        """Where workers append."""
        return self.root / "journal"

    @property
    def serving_folder(self) -> Path:
        """Verified copies of the versions that serve."""
        return self.root / "serving"

    @property
    def cache_folder(self) -> Path:
        """Downloads."""
        return self.root / "cache"

    @property
    def logs_folder(self) -> Path:
        """What runs and workers say."""
        return self.root / "logs"
