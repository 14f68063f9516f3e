"""Where a store keeps its Dagster instance."""

import os
import tempfile
from pathlib import Path

from smartdevdigest_ops.settings import PROJECT_DIR


def prepare_dagster_home(store_dir: Path) -> Path:
    """`<store>/dagster`, with the project's dagster.yaml linked into it; set as DAGSTER_HOME for this process."""
    home = store_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    link = home / "dagster.yaml"
    if not link.exists():
        # By rename: another process that starts in the same store may be about to make it too, or to read it.
        with tempfile.TemporaryDirectory(dir=home) as beside:
            made = Path(beside) / link.name
            made.symlink_to(PROJECT_DIR / "dagster.yaml")
            made.replace(link)
    os.environ["DAGSTER_HOME"] = str(home)
    return home
