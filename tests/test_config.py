"""Settings: their sources, what wins, and what is refused with which words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sync.config import KEYS, Settings, load_settings, with_token
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


TOKEN = "canary-token-4f1c88e0"


def test_a_token_comes_from_the_environment() -> None:
    settings = load_settings(None, {}, {"EHPC_SYNC_HTTP_TOKEN": TOKEN})
    assert settings.http_token == TOKEN
    assert TOKEN not in repr(settings)


def test_a_token_from_a_file_is_read_by_who_serves_alone(tmp_path: Path) -> None:
    Path("token").write_text(f"\ufeff{TOKEN}\n", "utf-8")
    write("http_token_file = 'token'")
    settings = load_settings(None, {}, {})
    assert settings.http_token is None
    assert with_token(settings).http_token == TOKEN


def test_the_variable_wins_over_the_file() -> None:
    write("http_token_file = 'missing'")
    assert with_token(load_settings(None, {}, {"EHPC_SYNC_HTTP_TOKEN": TOKEN})).http_token == TOKEN


def test_a_token_file_can_be_switched_off() -> None:
    write("http_token_file = 'missing'")
    assert with_token(load_settings(None, {}, {"EHPC_SYNC_HTTP_TOKEN_FILE": ""})).http_token is None


@pytest.mark.parametrize("source", ["ehpc-image-sync.toml", "the command line"])
def test_a_token_that_others_could_read_is_refused_with_the_remedy(source: str) -> None:
    if source == "ehpc-image-sync.toml":
        write(f"http_token = '{TOKEN}'")
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {"http_token": TOKEN} if source == "the command line" else {}, {})
    assert str(caught.value) == (
        f"{source}: http_token does not belong there; put it into the variable EHPC_SYNC_HTTP_TOKEN, "
        "or into a file that http_token_file names"
    )


WEAK = ["canary", "canary-of-15-ch", "canary with blanks in it", "canary-größer-als-16", "canary-tab\tcanary-tab"]


@pytest.mark.parametrize("token", WEAK)
def test_a_weak_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {}, {"EHPC_SYNC_HTTP_TOKEN": token})
    assert str(caught.value) == (
        "the environment: http_token: a token has at least 16 ASCII characters and no blanks; "
        "make one with: openssl rand -hex 32"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "token cannot be read: No such file or directory; write a token into it: make one with: openssl"),
        (b"\n", "token is empty; write a token into it: make one with: openssl rand -hex 32"),
        (b"\xff\xfe", "token is not UTF-8 text"),
        (b"canary", "token: a token has at least 16 ASCII characters"),
        (b"canary-token-of-one-line\ncanary", "token: a token has at least 16 ASCII characters and no blanks"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_named(content: bytes | None, words: str) -> None:
    if content is not None:
        Path("token").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        with_token(Settings(http_token_file="token"))
    assert str(caught.value).startswith(f"http_token_file: {words}")
    assert "canary" not in str(caught.value)


def test_an_empty_token_opens_no_door_by_mistake() -> None:
    with pytest.raises(ConfigError, match="EHPC_SYNC_HTTP_TOKEN is empty; make one with: openssl rand -hex 32, or"):
        load_settings(None, {}, {"EHPC_SYNC_HTTP_TOKEN": ""})


@pytest.mark.parametrize(
    "name", ["https://images.example.com", "images.example.com:443", "*.example.com", "a b", "größe.example", "[::1]"]
)
def test_a_further_name_that_is_none_is_refused(name: str) -> None:
    write(f"http_hosts = ['{name}']")
    with pytest.raises(ConfigError, match=r"http_hosts: .* is not a name; write it as in images\.example\.com"):
        load_settings(None, {}, {})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9321", ("127.0.0.1", 9321)),
        (":9321", ("127.0.0.1", 9321)),
        ("9321", ("127.0.0.1", 9321)),
        ("[::1]:9321", ("::1", 9321)),
        (" localhost:1 ", ("localhost", 1)),
    ],
)
def test_an_address_to_listen_on_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert Settings(http_listen=text).listen_address == address


@pytest.mark.parametrize(
    "text", ["localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[::1]", "a:" + "9" * 5000]
)
def test_an_address_without_a_port_that_can_be_had_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"http_listen: .* is not an address; write for example 127\.0\.0\.1:9321"):
        load_settings(None, {"http_listen": text}, {})
