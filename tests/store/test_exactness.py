"""Texts and times come back exactly as they were written, on every database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import StatementError

from sync.inventory import OPEN, Image, digest_of
from sync.store.database import Database
from sync.store.schema import run
from tests.store.builders import NOON, Writer, a_target, an_image, execute, observed, unsound_targets

TWINS = [
    "CentOS 7.2",
    "centos 7.2",
    "CENTOS 7.2",
    "CentOS 7.2 ",
    "CentOS 7.2  ",
    "CentOS  7.2",
    " CentOS 7.2",
    "CentOS 7.2\t",
    "",
    " ",
    "Müller",
    "Mu\u0308ller",
    "Muller",
    "straße",
    "strasse",
    "\N{GRINNING FACE}",
    "\N{PILE OF POO}",
    "\N{CJK UNIFIED IDEOGRAPH-20000}",
    "操作系统",
    "操作系統",
    "7.10",
    "7.1",
    "I",
    "\u0130",
    "100%",
    "100%%",
    "%s",
    ":name",
    "O'Neill",
    'say "no"',
    "back\\slash",
    "back\\\\slash",
    "line\nbreak",
    "\u200b",
    "NULL",
]
"""Texts that some collation or some quoting takes for one another."""

MOMENTS = [
    NOON,
    NOON + timedelta(milliseconds=1),
    NOON + timedelta(milliseconds=999),
    datetime(2026, 3, 29, 2, 30, 0, 500_000, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, 0, 1_000, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, 7_000, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    OPEN,
]
"""Milliseconds, hours that summer time skips or repeats, the end of 32-bit seconds."""


@pytest.mark.parametrize("field", ["image_id", "os_name_en"])
def test_images_that_differ_by_little_are_different_images(database: Database, writer: Writer, field: str) -> None:
    images = [an_image("m-1", **{field: twin}) for twin in TWINS]
    writer.write(observed(a_target(), images))
    assert writer.open_images() == {a_target(): dict.fromkeys(images, NOON)}
    assert writer.known()[a_target()].image_digest == digest_of(images)
    assert unsound_targets(database) == []


def test_every_field_holds_1024_characters_of_four_bytes(writer: Writer) -> None:
    longest = Image(*(letter * 1024 for letter in "\N{GRINNING FACE}\N{PILE OF POO}𠀀𠀁𠀂𠀃𠀄𠀅"))
    nearly = an_image("m-1", os_name="\N{GRINNING FACE}" * 1023 + "\N{PILE OF POO}")
    writer.write(observed(a_target(), [longest, nearly]))
    assert writer.open_images()[a_target()] == {longest: NOON, nearly: NOON}


def test_targets_that_differ_by_little_are_different_targets(writer: Writer) -> None:
    names = [twin for twin in TWINS if twin.strip()]
    targets = [a_target(name, tag) for name in names for tag in ("", "CentOS_7", "centos_7", "CentOS_7 ")]
    images = {entry: [an_image(f"m-{number}")] for number, entry in enumerate(targets)}
    writer.write(*(observed(entry, opened) for entry, opened in images.items()))
    assert writer.open_images() == {entry: {opened[0]: NOON} for entry, opened in images.items()}


def test_the_views_tell_letter_case_and_trailing_blanks_apart(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), [an_image("m-1", os_name=twin) for twin in TWINS]))
    with database.reading() as connection:
        query = text("SELECT COUNT(*) FROM available_images WHERE os_name = :name")
        found = {twin: connection.execute(query, {"name": twin}).scalar() for twin in TWINS}
    assert found == dict.fromkeys(TWINS, 1)


def test_the_beginning_of_an_interval_keeps_its_milliseconds(writer: Writer) -> None:
    entries = {a_target(f"ecs.t{number}.large"): moment for number, moment in enumerate(MOMENTS[:-1])}
    writer.write(*(observed(entry, [an_image()], moment) for entry, moment in entries.items()))
    assert writer.open_images() == {entry: {an_image(): moment} for entry, moment in entries.items()}
    assert {entry: known.first_observed_at for entry, known in writer.known().items()} == entries


def test_times_keep_their_milliseconds_and_their_order(database: Database, writer: Writer) -> None:
    rows = [{"started_at": moment, "status": "ok", "trigger": "order"} for moment in MOMENTS]
    with database.writing() as connection:
        connection.execute(insert(run), rows)
    ours = run.c.trigger == "order"
    with database.reading() as connection:
        assert list(connection.execute(select(run.c.started_at).where(ours).order_by(run.c.id)).scalars()) == MOMENTS
        by_time = connection.execute(select(run.c.started_at).where(ours).order_by(run.c.started_at)).scalars()
        assert list(by_time) == sorted(MOMENTS)
        for moment in MOMENTS:
            found = connection.execute(select(run.c.started_at).where(ours, run.c.started_at == moment))
            assert list(found.scalars()) == [moment]


def test_a_time_of_another_zone_is_the_same_moment(database: Database, writer: Writer) -> None:
    shanghai = timezone(timedelta(hours=8))
    writer.recorder.open_run("elsewhere", NOON.astimezone(shanghai))
    with database.reading() as connection:
        assert connection.execute(select(run.c.started_at).where(run.c.trigger == "elsewhere")).scalar() == NOON


def test_a_time_without_zone_is_refused(database: Database, writer: Writer) -> None:
    row = insert(run).values(started_at=NOON.replace(tzinfo=None), status="ok", trigger="naive")
    with pytest.raises(StatementError, match="without zone"), database.writing() as connection:
        connection.execute(row)


def test_the_same_text_names_a_moment_in_sql_everywhere(database: Database, writer: Writer) -> None:
    moment = NOON + timedelta(milliseconds=123)
    writer.write(observed(a_target(), [an_image()], moment))
    literal = f"'2026-03-01 12:00:00.123{'+00' if database.dialect_name == 'postgresql' else ''}'"
    with database.reading() as connection:
        query = f"SELECT COUNT(*) FROM image_history WHERE valid_from = {literal}"
        assert connection.execute(text(query)).scalar() == 1


def test_the_zone_of_the_server_does_not_shift_times(database: Database, writer: Writer) -> None:
    if database.dialect_name == "postgresql":
        execute(database, f"ALTER DATABASE {database.engine.url.database} SET TimeZone = 'Asia/Shanghai'")
        database.close()
    writer.write(observed(a_target(), [an_image()]))
    assert writer.open_images() == {a_target(): {an_image(): NOON}}
