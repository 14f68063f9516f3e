"""The Korean morphological analyser, of which the whole process needs one."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kiwipiepy import Kiwi


@cache
def load_kiwi() -> "Kiwi":
    """Kiwi with its own dictionary, loaded once (about 1.3 s, 400 MB) when the first Korean text comes."""
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)
