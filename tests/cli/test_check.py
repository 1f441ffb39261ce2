"""`check`: what it finds, what it says to do about it, its exit codes, and what it must not write, send or show."""

import shutil
import signal
import socket
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.simulator.signatures import Account
from sync.store.database import Database, head_revision
from tests.alerts.receiver import Receiver, receiving
from tests.cli.program import Answer, Program, Row, ended_by, environment_of, started_process
from tests.cli.story import file_of
from tests.cli.test_bad_input import as_nobody, revise
from tests.cli.test_canaries import PASSWORD, SECRET, TOKEN, assert_clean
from tests.store.loginserver import RefusingServer

NAMES = [
    "configuration",
    "schedule",
    "database",
    "migrations",
    "credentials",
    "clock",
    "ehpc:ListAvailableEcsTypes cn-beijing",
    "ehpc:ListImages cn-beijing",
    "ehpc:ListAvailableEcsTypes cn-hangzhou",
    "ehpc:ListImages cn-hangzhou",
    "plan",
    "notifications",
    "ping_url",
    "http_listen",
]

EVERY_TABLE = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
EVERY_SEQUENCE = "USAGE ON ALL SEQUENCES IN SCHEMA public"

LATE_S = 10  # half of the time that the answers under way would take


def results_of(answer: Answer) -> dict[str, Row]:
    """Return the results by the name of their check."""
    assert "Traceback" not in answer.err
    return {row["check"]: row for row in answer.rows}


def failed_in(answer: Answer) -> list[str]:
    """Return the names of the failed checks, each of which must have a remedy."""
    failed = [row for row in answer.rows if row["state"] == "failed"]
    assert all(row["remedy"] for row in failed)
    return [row["check"] for row in failed]


def states_of(answer: Answer, prefix: str) -> dict[str, str]:
    """Return the states of the checks whose names begin so."""
    return {name: row["state"] for name, row in results_of(answer).items() if name.startswith(prefix)}


# --- all well


