"""Where data comes from and artifacts go."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from smartdevdigest_ops.settings.section import Section


class StoreSettings(Section):
    """Where artifacts live."""

    root: str = Field("store/{profile}", description="Directory; `{profile}` keeps the profiles' graphs apart.")
    keep_versions: int = Field(
        3, ge=1, description="Newest versions of each asset (of each drop) that `smartdevdigest prune` keeps."
    )
    keep_releases: int = Field(
        10, ge=1, description="Newest releases whose models and reports it keeps, to go back to; and what made them."
    )
    keep_scratch_days: float = Field(
        14, ge=0, description="Days after which it removes what an interrupted making left to go on from."
    )


class DataSettings(Section):
    """Files that come in from outside. Relative paths are relative to the project directory."""

    train_path: str = Field(description="Drops of crawl records: a file, a directory or a glob.")
    valid_path: str | None = Field(None, description="Crawl records always held out for validation; null: by URL hash.")
    test_path: str | None = Field(None, description="Crawl records always held out for testing; null: by URL hash.")
    incoming_path: str = Field(
        "data/incoming",
        description="Where the drop sensor looks: a directory, or a pattern like s3://bucket/crawl/*/*.parquet, on any "
        "filesystem that fsspec has a driver for. Credentials come from the driver's own configuration.",
    )
    incoming_seconds: int = Field(30, ge=1, description="Seconds between two looks at incoming_path.")
    drop_ready: Literal["settled", "done"] = Field(
        "settled",
        description="settled: a file is taken once it stood still for drop_settled_seconds over two looks; "
        "done: once `<name>.done` lies beside it, however long its writer paused.",
    )
    drop_settled_seconds: float = Field(
        10.0,
        ge=0,
        description="0: files are taken at first sight, for writers that rename into place and for object stores.",
    )
    copies_gib: float = Field(
        20.0,
        gt=0,
        description="Disk space for copies of remote drops; those already taken in make room. A bigger drop is not "
        "taken.",
    )
    gold_paths: tuple[str, ...] = Field(
        (), description="Evaluation data (JSON Lines): its URLs are held out, documents that contain its text dropped."
    )
    takedown_path: str | None = Field(None, description="List of URLs and patterns that must leave the corpus.")
    label_paths: tuple[str, ...] = Field((), description="Recorded label files (contracts/label.py), JSON Lines.")
    general_paths: tuple[str, ...] = Field(
        ("data/general/*.jsonl",),
        description="General text (JSON Lines: id, language, split = replay | held_out, text), files or globs: what M1 "
        "replays, and by which it is measured whether anything general was forgotten.",
    )

    @field_validator("incoming_path")
    @classmethod
    def _no_password_and_no_chain(cls, path: str) -> str:
        if "://" in path and urlsplit(path).password is not None:
            # The settings go into logs, the UI and every making's record.
            raise ValueError(
                "holds a password, which would be written into logs and records. Take it out, and give it to the "
                "driver: FSSPEC_<PROTOCOL>_PASSWORD in the environment, or the driver's own configuration."
            )
        if "::" in path:
            raise ValueError(f"incoming_path={path!r} chains filesystems (::), which are not watched. Name one.")
        return path
