"""Secrets never reach an answer, a log, a table or a file, whatever fails."""

import tempfile
from pathlib import Path

import pytest

from sync import logs
from sync.cli import _report_bug
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.simulator.signatures import Account
from tests.cli.program import Answer, Program
from tests.store.loginserver import RefusingServer

SECRET = "canary-secret-5d1f"
TOKEN = "canary-token-9ab3"
PASSWORD = "canary-password-27e8"
CANARIES = (SECRET, TOKEN, PASSWORD)

LOUD = ("--verbose", "--set", "log_format=json")


@pytest.fixture
def temporary(program: Program, simulator: Simulator) -> Account:
    """An account with a temporary token, which the simulator demands and the program has."""
    account = Account("simulator-id", SECRET, TOKEN)
    simulator.account = account
    program.use_account(account)
    return account


def assert_clean(answer: Answer, folder: Path) -> None:
    """Assert that no canary is in what was written to the terminal or to any file."""
    texts = {"stdout": answer.out.encode(), "stderr": answer.err.encode()}
    texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = [(place, canary) for place, text in texts.items() for canary in CANARIES if canary.encode() in text]
    assert found == []
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("flags", [(), LOUD, (*LOUD, "--set", "log_format=text"), ("--format", "json"), ("--dry-run",)])
def test_a_good_run_keeps_its_secrets(
    program: Program, simulator: Simulator, temporary: Account, flags: tuple[str, ...]
) -> None:
    answer = program.ask("run", *flags)
    assert answer.code == 0
    assert_clean(answer, program.folder)


@pytest.mark.parametrize("flags", [LOUD, ("--format", "json")])
def test_a_refused_signature_quotes_no_secret(
    program: Program, simulator: Simulator, temporary: Account, flags: tuple[str, ...]
) -> None:
    simulator.account = Account("simulator-id", "another", TOKEN)
    answer = program.ask("run", *flags)
    assert answer.code == 1
    assert "SignatureDoesNotMatch" in answer.out
    assert_clean(answer, program.folder)


def test_an_expired_token_is_not_shown(program: Program, simulator: Simulator, temporary: Account) -> None:
    simulator.account = Account("simulator-id", SECRET, "the-next-token", expired_token=TOKEN)
    answer = program.ask("run", *LOUD)
    assert answer.code == 1
    assert "InvalidSecurityToken.Expired" in answer.out
    assert_clean(answer, program.folder)


@pytest.mark.parametrize("fault", ["status=503", "html", "xml status=403", "garbage", "reset"])
def test_failing_answers_are_told_without_secrets(
    program: Program, simulator: Simulator, temporary: Account, fault: str
) -> None:
    simulator.faults = parse_faults(f"{fault} type=ecs.c7.large")
    answer = program.ask("run", *LOUD)
    assert answer.code == 3
    assert_clean(answer, program.folder)
    assert_clean(program.ask("images"), program.folder)


def test_a_refused_password_is_not_shown(program: Program, simulator: Simulator, temporary: Account) -> None:
    with RefusingServer() as server:
        url = f"postgresql://reader:{PASSWORD}@127.0.0.1:{server.port}/history?application_name={PASSWORD}"
        answer = program.ask("run", *LOUD, "--database-url", url)
    assert (answer.code, answer.out) == (1, "")
    assert "password authentication failed" in answer.sentence
    assert_clean(answer, program.folder)


@pytest.mark.parametrize("url", [f"oracle://me:{PASSWORD}@h/d", f"me:{PASSWORD}", f"postgresql://me:{PASSWORD}@h"])
def test_a_bad_database_url_is_not_quoted(program: Program, url: str) -> None:
    answer = program.ask("images", "--database-url", url)
    assert answer.code == 2
    assert answer.sentence
    assert_clean(answer, program.folder)


def test_a_secret_that_a_person_puts_into_the_configuration_is_not_quoted(program: Program) -> None:
    program.write_configuration("")
    answer = program.ask("run", "--set", f"access_key_secret={SECRET}")
    assert answer.code == 2
    assert_clean(answer, program.folder)


def test_a_bad_endpoint_is_told_without_secrets(program: Program, simulator: Simulator, temporary: Account) -> None:
    program.configure(endpoint="https://[::1")
    answer = program.ask("run", *LOUD)
    assert answer.code == 2
    assert_clean(answer, program.folder)


def test_the_report_of_a_bug_hides_what_the_logs_hide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(logs, "_hidden", {SECRET})
    _report_bug(RuntimeError, RuntimeError(f"called with {SECRET}"), None)
    answer = Answer(1, *capsys.readouterr())
    (report,) = tmp_path.iterdir()
    assert "internal error, please report it with the file" in answer.sentence
    assert "called with ***" in report.read_text()
    assert_clean(answer, tmp_path)
