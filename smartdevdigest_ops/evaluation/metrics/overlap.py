"""How much of a gold summary or keyword list a system's answer holds. All values are in 0-1.

ROUGE: rouge-score's F-measure, with its default tokenizer and Porter stemming for English and content morphemes
(`text.morphemes`) for Korean; ROUGE-Lsum is of the sentences that `text.sentences` finds. BLEU: sacrebleu's sentence
BLEU (effective order, so that a short summary without a shared 4-gram is not 0), tokenised as `13a` for English and
as Kiwi's morphemes (`tokenize="none"`) for Korean, because sacrebleu's `ko-mecab` needs a system library. chrF++:
sacrebleu's chrF2 on characters and on one and two words between spaces (`word_order=2`), alike in both languages.

Source: Lin 2004 (ROUGE), Papineni et al. 2002 (BLEU), Popović 2017 (chrF++).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.digesting.answer import folded
from smartdevdigest_ops.evaluation.text.morphemes import spaced_morphemes, word_tokenizer
from smartdevdigest_ops.evaluation.text.sentences import split_sentences

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
OVERLAP_METRICS = (*ROUGE_TYPES, "bleu", "chrf_plus_plus")

# The check of the metric itself: texts on the same subject that say the opposite, sharing two Latin words.
KOREAN_STATEMENT = "Docker 컨테이너를 Linux 서버에서 실행하면 배포가 빠르고 안전해서 작은 팀에 알맞다."
KOREAN_CONTRADICTION = (
    "구형 장비라면 Docker 도입은 느리고 위험하므로 피하고, Linux 대신 익숙한 환경을 계속 쓰는 편이 낫다."
)


@lru_cache(maxsize=2)
def _rouge_scorer(language: str) -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE_TYPES), tokenizer=word_tokenizer(language))


@lru_cache(maxsize=2)
def _sentence_bleu(language: str) -> "BLEU":
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True, tokenize="none" if language == "ko" else "13a")


@lru_cache(maxsize=1)
def _chrf() -> "CHRF":
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def rouge(gold: str, answer: str, language: str) -> dict[str, float]:
    """`ROUGE_TYPES`: F-measure of `answer` against `gold`."""
    gold, answer = ("\n".join(split_sentences(text, language)) for text in (gold, answer))
    return {name: float(score.fmeasure) for name, score in _rouge_scorer(language).score(gold, answer).items()}


def bleu(gold: str, answer: str, language: str) -> float:
    """Sentence BLEU of `answer` against `gold`."""
    if language == "ko":
        gold, answer = spaced_morphemes(gold), spaced_morphemes(answer)
    # Equal texts come out as 100.00000000000004.
    return min(1.0, float(_sentence_bleu(language).sentence_score(answer, [gold]).score) / 100)


def chrf_plus_plus(gold: str, answer: str) -> float:
    """ChrF++ of `answer` against `gold`."""
    return float(_chrf().sentence_score(answer, [gold]).score) / 100


def summary_scores(gold: str, answer: str | None, language: str) -> dict[str, float]:
    """`OVERLAP_METRICS` of one summary; all 0 where a system gave no valid answer."""
    if not answer:
        return dict.fromkeys(OVERLAP_METRICS, 0.0)
    return rouge(gold, answer, language) | {
        "bleu": bleu(gold, answer, language),
        "chrf_plus_plus": chrf_plus_plus(gold, answer),
    }


def list_scores(name: str, gold: Sequence[str], answer: Sequence[str], language: str) -> dict[str, float]:
    """`NAME_f1` and `NAME_f1_stemmed` of keywords or terms.

    Items are equal after folding case and width, or after what ROUGE does to words: stems, content morphemes.
    """
    tokenizer = word_tokenizer(language)
    stemmed = [{tuple(tokenizer.tokenize(word)) or (folded(word),) for word in words} for words in (gold, answer)]
    return {
        f"{name}_f1": set_f1({folded(word) for word in gold}, {folded(word) for word in answer}),
        f"{name}_f1_stemmed": set_f1(*stemmed),
    }


def set_f1(gold: set[Any], answer: set[Any]) -> float:
    """F1 of two sets; 1 where both are empty."""
    if not gold and not answer:
        return 1.0
    return 2 * len(gold & answer) / (len(gold) + len(answer))


def korean_self_check() -> tuple[float, float]:
    """ROUGE-L of a Korean text with itself (must be 1) and with one that says the opposite (must be near 0)."""
    return (
        rouge(KOREAN_STATEMENT, KOREAN_STATEMENT, "ko")["rougeL"],
        rouge(KOREAN_STATEMENT, KOREAN_CONTRADICTION, "ko")["rougeL"],
    )
