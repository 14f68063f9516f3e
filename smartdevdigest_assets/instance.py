"""Where a store keeps its Dagster instance."""

import os
from pathlib import Path

from smartdevdigest_ops.settings import PROJECT_DIR


def prepare_dagster_home(store_dir: Path) -> Path:
    """`<store>/dagster`, with the project's dagster.yaml linked into it; set as DAGSTER_HOME for this process."""
    home = store_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    link = home / "dagster.yaml"
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(PROJECT_DIR / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home
