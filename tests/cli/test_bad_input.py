"""Whatever is wrong: one sentence on stderr, the documented exit code, and nothing written or lost."""

import importlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.simulator.signatures import Account
from tests.cli.program import Program, ask_process, environment_of
from tests.cli.story import file_of, with_rocky

NOBODY = 65534  # the user without rights, on every Linux and BSD


def refusal_of(program: Program, *arguments: str, code: int = 2) -> str:
    """Return the one sentence of a call that must be refused without an answer and without a trace in the folder."""
    before = sorted(program.folder.iterdir())
    answer = program.ask(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert sorted(program.folder.iterdir()) == before
    sentence = answer.sentence
    assert sentence.startswith("ehpc-image-sync: ")
    return sentence


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("worker=3", "unknown key worker; did you mean workers?"),
        ("colour=red", "unknown key colour; the keys are: database_url, regions"),
        ("workers", "write KEY=VALUE"),
        ("workers=many", "the command line: workers: "),
        ("workers=0", "greater than or equal to 1, not '0'"),
        ("calls_per_second=-1", "greater than 0"),
        ("timezone=Mars/Base", "'Mars/Base' is not a time zone"),
        ("log_format=xml", "'auto', 'text' or 'json'"),
        ("all_types_target=perhaps", "valid boolean"),
        ("access_key_secret=abc", "credentials come from ALIBABA_CLOUD_ACCESS_KEY_ID"),
        ("endpoint=http://example.com", "plain http is for 127.0.0.1"),
        ("database_url=foo", "is not a database URL; write for example sqlite:///"),
        ("database_url=oracle://u@h/d", "use sqlite, postgresql, mysql or mariadb"),
        ("database_url=sqlite://", "names no file"),
        ("regions=", "no regions are configured; set regions in ehpc-image-sync.toml or EHPC_SYNC_REGIONS"),
    ],
)
def test_a_bad_assignment_is_refused_before_anything_is_asked(
    program: Program, simulator: Simulator, assignment: str, words: str
) -> None:
    assert words in refusal_of(program, "run", "--set", assignment)
    assert simulator.call_count() == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("region = ['cn-hangzhou']", "unknown key region; did you mean regions?"),
        ("regions = cn-hangzhou", "is not valid TOML"),
        ("regions = 5", "regions: "),
        ("workers = 'x'", "ehpc-image-sync.toml: workers: "),
        ("[ehpc]\nregions = []", "remove the section [ehpc]"),
        ("access_key_secret = 'abc'", "access_key_secret does not belong there"),
        ("password = 'abc'", "password does not belong there"),
        ("security_token = 'abc'", "security_token does not belong there"),
    ],
)
def test_a_bad_configuration_file_is_named(program: Program, text: str, words: str) -> None:
    program.write_configuration(text)
    sentence = refusal_of(program, "run")
    assert words in sentence
    assert "ehpc-image-sync.toml" in sentence
    assert "abc" not in sentence


def test_an_unknown_variable_is_named_with_the_nearest_key(program: Program) -> None:
    program.configure(region="cn-hangzhou")
    assert "the environment: unknown key region; did you mean regions?" in refusal_of(program, "run")


def test_a_secret_in_the_environment_is_refused_without_being_shown(program: Program) -> None:
    program.configure(access_key_secret="canary-71")
    assert "canary" not in refusal_of(program, "run")


def test_a_missing_configuration_file_is_named(program: Program) -> None:
    assert "there is no configuration file none.toml" in refusal_of(program, "--config", "none.toml", "run")


def test_a_configuration_that_is_no_text_is_refused(program: Program) -> None:
    (program.folder / "ehpc-image-sync.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in refusal_of(program, "run")


def test_no_regions_say_where_to_set_them(program: Program) -> None:
    assert 'regions = ["cn-hangzhou"]' in refusal_of(program, "run")


def test_no_credentials_say_where_they_may_stand(tmp_path: Path) -> None:
    answer = ask_process(environment_of(tmp_path, EHPC_SYNC_REGIONS="cn-hangzhou"), "run", folder=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "no Alibaba Cloud credentials found: set ALIBABA_CLOUD_ACCESS_KEY_ID" in answer.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], "no such command 'runn', did you mean one of: 'run', 'runs'? See: ehpc-image-sync --help"),
        (["run", "--dry"], "no such option '--dry'"),
        (["run", "--format", "xml"], "'xml' is not one of"),
        (["run", "extra"], "unexpected extra argument"),
        (["changes", "--kind", "gone"], "'gone' is not one of"),
        (["runs", "--limit", "0"], "0 is not in the range"),
        (["simulate", "--port", "many"], "'many' is not a valid integer"),
        (["simulate", "--every", "0"], "is not in the range"),
        (["simulate", "--port", "0", "--fault", "statuss=3"], "did you mean status?"),
        (["simulate", "--port", "0", "--types", "3"], "instance types per region, not 3"),
        (["simulate", "--port", "70000"], "choose another port"),
        (["changes", "--follow", "--until", "now"], "leave out --until"),
        (["changes", "--follow", "--format", "json"], "use --format jsonl"),
        (["history"], "history needs --image, --os-tag or --instance-type"),
    ],
)
def test_a_bad_call_is_one_sentence(program: Program, arguments: list[str], words: str) -> None:
    assert words in refusal_of(program, *arguments)


