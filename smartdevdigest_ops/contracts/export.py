"""Write the contracts' JSON Schemas: `python -m smartdevdigest_ops.contracts.export`."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from smartdevdigest_ops.contracts.digest import Digest
from smartdevdigest_ops.contracts.document import CrawlRecord
from smartdevdigest_ops.contracts.evaluation_report import EvaluationReport
from smartdevdigest_ops.contracts.label import Label

SCHEMA_DIR = Path(__file__).parent / "schemas"
CONTRACTS: dict[str, type[BaseModel]] = {
    "crawl_record": CrawlRecord,
    "label": Label,
    "digest": Digest,
    "evaluation_report": EvaluationReport,
}


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of one contract, by its name in `CONTRACTS`."""
    schema: dict[str, Any] = CONTRACTS[name].model_json_schema()
    if name == "crawl_record":
        # The model keeps unknown keys aside in `extra`; on the wire they are simply allowed.
        schema["additionalProperties"] = True
        schema["properties"].pop("extra")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def main() -> None:
    """Write every schema into `contracts/schemas/`."""
    SCHEMA_DIR.mkdir(exist_ok=True)
    for name in CONTRACTS:
        text = json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
        (SCHEMA_DIR / f"{name}.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