def test_all_is_well_after_a_run(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    answer = program.ask("check")
    assert (answer.code, answer.err) == (0, "")
    results = results_of(answer)
    assert list(results) == NAMES
    assert {row["state"] for row in list(results.values())[:11]} == {"ok"}
    assert {row["remedy"] for row in results.values()} == {""}


def test_each_result_says_what_was_found(program: Program, simulator: Simulator) -> None:
    program.use_account(Account("LTAI5tSimulator0042", "simulator-secret"))
    simulator.account = Account("LTAI5tSimulator0042", "simulator-secret")
    program.ask("run")
    details = {name: row["detail"] for name, row in results_of(program.ask("check")).items()}
    assert details["configuration"].endswith("of the environment; asks cn-beijing, cn-hangzhou")
    assert details["schedule"].startswith("*/30 * * * * (UTC), next 20")
    assert details["database"] == f"sqlite:///history.db (SQLite {sqlite3.sqlite_version}), may write"
    assert f"schema {head_revision()}" in details["migrations"]
    assert details["credentials"].startswith("access key LTAI…0042 of default/env")
    assert details["clock"].endswith("s of the API's")
    assert details["ehpc:ListAvailableEcsTypes cn-hangzhou"] == "4 instance types"
    assert details["ehpc:ListImages cn-beijing"] == "1 image of ecs.c7.large"
    assert details["plan"] == "5 targets in 2 regions"


def test_a_check_before_the_first_run_writes_nothing(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check")
    results = results_of(answer)
    assert (answer.code, results["database"]["state"], results["migrations"]["state"]) == (0, "ok", "skipped")
    assert "the first run creates it" in results["database"]["detail"]
    assert list(program.folder.iterdir()) == []


def test_a_check_leaves_the_history_as_it_was(reader: Program, simulator: Simulator) -> None:
    reader.configure(database_url="sqlite:///history.db")
    with closing(sqlite3.connect("history.db")) as connection:
        before = list(connection.iterdump())
    assert reader.ask("check").code == 0
    with closing(sqlite3.connect("history.db")) as connection:
        assert list(connection.iterdump()) == before


def test_it_asks_each_region_twice_and_no_more(program: Program, simulator: Simulator) -> None:
    program.ask("check")
    assert simulator.call_count(action="ListAvailableEcsTypes") == simulator.call_count(action="ListImages") == 2
    assert simulator.call_count(action="ListRegions") == 0


def test_a_slow_region_does_not_change_the_order(program: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults("delay=300ms region=cn-beijing")
    assert list(results_of(program.ask("check"))) == NAMES


def test_all_regions_need_the_list_of_regions(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "regions=all")
    assert answer.code == 0
    assert results_of(answer)["ehpc:ListRegions"]["detail"] == "2 regions"


def test_exact_names_need_no_discovery(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "instance_types=ecs.c7.large")
    assert (answer.code, states_of(answer, "ehpc:ListAvailable")) == (0, {})
    assert results_of(answer)["ehpc:ListImages cn-hangzhou"]["detail"] == "2 images of ecs.c7.large"


def test_a_region_can_be_checked_alone(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--region", "cn-beijing")
    assert list(states_of(answer, "ehpc:")) == NAMES[6:8]
    assert {call.region_id for call in simulator.calls()} == {"cn-beijing"}


def test_a_region_that_is_not_planned_is_a_usage_error(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--region", "cn-nowhere")
    assert (answer.code, answer.out) == (2, "")
    assert "the configuration does not plan it" in answer.sentence


def test_every_database_can_be_tried_before_and_after_the_first_run(
    program: Program, simulator: Simulator, database_url: str
) -> None:
    program.configure(database_url=database_url)
    first = program.ask("check")
    program.ask("run")
    second = program.ask("check")
    assert (first.code, second.code) == (0, 0), first.out + second.out
    assert results_of(first)["migrations"]["state"] == "skipped"
    assert results_of(second)["database"]["detail"].endswith("), may write")
    assert program.ask("run").code == 0


# --- each failure alone


def test_without_regions_nothing_is_asked(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "regions=")
    assert (answer.code, failed_in(answer)) == (2, ["configuration"])
    assert results_of(answer)["configuration"]["remedy"].startswith("set regions in ehpc-image-sync.toml")
    assert set(states_of(answer, "ehpc:").values()) == {"skipped"}
    assert simulator.call_count() == 0


def test_a_bad_endpoint_is_a_matter_of_the_configuration(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "endpoint=http://example.com")
    assert (answer.code, failed_in(answer)) == (2, ["configuration"])


def test_a_bad_key_is_one_sentence(program: Program) -> None:
    answer = program.ask("check", "--set", "workers=0")
    assert (answer.code, answer.out) == (2, "")
    assert "workers" in answer.sentence


def test_without_credentials_the_api_is_not_asked(program: Program, simulator: Simulator) -> None:
    program.use_account(Account("", ""))
    answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (2, ["credentials"])
    results = results_of(answer)
    assert results["credentials"]["remedy"].startswith("set ALIBABA_CLOUD_ACCESS_KEY_ID")
    assert {results[name]["state"] for name in ("clock", "ehpc:ListImages", "plan")} == {"skipped"}
    assert results["database"]["state"] == "ok"
    assert simulator.call_count() == 0


def test_a_wrong_secret_fails_every_region_and_skips_what_would_fail_alike(
    program: Program, simulator: Simulator
) -> None:
    simulator.account = Account("simulator-id", "another")
    answer = program.ask("check")
    assert answer.code == 1
    assert set(states_of(answer, "ehpc:ListAvailable").values()) == {"failed"}
    assert set(states_of(answer, "ehpc:ListImages").values()) == {"skipped"}
    assert "SignatureDoesNotMatch" in results_of(answer)["ehpc:ListAvailableEcsTypes cn-beijing"]["detail"]
    assert results_of(answer)["clock"]["state"] == "ok"  # a refusal has a date too


@pytest.mark.parametrize(
    ("action", "code"), [("ehpc:ListImages", 1), ("ehpc:ListAvailableEcsTypes", 3), ("ehpc:ListRegions", 1)]
)
def test_a_denied_action_is_named_with_what_to_allow(
    program: Program, simulator: Simulator, action: str, code: int
) -> None:
    simulator.deny(action)
    answer = program.ask("check", "--set", "regions=all")
    failed = failed_in(answer)
    assert answer.code == code
    assert failed
    assert {name.partition(" ")[0] for name in failed} == {action}
    for name in failed:
        assert results_of(answer)[name]["detail"].startswith("NotAuthorized: You are not authorized")
        assert results_of(answer)[name]["remedy"] == f"allow the RAM user or role the action {action} on resource *"


def test_a_run_over_known_regions_survives_without_their_list(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    simulator.deny("ehpc:ListRegions")
    answer = program.ask("check", "--set", "regions=all")
    assert (answer.code, failed_in(answer)) == (3, ["ehpc:ListRegions"])
    assert set(states_of(answer, "ehpc:ListImages").values()) == {"ok"}


@pytest.mark.parametrize(("selection", "code"), [("region=cn-beijing", 3), ("", 1)])
def test_a_region_that_is_down_fails_alone(program: Program, simulator: Simulator, selection: str, code: int) -> None:
    simulator.faults = parse_faults(f"status=503 {selection}")
    answer = program.ask("check")
    assert answer.code == code
    assert "ehpc:ListImages cn-beijing" in failed_in(answer)
    assert (states_of(answer, "ehpc:ListImages cn-hangzhou").popitem()[1] == "ok") is bool(selection)


def test_a_region_that_cannot_be_reached_is_asked_once(program: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults("reset region=cn-beijing")
    answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (3, ["ehpc:ListAvailableEcsTypes cn-beijing"])
    assert results_of(answer)["ehpc:ListImages cn-beijing"]["state"] == "skipped"


def test_a_pattern_that_matches_nothing_is_found(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "instance_types=ecs.c77.*")
    assert (answer.code, failed_in(answer)) == (2, ["plan"])
    assert "the nearest are" in results_of(answer)["plan"]["remedy"]


def test_a_plan_that_leaves_nothing_to_ask_is_found(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--set", "exclude_instance_types=*")
    assert (answer.code, failed_in(answer)) == (1, ["plan"])


@pytest.mark.parametrize(
    ("skew", "code", "state", "words"),
    [
        ("30s", 0, "ok", "s of the API's"),
        ("-5m", 0, "warning", "ahead of the API's"),
        ("5m", 0, "warning", "behind the API's"),
        ("20m", 3, "failed", "requests are signed with the API's time instead"),
    ],
)
def test_a_clock_that_is_off_is_measured(
    program: Program, simulator: Simulator, skew: str, code: int, state: str, words: str
) -> None:
    program.configure(max_attempts=3)
    simulator.faults = parse_faults(f"skew={skew}")
    answer = program.ask("check")
    clock = results_of(answer)["clock"]
    assert (answer.code, clock["state"]) == (code, state)
    assert words in clock["detail"]
    assert bool(clock["remedy"]) is (state != "ok")
    assert set(states_of(answer, "ehpc:").values()) == {"ok"}


def test_a_database_that_is_away_does_not_keep_the_others_from_being_tried(
    program: Program, simulator: Simulator
) -> None:
    answer = program.ask("check", "--database-url", "postgresql://reader@127.0.0.1:9/history")
    results = results_of(answer)
    assert (answer.code, failed_in(answer)) == (1, ["database"])
    assert "check that the server runs" in results["database"]["remedy"]
    assert results["migrations"]["state"] == "skipped"
    assert set(states_of(answer, "ehpc:").values()) == {"ok"}


def test_a_bad_database_url_is_a_matter_of_the_configuration(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--database-url", "oracle://u@h/d")
    assert (answer.code, failed_in(answer)) == (2, ["database"])
    assert results_of(answer)["database"]["remedy"] == "use sqlite, postgresql, mysql or mariadb"


def test_a_file_that_is_no_database_is_told(program: Program, simulator: Simulator) -> None:
    (program.folder / "history.db").write_text("a letter to a friend, and not a short one" * 10)
    answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (1, ["database"])
    assert "name another file" in results_of(answer)["database"]["remedy"]


def test_a_folder_that_is_missing_is_told(program: Program, simulator: Simulator) -> None:
    answer = program.ask("check", "--database-url", "sqlite:///nowhere/history.db")
    assert (answer.code, failed_in(answer)) == (1, ["database"])
    assert answer.rows[2]["detail"].endswith("nowhere does not exist")
    assert not (program.folder / "nowhere").exists()


@pytest.fixture
def closed_folder(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that others may read but not write; pytest's own are closed to them altogether."""
    with tempfile.TemporaryDirectory(prefix="ehpc-test-") as name:
        Path(name).chmod(0o755)
        monkeypatch.chdir(name)
        yield Path(name)


@pytest.mark.parametrize("has_file", [False, True])
def test_a_place_that_may_not_be_written_is_told(
    program: Program, simulator: Simulator, closed_folder: Path, story_url: str, has_file: bool
) -> None:
    if has_file:
        shutil.copy(file_of(story_url), closed_folder / "history.db")
        (closed_folder / "history.db").chmod(0o444)
    program.ask("check")  # what is imported late may be closed to others
    for left in closed_folder.glob("history.db-*"):
        left.unlink()
    with as_nobody():
        answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (1, ["database"])


def test_a_server_that_only_lets_read_is_told(program: Program, simulator: Simulator, postgresql_url: str) -> None:
    program.configure(database_url=postgresql_url)
    program.ask("run")
    with closing(Database(postgresql_url)) as database, database.writing() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (1, ["database"])
    assert "read-only transaction" in results_of(answer)["database"]["detail"]


def test_a_user_who_may_not_create_tables_is_told_before_the_first_run(
    program: Program, simulator: Simulator, postgresql_url: str
) -> None:
    program.configure(database_url=postgresql_url)
    with closing(Database(postgresql_url)) as database, database.writing() as connection:
        connection.execute(text("DROP SCHEMA public"))
    answer = program.ask("check")
    assert (answer.code, failed_in(answer)) == (1, ["database"])
    assert "GRANT" in results_of(answer)["database"]["remedy"]


@contextmanager
def restricted_user(url: str, *rights: str) -> Iterator[None]:
    """Let everybody who connects to a PostgreSQL database be a user with these rights only."""
    role = f"ehpc_test_{uuid.uuid4().hex}"
    with closing(Database(url)) as database:
        with database.writing() as connection:
            name = connection.execute(text("SELECT current_database()")).scalar_one()
            connection.execute(text(f"CREATE ROLE {role}"))
            for right in rights:
                connection.execute(text(f"GRANT {right} TO {role}"))
            connection.execute(text(f'ALTER DATABASE "{name}" SET role = {role}'))
        try:
            yield
        finally:
            with database.writing() as connection:
                connection.execute(text(f'ALTER DATABASE "{name}" RESET role'))
                connection.execute(text(f"DROP OWNED BY {role}"))
                connection.execute(text(f"DROP ROLE {role}"))


@pytest.mark.parametrize(
    ("rights", "code"),
    [
        ([EVERY_TABLE, EVERY_SEQUENCE], 0),
        ([EVERY_TABLE], 1),
        (["SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public", EVERY_SEQUENCE], 1),
        (["SELECT ON ALL TABLES IN SCHEMA public", "ALL ON lease", EVERY_SEQUENCE], 1),
        (["ALL ON alembic_version"], 1),
    ],
)
def test_a_right_that_is_missing_on_any_table_is_told(
    program: Program, simulator: Simulator, postgresql_url: str, rights: list[str], code: int
) -> None:
    program.configure(database_url=postgresql_url)
    program.ask("run")
    with restricted_user(postgresql_url, *rights):
        answer = program.ask("check")
        assert code or program.ask("run").code == 0  # no right beyond these is needed
    database = results_of(answer)["database"]
    assert (answer.code, failed_in(answer)) == (code, ["database"] if code else [])
    assert ("permission denied for" in database["detail"]) is bool(code)
    assert database["remedy"].startswith("give this user" if code else "")


@pytest.mark.parametrize(("revision", "state", "code"), [("0001", "warning", 0), ("9999", "failed", 2)])
def test_tables_of_another_version_are_told_and_left_alone(
    reader: Program, simulator: Simulator, revision: str, state: str, code: int
) -> None:
    reader.configure(database_url="sqlite:///history.db")
    revise(reader, revision)
    before = (reader.folder / "history.db").read_bytes()
    answer = reader.ask("check")
    migrations = results_of(answer)["migrations"]
    assert (answer.code, migrations["state"]) == (code, state)
    assert ("ehpc-image-sync db upgrade" if code == 0 else "upgrade this program") in migrations["remedy"]
    assert (reader.folder / "history.db").read_bytes() == before


# --- telling people


@pytest.fixture
def told(program: Program, simulator: Simulator) -> Program:
    """The program, with no channel yet."""
    return program


def channel_in(answer: Answer) -> Row:
    """Return the result of the only channel."""
    (row,) = [row for row in answer.rows if row["check"].startswith("notifications json-")]
    return row


def test_a_channel_is_not_tried_unasked(told: Program) -> None:
    with receiving() as receiver:
        told.configure(notify_urls=receiver.channel, ping_url=receiver.ping_url)
        answer = told.ask("check")
        assert receiver.requests == []
    assert (answer.code, channel_in(answer)["state"]) == (0, "skipped")
    assert "--send-test sends a message" in channel_in(answer)["detail"]
    assert results_of(answer)["ping_url"]["detail"].startswith("at 127.0.0.1; not tried, because a ping says")


def test_a_test_message_arrives_once_and_can_be_read(told: Program) -> None:
    with receiving() as receiver:
        told.configure(notify_urls=f"{receiver.channel},{receiver.channel}", ping_url=receiver.ping_url)
        answer = told.ask("check", "--send-test")
        (message,) = receiver.messages
        assert receiver.signals == []
    assert (answer.code, channel_in(answer)["state"]) == (0, "ok")
    words = f"a test message from {socket.gethostname()}: this channel works; nothing has changed"
    assert message["title"] == f"ehpc-image-sync: {words}"
    assert words in message["message"]
    assert message["type"] == "info"


def test_a_test_message_is_told_by_the_configured_templates(told: Program) -> None:
    (told.folder / "templates").mkdir()
    (told.folder / "templates" / "title.txt").write_text("ours: {{ summary }}")
    with receiving() as receiver:
        told.configure(notify_urls=receiver.channel, notify_template_dir="templates")
        assert told.ask("check", "--send-test").code == 0
        assert receiver.titles[0].startswith("ours: a test message from")


def test_of_two_channels_the_broken_one_fails_alone(told: Program) -> None:
    with receiving() as good, receiving() as bad:
        bad.status = 500
        told.configure(notify_urls=f"{bad.channel},{good.channel}")
        answer = told.ask("check", "--send-test")
        assert len(good.messages) == 1
    channels = list(states_of(answer, "notifications json-").values())
    assert (answer.code, channels) == (3, ["failed", "ok"])


@pytest.mark.parametrize("url", ["slck://canary-s3cret", "json://"])
def test_a_url_that_apprise_does_not_know_stops_a_run_and_is_told(told: Program, url: str) -> None:
    told.configure(notify_urls=url)
    answer = told.ask("check", "--send-test")
    assert (answer.code, failed_in(answer)) == (2, ["notifications URL 1"])
    assert "canary" not in answer.out + answer.err


def test_a_broken_template_is_told(told: Program) -> None:
    (told.folder / "templates").mkdir()
    (told.folder / "templates" / "message.txt").write_text("{{ imges }}")
    told.configure(notify_urls="json://127.0.0.1:9", notify_template_dir="templates")
    answer = told.ask("check")
    assert (answer.code, failed_in(answer)) == (2, ["notifications"])
    assert "message.txt names 'imges'" in results_of(answer)["notifications"]["detail"]


def test_an_address_to_listen_on_is_free_or_in_use(told: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        taken = told.ask("check", "--set", f"http_listen={address}")
    free = told.ask("check", "--set", f"http_listen={address}")
    assert (taken.code, results_of(taken)["http_listen"]["state"]) == (0, "warning")
    assert (free.code, results_of(free)["http_listen"]["state"]) == (0, "ok")


def test_an_address_of_another_machine_is_told(told: Program) -> None:
    answer = told.ask("check", "--set", "http_listen=192.0.2.1:9321")
    assert (answer.code, failed_in(answer)) == (2, ["http_listen"])


# --- how it is told


def test_a_terminal_shows_one_line_each_and_remedies_below(
    program: Program, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    simulator.deny("ehpc:ListAvailableEcsTypes")
    answer = program.ask_on_terminal("check")
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "ok       ehpc:ListImages cn-beijing  1 image of all types together" in lines
    remedies = [line for line in lines if line.lstrip().startswith("→")]
    assert remedies == ["           → allow the RAM user or role the action ehpc:ListAvailableEcsTypes on"] * 2
    assert lines[-1] == "needs a look: 2 failed"


def test_a_terminal_hears_that_all_is_well(program: Program, simulator: Simulator) -> None:
    assert program.ask_on_terminal("check").out.splitlines()[-1] == "all is well"


def test_the_formats_have_the_same_columns(program: Program, simulator: Simulator) -> None:
    columns = ["check", "state", "detail", "remedy"]
    assert [list(row) for row in program.ask("check", "--format", "json").one] == [columns] * len(NAMES)
    assert [list(row) for row in program.ask("check").rows] == [columns] * len(NAMES)
    records = program.ask("check", "--format", "csv").records
    assert records[0] == columns
    assert [record[0] for record in records[1:]] == NAMES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_check_that_waits_for_the_api_ends_when_it_is_told_to(
    simulator: Simulator, tmp_path: Path, number: signal.Signals
) -> None:
    simulator.faults = parse_faults("delay=20s")
    environment = environment_of(
        tmp_path,
        ALIBABA_CLOUD_ACCESS_KEY_ID=simulator.access_key_id,
        ALIBABA_CLOUD_ACCESS_KEY_SECRET=simulator.access_key_secret,
        EHPC_SYNC_ENDPOINT=simulator.url,
        EHPC_SYNC_REGIONS="cn-beijing,cn-hangzhou",
    )
    with started_process(environment, "check", folder=tmp_path) as process:
        while not simulator.call_count():
            assert process.poll() is None
            time.sleep(0.02)  # the other process goes on; the simulator has no event to wait for
        started = time.monotonic()
        answer = ended_by(process, number)
    assert time.monotonic() - started < LATE_S
    assert answer.code not in {0, 2}
    assert "Traceback" not in answer.err
    assert '"check": "credentials", "state": "ok"' in answer.out  # what was known by then has been told


# --- secrets


def assert_secret(answer: Answer, program: Program, receiver: Receiver) -> None:
    """Assert that neither a canary nor an address's secret is shown, and that nobody was pinged."""
    assert_clean(answer, program.folder)
    assert "s3cret" not in answer.out + answer.err
    assert receiver.signals == []


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize("trouble", ["", "signature", "token", "status=503", "html", "channel"])
def test_no_secret_is_shown_whatever_fails(program: Program, simulator: Simulator, trouble: str, form: str) -> None:
    program.use_account(Account("simulator-id", SECRET, TOKEN))
    simulator.account = {
        "signature": Account("simulator-id", "another", TOKEN),
        "token": Account("simulator-id", SECRET, "the-next-token", expired_token=TOKEN),
    }.get(trouble, Account("simulator-id", SECRET, TOKEN))
    simulator.faults = parse_faults(trouble if trouble in {"status=503", "html"} else "")
    with receiving() as receiver:
        receiver.status = 500 if trouble == "channel" else 200
        program.configure(notify_urls=f"{receiver.channel}?token={TOKEN}", ping_url=receiver.ping_url)
        answer = program.ask("check", "--send-test", "--format", form)
        assert (answer.code == 0) is (not trouble)
        assert_secret(answer, program, receiver)


def test_a_secret_that_an_error_quotes_is_not_shown(program: Program, simulator: Simulator) -> None:
    program.use_account(Account("simulator-id", SECRET, TOKEN))
    program.configure(notify_urls="json://127.0.0.1:9", notify_template_dir=f"{SECRET}/{TOKEN}")
    answer = program.ask("check")
    assert "***/*** cannot be read" in results_of(answer)["notifications"]["detail"]
    assert_clean(answer, program.folder)


def test_a_refused_password_is_not_shown(program: Program, simulator: Simulator) -> None:
    with RefusingServer() as server, receiving() as receiver:
        url = f"postgresql://reader:{PASSWORD}@127.0.0.1:{server.port}/history?application_name={PASSWORD}"
        answer = program.ask("check", "--database-url", url)
        assert (answer.code, failed_in(answer)) == (1, ["database"])
        assert "password authentication failed" in results_of(answer)["database"]["detail"]
        assert_secret(answer, program, receiver)