def test_a_port_in_use_is_told(program: Program, simulator: Simulator) -> None:
    assert "choose another port, or 0" in refusal_of(program, "simulate", "--port", str(simulator.port))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images", "--at", "tomorrowish"], "'tomorrowish' is not a time; write ISO 8601"),
        (["images", "--at", ""], "'' is not a time"),
        (["images", "--at", "9999-01-01"], "is in the future"),
        (["changes", "--since", ""], "'' is not a time"),
        (["changes", "--since", "2024-03-02", "--until", "2024-03-01"], "is not after --since 2024-03-02; exchange"),
        (["changes", "--since", "-999999999w"], "out of range"),
        (["images", "--instance-type", "ecs.c7.larg"], "does not know it; the nearest are ecs.c7.large"),
        (["images", "--region", "cn-hangzou"], "--region cn-hangzou: the history does not know it; the nearest"),
        (["changes", "--image", "m-cento"], "the nearest are m-centos"),
        (["images", "--region", "zzz"], "does not know it; it knows cn-beijing, cn-hangzhou"),
        (["history", "--image", "zzzzzzzz"], "--image zzzzzzzz: the history does not know it"),
    ],
)
def test_a_bad_question_is_refused_with_what_is_near(reader: Program, arguments: list[str], words: str) -> None:
    assert words in refusal_of(reader, *arguments)


