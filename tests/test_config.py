"""Settings: their sources, what wins, and what is refused with which words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sync.config import KEYS, Settings, load_settings
from sync.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("ehpc-image-sync.toml").write_text(text, "utf-8")


def test_without_any_source_the_defaults_hold() -> None:
    assert load_settings(None, {}, {}) == Settings()


def test_the_file_of_the_working_folder_is_read() -> None:
    write('regions = ["cn-hangzhou", "cn-shanghai"]\nworkers = 4\n')
    settings = load_settings(None, {}, {})
    assert (settings.regions, settings.workers) == (("cn-hangzhou", "cn-shanghai"), 4)


def test_each_source_overrides_the_one_before_key_by_key() -> None:
    write('regions = ["a"]\nworkers = 1\nmax_attempts = 1\n')
    environment = {"EHPC_SYNC_WORKERS": "2", "EHPC_SYNC_MAX_ATTEMPTS": "2"}
    settings = load_settings(None, {"max_attempts": "3"}, environment)
    assert (settings.regions, settings.workers, settings.max_attempts) == (("a",), 2, 3)


def test_lists_in_the_environment_are_comma_separated() -> None:
    settings = load_settings(None, {}, {"EHPC_SYNC_REGIONS": " cn-hangzhou, cn-shanghai,,cn-hangzhou "})
    assert settings.regions == ("cn-hangzhou", "cn-shanghai")


@pytest.mark.parametrize("text", ["regions = 'all'", "regions = ['all']"])
def test_all_regions_may_be_a_text_or_a_list(text: str) -> None:
    write(text)
    assert load_settings(None, {}, {}).regions == ("all",)


def test_a_file_saved_with_a_byte_order_mark_is_read() -> None:
    write("\ufeffworkers = 3")
    assert load_settings(None, {}, {}).workers == 3


def test_the_demo_looks_at_no_file() -> None:
    write("workers = 3")
    assert load_settings(None, {}, {}, has_file=False).workers == 16


def test_variables_of_others_do_not_matter() -> None:
    assert load_settings(None, {}, {"PATH": "/bin", "EHPC_SYNCHRON": "1"}) == Settings()


def test_a_named_file_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"no configuration file none\.toml; create it, or name another"):
        load_settings("none.toml", {}, {})


def test_a_folder_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(str(tmp_path), {}, {})


@pytest.mark.parametrize(
    ("overrides", "environment", "source"),
    [({"workers": "x"}, {}, "the command line"), ({}, {"EHPC_SYNC_WORKERS": "x"}, "the environment")],
)
def test_the_source_of_a_bad_value_is_named(
    overrides: dict[str, object], environment: dict[str, str], source: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{source}: workers: .*'x'"):
        load_settings(None, overrides, environment)


def test_a_bad_database_url_is_not_shown() -> None:
    write("database_url = ['postgresql://me:canary@h/d']")
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {}, {})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("key", ["access_key_id", "access_key_secret", "db_password", "security_token"])
def test_credentials_are_refused_from_every_source(key: str) -> None:
    for overrides, environment in ((({key: "v"}), {}), ({}, {f"EHPC_SYNC_{key.upper()}": "v"})):
        with pytest.raises(ConfigError, match=r"credentials come from ALIBABA_CLOUD_ACCESS_KEY_ID"):
            load_settings(None, overrides, environment)


def test_every_key_is_described() -> None:
    assert [key for key, field in KEYS.items() if not field.description] == []


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().workers = 3  # type: ignore[misc]  # what is forbidden is what is tested
