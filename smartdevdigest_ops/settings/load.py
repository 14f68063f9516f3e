"""Settings of a profile, read from their files and checked."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings.section import PROJECT_DIR
from smartdevdigest_ops.settings.tree import Settings

CONFIG_DIR = PROJECT_DIR / "config"
DEFAULT_PROFILE = "sample"
OVERRIDES_VARIABLE = "SMARTDEVDIGEST_OVERRIDES"
# libyaml, where PyYAML was built with it, takes a fourth of the time.
_FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SettingsError(UserError):
    """The settings files hold a wrong key, type or combination."""


def profile_names() -> list[str]:
    """Profiles that exist in `config/profiles`."""
    return sorted(path.stem for path in (CONFIG_DIR / "profiles").glob("*.yaml"))


def load_settings(
    profile: str | None = None, *, overrides: Mapping[str, Any] | None = None, config_dir: Path = CONFIG_DIR
) -> Settings:
    """Settings of `config.yaml`, the profile over it, and `overrides` (a nested mapping) over both.

    Without a profile: environment variable `SMARTDEVDIGEST_PROFILE`, then `sample`. The environment can lay more over
    the profile, for processes that get no arguments: `SMARTDEVDIGEST_STORE` (the store's root) and
    `SMARTDEVDIGEST_OVERRIDES` (a YAML mapping).

    Raises:
        SettingsError: a file is missing or unreadable, or a key, type or combination is wrong.
    """
    profile = profile or os.environ.get("SMARTDEVDIGEST_PROFILE") or DEFAULT_PROFILE
    profile_file = config_dir / "profiles" / f"{profile}.yaml"
    if not profile_file.is_file():
        raise SettingsError(
            f"There is no profile {profile!r}: {profile_file} does not exist. Profiles: {', '.join(profile_names())}."
        )
    tree = _merge(_read_yaml(config_dir / "config.yaml"), _read_yaml(profile_file))
    if store := os.environ.get("SMARTDEVDIGEST_STORE"):
        tree = _merge(tree, {"store": {"root": store}})
    if text := os.environ.get(OVERRIDES_VARIABLE):
        tree = _merge(tree, parse_overrides(text))
    tree = _merge(tree, dict(overrides or {})) | {"profile": profile}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, profile)) from None


def parse_overrides(text: str) -> dict[str, Any]:
    """The mapping that `SMARTDEVDIGEST_OVERRIDES` holds.

    Raises:
        SettingsError: it is not a YAML mapping.
    """
    try:
        tree = _parse(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{OVERRIDES_VARIABLE} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{OVERRIDES_VARIABLE} must hold a YAML mapping of settings, found {text[:80]!r}.")
    return tree


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_FAST_LOADER)
    except (yaml.YAMLError, UnicodeError):
        return yaml.safe_load(text)  # its message shows the line and the place in it


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} could not be read: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must hold a mapping of settings, found {type(tree).__name__}.")
    return tree


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _explain(error: ValidationError, profile: str) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or "(combination)"
        if problem["type"] == "extra_forbidden":
            known = sorted(_fields_at(problem["loc"][:-1]))
            lines.append(f"  {path}: unknown key. Known here: {', '.join(known)}.")
        elif problem["type"] == "missing":
            lines.append(f"  {path}: missing, and it has no default.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            found = "" if isinstance(problem["input"], dict | BaseModel) else f", found {problem['input']!r}"
            lines.append(f"  {path}: {message}{found}")
    return f"The settings (config/config.yaml with profile {profile!r} over it) are refused:\n" + "\n".join(lines)


def _fields_at(location: tuple[int | str, ...]) -> set[str]:
    model: Any = Settings
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return set(getattr(model, "model_fields", {}))
