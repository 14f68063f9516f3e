import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_samples import Corpus, record, text
from lineage_samples import Chain
from release_samples import Graph

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, read_record
from smartdevdigest_ops.cli import main
from smartdevdigest_ops.housekeeping import verify
from smartdevdigest_ops.housekeeping.prune import prune
from smartdevdigest_ops.housekeeping.verify import verify_store
from smartdevdigest_ops.lineage.document_index import DocumentIndex
from smartdevdigest_ops.release.decisions import roll_back
from smartdevdigest_ops.settings import load_settings

Damage = Callable[[Path, random.Random], None]


def flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def delete(file: Path, rng: random.Random) -> None:
    file.unlink()


DAMAGES: tuple[Damage, ...] = (flip, truncate, delete)


@pytest.fixture(scope="module")
def real_store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """A corpus of two drops through the real stages, two releases and a rollback, and an old snapshot pruned."""
    from smartdevdigest_ops.stage import plan_stage, run_stage

    def run(name, settings, partition=None):
        return run_stage(plan_stage(name, settings, partition), lambda line: None)[0]

    root = tmp_path_factory.mktemp("verify")
    corpus = Corpus(root, run)
    for drop in range(2):
        corpus.drop(f"{drop}.jsonl", *(record(f"{drop}/{n}", text(100 * drop + n)) for n in range(40)))
        corpus.make("cleaned_corpus")
        corpus.make("corpus_snapshot")
    graph = Graph(root, run)
    graph.gate("first")
    graph.gate("second", rouge=0.31)  # of two records of one version, the loss of one cannot be seen
    roll_back(graph.settings, None, "why")
    settings = load_settings("ci", overrides={"store": {"root": str(corpus.store.root), "keep_versions": 1}})
    prune(settings, lambda line: None)
    assert [*corpus.store.root.glob("corpus_snapshot/pruned/*.json")]
    return corpus.store


def verified_files(store: ArtifactStore) -> list[Path]:
    """Everything that `verify` answers for: artifacts, records, pointers, what was pruned, the document index."""
    files = [path for path in store.root.rglob("*") if path.is_file()]
    outside = ("drops", ".locks", ".scratch", ".staging", ".cache")
    inside = [path for path in files if path.relative_to(store.root).parts[0] not in outside]
    return sorted([*inside, *DocumentIndex(store).directory.glob("*.ids")])


def names(store: ArtifactStore, file: Path) -> tuple[str, ...]:
    """By any of which `verify` may call a file: its path, its directory, and of a record what it is the record of."""
    if file.parent.name == "makings":
        return str(file), file.stem, read_record(file).version
    if file.parent.name == "pruned":
        return str(file), file.stem
    return str(file), str(file.parent)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_is_named(real_store: ArtifactStore, damage: Damage, seed: int) -> None:
    assert verify_store(real_store).problems == ()
    rng = random.Random(seed)
    files = verified_files(real_store)
    assert len(files) > 40
    for file in rng.sample(files, 25):
        if damage is delete and file.suffix == ".ids":
            continue  # is made again, and no loss
        if not file.stat().st_size:
            continue
        before, called = file.read_bytes(), names(real_store, file)
        file.unlink()  # versions of a corpus share files: this one becomes a file of its own
        file.write_bytes(before)
        damage(file, rng)
        try:
            problems = verify_store(real_store).problems
        finally:
            file.write_bytes(before)
        assert any(name in problem for problem in problems for name in called), (file, damage, problems)


def test_an_artifact_whose_input_is_gone_is_named_unless_it_was_pruned(chain: Chain, graph) -> None:
    assert verify_store(chain.store).problems == ()
    tokenizer = graph["domain_tokenizer"]
    remembered = chain.store.root / "domain_tokenizer" / "pruned" / f"{tokenizer.version}.json"
    chain.store.remove(tokenizer, "test", 0)
    (chain.store.root / "domain_tokenizer" / "current.json").unlink()
    problems = "\n".join(verify_store(chain.store).problems)
    assert "was made from" not in problems
    remembered.unlink()
    problems = "\n".join(verify_store(chain.store).problems)
    assert f"{graph['m1_checkpoint'].path}: was made from domain_tokenizer@{tokenizer.version}" in problems


def test_a_release_whose_model_is_gone_is_named(tmp_path: Path, run) -> None:
    graph = Graph(tmp_path, run)
    _, release = graph.gate("first")
    model = graph.store.open("quantized_model", release["quantized_model"])
    shutil.rmtree(model.path)
    assert any(
        f"the release names quantized_model@{model.version}" in problem
        for problem in verify_store(graph.store).problems
    )


def test_what_a_run_records_and_prune_removes_meanwhile_is_no_damage(chain: Chain, graph, monkeypatch) -> None:
    read_records, problems_of = verify._read_records, Artifact.problems

    def read_and_record_another(store):
        found = read_records(store)
        chain.model("m2_adapter", {"m1_checkpoint": graph["m1_checkpoint"].version})
        return found

    def prune_first(artifact):
        if artifact.asset == "domain_tokenizer":
            chain.store.remove(artifact, "test", 0)
        return problems_of(artifact)

    with monkeypatch.context() as patched:
        patched.setattr(verify, "_read_records", read_and_record_another)
        assert verify_store(chain.store).problems == ()
    before = verify_store(chain.store)
    monkeypatch.setattr(Artifact, "problems", prune_first)
    after = verify_store(chain.store)
    assert after.num_artifacts == before.num_artifacts - 1
    # What it was is told by nothing but the pointer to it.
    assert [problem for problem in after.problems if "domain_tokenizer" in problem] == list(after.problems)


def test_an_index_entry_of_other_documents_is_named_though_its_sum_fits(chain: Chain, graph) -> None:
    index = DocumentIndex(chain.store)
    for asset in ("corpus_snapshot", "labeled_pairs"):
        index.add(graph[asset])
    first, other = (
        index.place(graph["corpus_snapshot"].files[f"{name}.parquet"]["sha256"]) for name in ("train", "test")
    )
    first.write_bytes(other.read_bytes())
    assert any(str(first) in problem for problem in verify_store(chain.store).problems)


def test_the_command_ends_with_1_and_says_what_is_damaged(chain: Chain, graph, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(chain.store.root))
    assert main(["verify"]) == 0
    assert "7 artifacts, 11 files, 0 problems" in capsys.readouterr().out
    (graph["m1_checkpoint"].path / "model.txt").write_text("m1_checkpoint 9")
    assert main(["verify"]) == 1
    assert f"{graph['m1_checkpoint'].path / 'model.txt'}: content differs" in capsys.readouterr().out
