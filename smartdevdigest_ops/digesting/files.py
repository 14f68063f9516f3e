"""Documents from a file or standard input to digests, one JSON object per line: what the command line does."""

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from tqdm import tqdm

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.model import DigestOutcome, load_digester
from smartdevdigest_ops.drops.files import SUFFIXES, read_drop
from smartdevdigest_ops.drops.json_stream import lines
from smartdevdigest_ops.drops.records import MAX_RECORD_BYTES, Reject, parse_record, too_long
from smartdevdigest_ops.settings import Settings

# So many documents are read, then digested: a long file does not have to fit in memory.
_CHUNK_DOCUMENTS = 128


def digest_file(
    source: Path | None,
    model_dir: Path,
    settings: Settings,
    out: TextIO,
    *,
    with_urls: bool = False,
    stdin: BinaryIO | None = None,
) -> dict[str, int]:
    """Digest one document (JSON) or many (a drop's formats, JSON Lines) and write one digest per line, in order.

    Records that are no document, and documents that fail, are reported on standard error and counted; the others
    go on. Documents that are read in part are reported there too. `with_urls` writes {"url", "digest",
    "covered_share"} lines instead. Without a source the input is standard input. Returns counts by what happened.

    Raises:
        UserError: the input or the model directory cannot be read at all.
        DigestingError: the input holds no record.
    """
    name = str(source) if source else "standard input"
    model = settings.model
    counts = {"digests": 0, "records refused": 0, "documents failed": 0}
    entries = _read_path(source) if source else _read_text((stdin or sys.stdin.buffer).read())
    chunk: list[tuple[int, CrawlRecord]] = []
    digester = load_digester(
        model_dir, device=model.device, precision=model.precision, threads=model.threads, may_use_vllm=True
    )

    def digest_chunk() -> None:
        for outcome in digester.digest([record for _, record in chunk], on_step=lambda _: progress.refresh()):
            progress.update()
            number, record = chunk[outcome.index]
            _write(outcome, f"{name}, record {number}", out, counts, url=record.url if with_urls else None)
        chunk.clear()

    with tqdm(desc="digests", unit="document", file=sys.stderr, disable=None) as progress:
        for number, entry in entries:
            if isinstance(entry, Reject):
                counts["records refused"] += 1
                tqdm.write(f"{name}, record {number}: {entry.reason}; left out.", file=sys.stderr)
                continue
            chunk.append((number, entry))
            if len(chunk) == _CHUNK_DOCUMENTS:
                digest_chunk()
        digest_chunk()
    if not any(counts.values()):
        raise DigestingError(f"{name} holds no record. Needed: one document as JSON, or one per line.")
    return {what: count for what, count in counts.items() if count or what == "digests"}


def _write(outcome: DigestOutcome, place: str, out: TextIO, counts: dict[str, int], *, url: str | None) -> None:
    if outcome.digest is None:
        counts["documents failed"] += 1
        tqdm.write(f"{place}: {outcome.error}", file=sys.stderr)
        return
    counts["digests"] += 1
    if outcome.covered_share < 1:
        percent = math.floor(100 * outcome.covered_share)
        tqdm.write(f"{place}: the digest covers {percent} % of it; the rest did not fit into the prompt.", sys.stderr)
    digest = outcome.digest.model_dump(mode="json")
    line = {"url": url, "digest": digest, "covered_share": round(outcome.covered_share, 4)} if url else digest
    out.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.flush()


def _read_path(source: Path) -> Iterator[tuple[int, CrawlRecord | Reject]]:
    known = source.name.lower().endswith(SUFFIXES)
    if known and (source.suffix.lower() != ".json" or _starts_with(source, b"[")):
        return read_drop(source)
    try:
        return _read_text(source.read_bytes())
    except OSError as error:
        raise DigestingError(f"{source} could not be read: {error.strerror}.") from None


def _starts_with(source: Path, opening: bytes) -> bool:
    """Whether a file's first character is this: an array of documents, or one."""
    with source.open("rb") as stream:
        return stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(opening)


def _read_text(data: bytes) -> Iterator[tuple[int, CrawlRecord | Reject]]:
    """Records of a text: the whole of it if that is one JSON object, else one per line that is not blank."""
    whole = parse_record(data)
    if isinstance(whole, CrawlRecord) or _is_json(data):
        yield 1, whole
        return
    for number, line, num_bytes in lines(io.BytesIO(data), MAX_RECORD_BYTES):
        if num_bytes > MAX_RECORD_BYTES:
            yield number, too_long(num_bytes, line)
        elif line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield number, parse_record(line)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
