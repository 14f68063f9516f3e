"""What a crawl did, source by source, in numbers that add up."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from smartdevdigest_ops.crawl.delivery import Drop


@dataclass
class SourceCounts:
    """What became of the pages that a source lists; every one of them is counted once."""

    emitted: int = 0
    """New or changed: in the drop."""
    unchanged: int = 0
    """Fetched, and the record is the one emitted before."""
    not_modified: int = 0
    """The site said so (304)."""
    repeated: int = 0
    """Listed twice, by an earlier source as well, or leading to another page of this run."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    waiting: Counter[str] = field(default_factory=Counter)
    """By reason: back_off, limit, not_due, rate_limited, host_unavailable."""
    problem: str | None = None
    """Why the source counts as failed; None where it does not."""
    note: str | None = None
    """What it could list only in part."""

    @property
    def num_had(self) -> int:
        """Pages that were had, or had not changed."""
        return self.emitted + self.unchanged + self.not_modified + self.repeated

    @property
    def num_listed(self) -> int:
        """Pages that the source lists."""
        return self.num_had + self.refused.total() + self.waiting.total()

    def __str__(self) -> str:
        parts = [
            f"{number} {name}"
            for name, number in (
                ("emitted", self.emitted), ("unchanged", self.unchanged), ("not modified", self.not_modified),
                ("repeated", self.repeated),
            )
            if number
        ]  # fmt: skip
        for name, reasons in (("refused", self.refused), ("waiting", self.waiting)):
            if reasons:
                told = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
                parts.append(f"{reasons.total()} {name} ({told})")
        return f"{self.num_listed} listed" + (f" = {' + '.join(parts)}" if parts else "")


@dataclass(frozen=True)
class CrawlReport:
    """One crawl, those parts of it included that were done before it was interrupted."""

    run: str
    sources: Mapping[str, SourceCounts]
    drop: Drop | None
    """None: nothing was new."""
    earlier_drop: Drop | None
    """What an interrupted crawl of old had fetched, delivered first."""
    was_resumed: bool

    @property
    def num_failed(self) -> int:
        """Sources that failed."""
        return sum(counts.problem is not None for counts in self.sources.values())

    @property
    def num_had(self) -> int:
        """Pages that were had, or had not changed."""
        return sum(counts.num_had for counts in self.sources.values())

    def totals(self) -> dict[str, int]:
        """Numbers over all sources."""
        counts = self.sources.values()
        return {
            "num_listed": sum(c.num_listed for c in counts),
            "num_emitted": sum(c.emitted for c in counts),
            "num_unchanged": sum(c.unchanged for c in counts),
            "num_not_modified": sum(c.not_modified for c in counts),
            "num_repeated": sum(c.repeated for c in counts),
            "num_refused": sum(c.refused.total() for c in counts),
            "num_waiting": sum(c.waiting.total() for c in counts),
            "num_failed_sources": self.num_failed,
        }

    def lines(self) -> Iterator[str]:
        """The report for a terminal."""
        if self.was_resumed:
            yield "An interrupted crawl went on where it was; its numbers are those of the whole."
        width = max(map(len, ("drop", *self.sources)))
        for name, counts in self.sources.items():
            yield f"{name:<{width}}  {counts}"
            for kind, text in (("failed", counts.problem), ("note", counts.note)):
                if text is not None:
                    yield f"{'':<{width}}  {kind}: {text}"
        if self.earlier_drop is not None:
            drop = self.earlier_drop
            yield f"{'drop':<{width}}  {drop.address} ({drop.num_records} records of an interrupted crawl)"
        if self.drop is not None:
            yield f"{'drop':<{width}}  {self.drop.address} ({self.drop.num_records} records)"
        elif not self.totals()["num_listed"]:
            yield "no drop: no source listed a page"
        else:
            yield "nothing new: no drop"

    def markdown(self) -> str:
        """The report as a table."""
        rows = [
            f"| {name} | {c.num_listed} | {c.emitted} | {c.unchanged} | {c.not_modified} | {c.repeated} | "
            f"{_cell(c.refused)} | {_cell(c.waiting)} | {_cell_text(c.problem)} |"
            for name, c in self.sources.items()
        ]
        head = "| source | listed | emitted | unchanged | not modified | repeated | refused | waiting | failed |"
        return "\n".join([head, "|---|---:|---:|---:|---:|---:|---|---|---|", *rows])


def _cell_text(text: str | None) -> str:
    return " ".join((text or "").replace("|", "/").split())


def _cell(reasons: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items())) or "0"
