"""``export``: every view in every format read back as the view gives it, whole files or none, and clear refusals."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from sync.errors import SyncError
from sync.export import Destination, write_file
from sync.render import iso, render_pages
from sync.store.database import Database
from sync.store.history import columns_of
from sync.store.schema import views
from sync.store.stream import ORDER, stream_view
from tests.cli.program import Program
from tests.cli.story import record_story
from tests.store.builders import a_target, an_image, observed, writer_of
from tests.store.test_exactness import TWINS

FACTS = {"version": "1", "view": "image_history", "database": "sqlite:///x", "snapshot_at": "2026-03-01T12:00:00.000Z"}

Row = dict[str, Any]


@pytest.fixture
def asked(program: Program, database_url: str) -> Program:
    """The program with the recorded story, on each database."""
    record_story(database_url)
    program.configure(database_url=database_url)
    return program


def rows_of(url: str, name: str) -> list[Row]:
    """Return all rows of a view in the documented order; lived_days grows, so it is left out."""
    database = Database(url)
    with database.reading() as connection:
        rows = [dict(row) for row in connection.execute(sa.select(views.tables[name])).mappings()]
    database.close()
    return without_age(sorted(rows, key=lambda row: [row[column] for column in ORDER[name]]))


def without_age(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "lived_days"} for row in rows]


def as_text(row: Row) -> dict[str, str]:
    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else iso(value) if isinstance(value, datetime) else str(value)

    return {name: text(value) for name, value in row.items()}


def as_json(row: Row) -> Row:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in row.items()}


def read_parquet(path: Path) -> list[Row]:
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return without_age(rows)


def test_whoever_reads_the_file_that_is_replaced_reads_it_to_its_end(reader: Program) -> None:
    file = reader.folder / "runs.csv"
    file.write_text("what was there before\n")
    with file.open() as opened:
        assert reader.ask("export", "sync_runs", "runs.csv", "--force").code == 0
        assert opened.read() == "what was there before\n"
    assert file.read_text().startswith("run_id,")


def test_every_view_is_read_back_from_every_format(asked: Program, database_url: str) -> None:
    for name in views.tables:
        expected = rows_of(database_url, name)
        for form in ("parquet", "csv", "jsonl"):
            answer = asked.ask("export", name, f"{name}.{form}")
            assert answer.code == 0, answer.err
        assert read_parquet(asked.folder / f"{name}.parquet") == expected
        with (asked.folder / f"{name}.csv").open(newline="") as file:
            assert without_age(list(csv.DictReader(file))) == [as_text(row) for row in expected]
        lines = (asked.folder / f"{name}.jsonl").read_text().splitlines()
        assert without_age([json.loads(line) for line in lines]) == [as_json(row) for row in expected]


def test_two_exports_of_the_same_data_are_equal(asked: Program) -> None:
    for name in ("image_history", "image_changes", "region_runs"):
        for form in ("csv", "jsonl"):
            asked.ask("export", name, f"first.{form}", "--force")
            asked.ask("export", name, f"second.{form}", "--force")
            assert (asked.folder / f"first.{form}").read_bytes() == (asked.folder / f"second.{form}").read_bytes()


def test_an_export_ends_by_saying_what_it_wrote(reader: Program) -> None:
    answer = reader.ask("export", "image_history", "history.parquet")
    rows = parquet.read_metadata(reader.folder / "history.parquet").num_rows
    size = (reader.folder / "history.parquet").stat().st_size
    assert answer.out == ""
    assert answer.sentence == f"{rows} rows of image_history in history.parquet ({size / 1000:.1f} kB)"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_stdout_gets_what_a_file_would(reader: Program, form: str) -> None:
    reader.ask("export", "image_changes", f"changes.{form}")
    answer = reader.ask("export", "image_changes", "-", "--format", form)
    assert answer.out == (reader.folder / f"changes.{form}").read_text()
    assert answer.sentence.endswith("rows of image_changes")


def test_the_format_may_differ_from_the_suffix(reader: Program) -> None:
    reader.ask("export", "sync_runs", "runs.txt", "--format", "csv")
    assert (reader.folder / "runs.txt").read_text().startswith("run_id,started_at,")


def test_region_restricts_the_rows(reader: Program) -> None:
    for name in ("image_history", "image_changes", "region_runs"):
        answer = reader.ask("export", name, "-", "--format", "jsonl", "--region", "cn-beijing")
        assert {row["region_id"] for row in answer.rows} <= {"cn-beijing"}
    assert reader.ask("export", "target_status", "-", "--format", "jsonl", "--region", "cn-*").rows


def test_parquet_has_exact_types_and_says_where_it_comes_from(reader: Program) -> None:
    reader.ask("export", "image_lifetimes", "lives.parquet")
    schema = parquet.read_schema(reader.folder / "lives.parquet")
    assert schema.field("valid_from").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("from_baseline").type == pa.bool_()
    assert schema.field("lived_days").type == pa.float64()
    assert schema.field("image_id").type == pa.string()
    facts = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert facts["ehpc-image-sync.view"] == "image_lifetimes"
    assert facts["ehpc-image-sync.database"] == "sqlite:///history.db"
    assert datetime.fromisoformat(facts["ehpc-image-sync.snapshot_at"]).tzinfo == UTC
    reader.ask("export", "sync_runs", "runs.parquet")
    assert parquet.read_schema(reader.folder / "runs.parquet").field("run_id").type == pa.int64()


def test_parquet_never_holds_a_password(program: Program, postgresql_url: str) -> None:
    record_story(postgresql_url)
    url = Database(postgresql_url).engine.url.set(password="s3cret", host="127.0.0.1")
    program.ask("export", "sync_runs", "runs.parquet", "--database-url", url.render_as_string(hide_password=False))
    assert b"s3cret" not in (program.folder / "runs.parquet").read_bytes()


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_view_without_rows_gives_a_file_without_rows_and_says_so(program: Program, form: str) -> None:
    program.configure(database_url="sqlite:///empty.db")
    program.ask("db", "upgrade")
    answer = program.ask("export", "observation_gaps", f"gaps.{form}")
    assert answer.code == 0
    assert answer.sentence.startswith(f"0 rows of observation_gaps in gaps.{form}")
    path = program.folder / f"gaps.{form}"
    header = ",".join(views.tables["observation_gaps"].columns.keys())
    if form == "parquet":
        assert ",".join(parquet.read_schema(path).names) == header
    else:
        assert path.read_text() == (f"{header}\n" if form == "csv" else "")


def test_odd_texts_come_back_as_they_are(program: Program, database_url: str) -> None:
    database = Database(database_url)
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [an_image(f"m-{n}", os_name=twin) for n, twin in enumerate(TWINS)]))
    database.close()
    for form in ("csv", "jsonl", "parquet"):
        answer = program.ask("export", "image_history", f"h.{form}", "--database-url", database_url)
        assert answer.code == 0, answer.err
    with (program.folder / "h.csv").open(newline="") as file:
        assert {row["os_name"] for row in csv.DictReader(file)} == set(TWINS)
    lines = (program.folder / "h.jsonl").read_text().rstrip("\n").split("\n")
    assert {json.loads(line)["os_name"] for line in lines} == set(TWINS)
    assert {row["os_name"] for row in read_parquet(program.folder / "h.parquet")} == set(TWINS)


def test_an_existing_file_is_replaced_only_by_force(reader: Program) -> None:
    path = reader.folder / "runs.csv"
    path.write_text("mine")
    refused = reader.ask("export", "sync_runs", "runs.csv")
    assert (refused.code, path.read_text()) == (2, "mine")
    assert "runs.csv exists already; name another file, or replace it with --force" in refused.sentence
    assert reader.ask("export", "sync_runs", "runs.csv", "--force").code == 0
    assert path.read_text().startswith("run_id,")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_an_error_in_the_middle_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, form: str) -> None:
    view = views.tables["sync_runs"]
    path = tmp_path / f"runs.{form}"
    path.write_text("mine")

    def pages() -> Iterator[list[Row]]:
        yield [dict.fromkeys(view.columns.keys())]
        raise SyncError("enough")

    with pytest.raises(SyncError, match="enough"):
        write_file(pages(), view, Destination(str(path), form), FACTS)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "mine"


def test_a_disk_that_is_full_is_one_sentence(reader: Program, tmp_path: Path) -> None:
    view = views.tables["sync_runs"]

    def pages() -> Iterator[list[Row]]:
        raise OSError(28, "No space left on device")
        yield []

    with pytest.raises(SyncError, match=r"runs.csv cannot be written: No space left on device; make room"):
        write_file(pages(), view, Destination(str(tmp_path / "runs.csv"), "csv"), FACTS)


def test_rows_stay_sorted_and_single_over_many_pages(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record_story(sqlite_url)
    for name in ("PAGE_TYPES", "PAGE_CHANGES", "PAGE_IMAGES", "PAGE_RUNS"):
        monkeypatch.setattr(f"sync.store.stream.{name}", 1)
    database = Database(sqlite_url)
    with database.reading() as connection:
        for name, view in views.tables.items():
            pages = list(stream_view(connection, view))
            assert without_age([row for page in pages for row in page]) == rows_of(sqlite_url, name)
            assert len(list(render_pages(pages, columns_of(view), "jsonl"))) == len(pages) > 1
    database.close()


def test_row_groups_have_a_known_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.export.ROW_GROUP_ROWS", 4)
    view = views.tables["region_runs"]
    rows = [dict.fromkeys(view.columns.keys()) | {"run_id": number} for number in range(11)]
    write_file([rows[:3], rows[3:10], rows[10:]], view, Destination(str(tmp_path / "x"), "parquet"), FACTS)
    found = parquet.ParquetFile(tmp_path / "x")
    assert [found.metadata.row_group(group).num_rows for group in range(found.num_row_groups)] == [4, 4, 3]
    assert found.read().column("run_id").to_pylist() == list(range(11))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("image_histroy", "h.csv"), "there is no view image_histroy; the nearest are image_history"),
        (("image_history", "h.xlsx"), "h.xlsx has no suffix that names a format; write --format parquet, csv or jsonl"),
        (("image_history", "-"), "stdout has no suffix; write --format"),
        (("image_history", "-", "--format", "parquet"), "parquet cannot be written to stdout"),
        (("image_history", "missing/h.csv"), "there is no folder"),
        (("image_history", ".", "--format", "csv"), "is no file that can be replaced"),
        (("image_history", "/dev/null", "--format", "csv", "--force"), "is no file that can be replaced"),
        (
            ("image_history", "h.csv", "--region", "cn-beijin"),
            "the history does not know it; the nearest are cn-beijing",
        ),
        (("sync_runs", "h.csv", "--region", "cn-beijing"), "the rows of sync_runs belong to no region"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(reader: Program, arguments: Sequence[str], words: str) -> None:
    answer = reader.ask("export", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.sentence
    assert not list(reader.folder.glob("*h.*"))


def test_without_pyarrow_the_remedy_is_named(reader: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = reader.ask("export", "sync_runs", "runs.parquet")
    assert answer.code == 2
    assert "pip install 'ehpc-image-sync[parquet]'" in answer.sentence


def test_without_a_history_there_is_nothing_to_export(program: Program) -> None:
    answer = program.ask("export", "sync_runs", "runs.csv")
    assert answer.code == 2
    assert "there is no history" in answer.sentence
    assert not list(program.folder.iterdir())


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_the_database_itself_is_never_replaced(reader: Program, suffix: str) -> None:
    (reader.folder / "link.db").symlink_to(f"history.db{suffix}")
    (reader.folder / f"history.db{suffix}").touch()
    for name in (f"history.db{suffix}", "link.db"):
        answer = reader.ask("export", "images", name, "--format", "csv", "--force")
        assert (answer.code, answer.sentence) == (
            2,
            f"ehpc-image-sync: {name} is the configured database itself; name another file",
        )
    assert reader.ask("db", "verify").code == 0
