"""Terms of its own that a base model is under: accepted by name before it is used, and handed on with what is made.

Standard library only, so that `make` can ask before anything is installed:

    python -m smartdevdigest_ops.models.terms gemma ACCEPTED
"""

import shutil
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from smartdevdigest_ops.errors import UserError

# Files of a model that say on which terms it may be used and passed on.
LEGAL_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "*TERMS*", "USE_POLICY*")
NOTICE_FILE = "NOTICE"


class TermsNotAccepted(UserError):
    """The base model is under terms that the settings do not accept."""


@dataclass(frozen=True)
class Terms:
    """Terms that a user has to agree to; an open licence such as Apache-2.0 asks for none."""

    name: str
    """As model cards and GGUF headers write it in `license`."""
    title: str
    url: str
    policy_url: str
    notice: str
    """The sentence that every copy and derivative has to carry in its notice."""
    models: tuple[str, ...]
    """Patterns of `model.base_model`: known by name before the model is there to be asked."""


# Source: the agreement's sections 3.1 (copy, notice and marks of change) and 3.2 (use policy).
GEMMA = Terms(
    name="gemma",
    title="Gemma Terms of Use",
    url="https://ai.google.dev/gemma/terms",
    policy_url="https://ai.google.dev/gemma/prohibited_use_policy",
    notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    models=("package:gemma*", "hf:google/gemma*"),
)
KNOWN_TERMS = (GEMMA,)


def terms_of(base_model: str, license_name: str | None = None) -> Terms | None:
    """The terms of a base model, by the name it is asked for or by the licence that it states; None: none known."""
    for terms in KNOWN_TERMS:
        if license_name == terms.name or any(fnmatch(base_model, pattern) for pattern in terms.models):
            return terms
    return None


def require_acceptance(terms: Terms | None, accepted: str | None) -> None:
    """Pass where there are no terms, or where `accepted` (`model.accept_terms`) names them.

    Raises:
        TermsNotAccepted: it does not.
    """
    if terms is None or accepted == terms.name:
        return
    found = f"model.accept_terms is {accepted!r}" if accepted else "nobody has accepted them here"
    raise TermsNotAccepted(
        f"The base model is under the {terms.title} ({terms.url}), which bind you, the models made from it and whoever "
        f"gets them, and forbid some uses ({terms.policy_url}); {found}. Nothing was installed, downloaded or made. "
        f"Read them, and if you accept them, say so: ACCEPT={terms.name} after `make run`, --set "
        f"model.accept_terms={terms.name} after `smartdevdigest run`, or `accept_terms: {terms.name}` under `model:` "
        "in the profile."
    )


def write_notice(out: Path, terms: Terms, change: str) -> None:
    """`NOTICE`: the sentence that the terms ask for, and what was changed."""
    (out / NOTICE_FILE).write_text(f"{terms.notice}\n\nModified: {change}\n", encoding="utf-8")


def carry_terms(upstream: Path, out: Path, change: str) -> list[str]:
    """Copy the legal files of an artifact into one that is made from it; returns their names.

    Where there is a `NOTICE`, it says one line more: `change`, what this artifact changed ("trained on ...").
    """
    names = sorted(file.name for file in upstream.iterdir() if file.is_file() and is_legal_file(file.name))
    for name in names:
        shutil.copyfile(upstream / name, out / name)
    if NOTICE_FILE in names:
        with (out / NOTICE_FILE).open("a", encoding="utf-8") as notice:
            notice.write(f"Modified: {change}\n")
    return names


def is_legal_file(name: str) -> bool:
    """Whether a file of a model says on which terms it comes."""
    return any(fnmatch(name, pattern) for pattern in LEGAL_FILES)


def _main(name: str, accepted: str = "") -> int:
    terms = next((terms for terms in KNOWN_TERMS if terms.name == name), None)
    if terms is None:
        print(f"{name!r} names no terms. Known: {', '.join(terms.name for terms in KNOWN_TERMS)}.", file=sys.stderr)
        return UserError.exit_code
    try:
        require_acceptance(terms, accepted or None)
    except TermsNotAccepted as refusal:
        print(refusal, file=sys.stderr)
        return refusal.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
