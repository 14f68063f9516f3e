"""The settings tree: `config/config.yaml` is its file, `config/profiles/*.yaml` lay over it.

Every leaf is checked at load; a wrong key, type or combination is refused with its path, what was found and
what was expected. A stage sees only the sections it declares (`Settings.only`), so that a setting that cannot
change an artifact cannot re-make it either.
"""

from smartdevdigest_ops.settings.automation import AutomationSettings, ExecutionSettings
from smartdevdigest_ops.settings.corpus import (
    CorpusSettings,
    DuplicateSettings,
    PrivacySettings,
    QualitySettings,
    SplitSettings,
)
from smartdevdigest_ops.settings.crawl import CrawlSettings
from smartdevdigest_ops.settings.data import (
    DataSettings,
    StoreSettings,
)
from smartdevdigest_ops.settings.delivery import (
    AnswerSettings,
    DigestingSettings,
    EvaluationSettings,
    FactorWeights,
    LayerOverride,
    QuantizationSettings,
    RecoverySettings,
    ReleaseSettings,
)
from smartdevdigest_ops.settings.judge import JudgeSettings, LocalJudgeSettings
from smartdevdigest_ops.settings.labeling import (
    AgreementSettings,
    LabelingSettings,
    LocalTeacherSettings,
    OpenAITeacherSettings,
    TeacherPriceSettings,
    TeacherSettings,
)
from smartdevdigest_ops.settings.load import (
    CONFIG_DIR,
    DEFAULT_PROFILE,
    OVERRIDES_VARIABLE,
    SettingsError,
    load_settings,
    parse_overrides,
    profile_names,
)
from smartdevdigest_ops.settings.section import (
    PROJECT_DIR,
    Section,
    resolve_path,
)
from smartdevdigest_ops.settings.serving import ServingSettings
from smartdevdigest_ops.settings.teachers import (
    EndpointSettings,
    LocalModelSettings,
    PriceSettings,
    RequestSettings,
)
from smartdevdigest_ops.settings.training import (
    LoraSettings,
    M1Settings,
    M2Settings,
    ModelSettings,
    TokenizerSettings,
    TrackingSettings,
    TrainingSettings,
    TrainingStages,
)
from smartdevdigest_ops.settings.tree import (
    Settings,
)

__all__ = [
    "CONFIG_DIR",
    "DEFAULT_PROFILE",
    "OVERRIDES_VARIABLE",
    "PROJECT_DIR",
    "AgreementSettings",
    "AnswerSettings",
    "AutomationSettings",
    "CorpusSettings",
    "CrawlSettings",
    "DataSettings",
    "DigestingSettings",
    "DuplicateSettings",
    "EndpointSettings",
    "EvaluationSettings",
    "ExecutionSettings",
    "FactorWeights",
    "JudgeSettings",
    "LabelingSettings",
    "LayerOverride",
    "LocalJudgeSettings",
    "LocalModelSettings",
    "LocalTeacherSettings",
    "LoraSettings",
    "M1Settings",
    "M2Settings",
    "ModelSettings",
    "OpenAITeacherSettings",
    "PriceSettings",
    "PrivacySettings",
    "QualitySettings",
    "QuantizationSettings",
    "RecoverySettings",
    "ReleaseSettings",
    "RequestSettings",
    "Section",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "SplitSettings",
    "StoreSettings",
    "TeacherPriceSettings",
    "TeacherSettings",
    "TokenizerSettings",
    "TrackingSettings",
    "TrainingSettings",
    "TrainingStages",
    "load_settings",
    "parse_overrides",
    "profile_names",
    "resolve_path",
]
