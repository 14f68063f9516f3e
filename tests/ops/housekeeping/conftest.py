from pathlib import Path

import pytest
from lineage_samples import Chain, publish_graph

from smartdevdigest_ops.artifacts import Artifact


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "store")


@pytest.fixture
def graph(chain: Chain) -> dict[str, Artifact]:
    return publish_graph(chain)
