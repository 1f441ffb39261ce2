"""The official chain, in processes of their own: the library reads the environment once, when it is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ehpc.conftest import CANARY

SHOW = """
import logging, sys
from sync.ehpc.credentials import official_chain
from sync.errors import ConfigError
logging.basicConfig(level=logging.DEBUG)
chain = official_chain()
assert "alibabacloud_credentials" not in sys.modules
try:
    found = chain()
    chain.refresh()
    assert chain() == found
    print(found, len(found.access_key_secret), len(found.security_token), chain.provider_name)
except ConfigError as error:
    print(error)
"""


def shown(home: Path, **environment: str) -> str:
    settings = {"HOME": str(home), "PATH": os.environ["PATH"], "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
    ended = subprocess.run(
        [sys.executable, "-c", SHOW], env=settings | environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert CANARY not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout.strip()


def test_the_environment_gives_a_key_and_its_token(tmp_path: Path) -> None:
    assert (
        shown(
            tmp_path,
            ALIBABA_CLOUD_ACCESS_KEY_ID="id-1",
            ALIBABA_CLOUD_ACCESS_KEY_SECRET=CANARY,
            ALIBABA_CLOUD_SECURITY_TOKEN=CANARY * 2,
        )
        == f"Credential(access_key_id='id-1') {len(CANARY)} {2 * len(CANARY)} default/env"
    )


def test_the_profile_of_the_command_line_tool_gives_a_key(tmp_path: Path) -> None:
    profile = {"name": "p", "mode": "AK", "access_key_id": "id-2", "access_key_secret": CANARY}
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps({"current": "p", "profiles": [profile]}))
    text = shown(tmp_path)
    assert text.startswith("Credential(access_key_id='id-2')")
    assert "cli_profile" in text


def test_without_any_credential_the_error_names_the_remedies(tmp_path: Path) -> None:
    text = shown(tmp_path)
    for remedy in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "_SECRET", "~/.aliyun/config.json", "RAM role"):
        assert remedy in text


@pytest.mark.parametrize("broken", ["", "{", '{"current": "p"}', '{"current": "p", "profiles": [{"name": "p"}]}'])
def test_a_broken_profile_is_no_credential_and_no_traceback(tmp_path: Path, broken: str) -> None:
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun" / "config.json").write_text(broken)
    assert shown(tmp_path).startswith("no Alibaba Cloud credentials found")