@pytest.mark.parametrize("question", ["images", "changes", "runs", "accept-removals", "web"])
def test_without_a_history_no_file_is_made(program: Program, question: str) -> None:
    sentence = refusal_of(program, question)
    assert "there is no history in sqlite:///ehpc-images.db yet; run: ehpc-image-sync run" in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--set", "regions=cn-hangzhou", "--set", "instance_types=ecs.c77*"],
            "'ecs.c77*' matches no instance type; the nearest are ecs.c7.",
        ),
        (["--instance-type", "ecs.c7.lorge"], "no region of this run plans it; the nearest are ecs.c7.large"),
        (["--region", "cn-x"], "the configuration does not plan it; it plans cn-beijing, cn-hangzhou"),
    ],
)
def test_what_matches_nothing_is_told_and_changes_nothing(
    program: Program, simulator: Simulator, arguments: list[str], words: str
) -> None:
    program.ask("run")
    before = program.rows("images")
    simulator.catalogue = with_rocky(simulator.catalogue)
    answer = program.ask("run", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.sentence
    assert [row["image_id"] for row in program.rows("images")] == [row["image_id"] for row in before]


def test_a_pattern_without_match_leaves_no_gap_in_the_region_that_answers_first(
    program: Program, simulator: Simulator
) -> None:
    program.ask("run")
    simulator.faults = parse_faults("delay=1s action=ListAvailableEcsTypes region=cn-hangzhou")
    assert program.ask("run", "--set", "instance_types=ecs.c77*").code == 2
    assert {row["state"] for row in program.rows("images")} == {"available"}


@pytest.mark.parametrize("action", ["ehpc:ListImages", "ehpc:ListAvailableEcsTypes"])
@pytest.mark.parametrize("code", ["NotAuthorized", "Forbidden.RAM"])
def test_a_denied_action_is_named(program: Program, simulator: Simulator, action: str, code: str) -> None:
    simulator.deny(action, code=code)
    answer = program.ask("run")
    assert (answer.code, answer.err) == (1, "")
    assert f"allow the RAM user or role the action {action}" in " ".join(answer.out.split())


def test_a_wrong_secret_names_the_credential_and_stops(program: Program, simulator: Simulator) -> None:
    program.use_account(Account(access_key_secret="wrong"))
    answer = program.ask("run")
    assert (answer.code, answer.err) == (1, "")
    assert "SignatureDoesNotMatch" in answer.out
    assert "check the access key that the credential chain found" in " ".join(answer.out.split())
    assert simulator.call_count() <= 2


def test_an_unreachable_endpoint_names_what_to_check(program: Program, simulator: Simulator) -> None:
    simulator.stop()
    answer = program.ask("run", "--format", "json")
    assert answer.code == 1
    assert {failure["code"] for failure in answer.one["failures"]} == {"network.connect"}
    assert "check the endpoint, the proxy settings" in answer.one["failures"][0]["message"]


def test_a_host_without_address_hints_at_the_region(program: Program, simulator: Simulator) -> None:
    answer = program.ask("run", "--set", "endpoint=https://ehpc.{region}.invalid", "--set", "regions=cn-mars")
    assert answer.code == 1
    assert "check the region id" in " ".join(answer.out.split())


def test_a_folder_that_does_not_exist_is_told(program: Program, simulator: Simulator) -> None:
    sentence = refusal_of(program, "run", "--database-url", "sqlite:///none/a.db", code=1)
    assert "check that its folder exists" in sentence


@pytest.mark.parametrize("command", ["run", "images", "accept-removals", "web"])
def test_a_file_that_is_no_database_is_left_as_it_is(program: Program, simulator: Simulator, command: str) -> None:
    garbage = b"this is a letter and no database" * 200
    (program.folder / "letter.db").write_bytes(garbage)
    sentence = refusal_of(program, command, "--database-url", "sqlite:///letter.db", code=1)
    assert "file is not a database" in sentence
    assert (program.folder / "letter.db").read_bytes() == garbage


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_database_that_is_down_is_named_without_its_password(
    program: Program, simulator: Simulator, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sentence = refusal_of(program, "run", "--database-url", f"{scheme}://me:canary-pw@127.0.0.1:{port}/x", code=1)
    assert f"127.0.0.1:{port}/x cannot be used" in sentence
    assert "canary-pw" not in sentence
    assert simulator.call_count(action="ListImages") == 0


@pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgresql"), ("mariadb", "mysql")])
def test_a_missing_driver_names_the_extra(
    program: Program, monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    sentence = refusal_of(program, "images", "--database-url", f"{scheme}://me@127.0.0.1/x")
    assert f"pip install 'ehpc-image-sync[{extra}]'" in sentence


def revise(program: Program, revision: str) -> None:
    """Let the history say that it is of another schema."""
    with closing(sqlite3.connect(program.folder / "history.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


@pytest.mark.parametrize(
    "command", [["images"], ["web"], ["run"], ["run", "--dry-run"], ["accept-removals"], ["db", "upgrade"]]
)
def test_a_newer_schema_asks_for_a_newer_program(reader: Program, simulator: Simulator, command: list[str]) -> None:
    revise(reader, "9999")
    before = (reader.folder / "history.db").read_bytes()
    sentence = refusal_of(reader, *command)
    assert "written by a newer ehpc-image-sync (schema 9999); upgrade this program" in sentence
    assert (reader.folder / "history.db").read_bytes() == before


def test_an_empty_database_is_no_history(program: Program) -> None:
    program.configure(database_url="sqlite:///history.db")
    (program.folder / "history.db").touch()
    assert "run: ehpc-image-sync run" in refusal_of(program, "images")


@pytest.mark.parametrize(
    ("closed", "is_answered"), [("2>&-", True), ("<&-", True), (">&-", False), ("<&- >&- 2>&-", False)]
)
def test_closed_streams_are_no_failure(reader: Program, closed: str, is_answered: bool) -> None:
    call = [sys.executable, "-m", "sync", "changes"]
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *call],
        env=environment_of(reader.folder, EHPC_SYNC_DATABASE_URL="sqlite:///history.db"),
        cwd=reader.folder,
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, bool(ended.stdout), ended.stderr) == (0, is_answered, b"")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Take the rights of a user who owns nothing; what is imported late may be closed to that user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who owns nothing")
    for module in (
        "alembic.command",
        "alibabacloud_credentials.client",
        "sync.run",
        "sync.report",
        "sync.store.history",
    ):
        importlib.import_module(module)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that others may read; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="ehpc-test-") as name:
        Path(name).chmod(0o755)
        monkeypatch.chdir(name)
        yield Path(name)


def test_a_history_that_may_not_be_written_is_told(
    program: Program, simulator: Simulator, story_url: str, open_folder: Path
) -> None:
    file = open_folder / "history.db"
    shutil.copy(file_of(story_url), file)
    file.chmod(0o444)
    before = file.read_bytes()
    with as_nobody():
        answer = program.ask("run")
    assert (answer.code, answer.out) == (1, "")
    assert "check the permissions of the file and its folder" in answer.sentence
    assert file.read_bytes() == before


def test_a_folder_that_may_not_be_written_is_told(program: Program, simulator: Simulator, open_folder: Path) -> None:
    with as_nobody():
        answer = program.ask("run")
    assert (answer.code, answer.out) == (1, "")
    assert "check that its folder exists and that you may write there" in answer.sentence
    assert list(open_folder.iterdir()) == []


def test_a_working_folder_that_may_not_be_read_is_told(program: Program) -> None:
    program.folder.chmod(0o700)
    with as_nobody():
        answer = program.ask("images")
    assert (answer.code, answer.out) == (2, "")
    assert "ehpc-image-sync.toml cannot be read: Permission denied" in answer.sentence


def test_a_history_in_a_closed_folder_is_told(program: Program, open_folder: Path) -> None:
    program.folder.chmod(0o700)
    with as_nobody():
        answer = program.ask("images", "--database-url", f"sqlite:///{program.folder}/history.db")
    assert answer.code in {1, 2}
    assert "history.db" in answer.sentence
