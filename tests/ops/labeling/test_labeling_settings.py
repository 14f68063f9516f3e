"""Settings of labeling that do not go together."""

from typing import Any

import pytest

from smartdevdigest_ops.settings import SettingsError, load_settings

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("labeling", "said"),
    [
        ({"openai": {"price": {"max_cost": 1}}}, "only be held to with input_per_million"),
        ({"openai": {"price": {"input_per_million": 1}}}, "come together"),
        ({"openai": {"requests": {"tokens_per_minute": 100}}}, "more than a minute's tokens"),
        ({"teacher": "local"}, "needs local.model"),
        ({"local": {"model": "hf:org/name"}}, "needs a revision"),
        ({"agreement": {"share": 0.1}}, "cannot be asked twice"),
        ({"agreement": {"share": 0.1, "teacher": "openai"}}, "needs its settings under agreement.openai"),
        ({"agreement": {"share": 0.1, "teacher": "local", "local": {}}}, "needs agreement.local.model"),
        ({"openai": {"base_url": f"https://me:{SECRET}@host/v1"}}, "holds a user, a password or a query"),
        ({"openai": {"base_url": f"https://host/v1?key={SECRET}"}}, "holds a user, a password or a query"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_to_do(labeling: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings("ci", overrides={"labeling": labeling})
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)
