"""docs/grafana.md and its dashboard: whole JSON, and statements that give the recorded story on each database."""

import itertools
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, text

from sync.store.database import Database
from sync.store.schema import views
from tests.cli.story import at, record_story
from tests.conftest import DIALECTS, Shelf
from tests.docs.grafana import View, dashboard_of
from tests.docs.pages import blocks_of, text_of

KINDS = ("postgresql", "mysql", "sqlite")
TYPES = ("ecs.c1.large", "ecs.c7.large", "ecs.c7.xlarge", "ecs.g7.large", "ecs.hpc8.large", "ecs.new.large")
ALL = {"region": ("cn-beijing", "cn-hangzhou"), "instance_type": TYPES}
AFTERNOON = View(at(0.5), at(2.5), ALL)
EVENING = View(at(2.5), at(4), ALL)

Row = tuple[Any, ...]


@pytest.fixture(params=KINDS, scope="session")
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dashboard_of(request.param)


def record(url: str) -> None:
    """Record the story, with a run that took its time and one that has not ended."""
    record_story(url)
    database = Database(url)
    with database.writing() as connection:
        ends = {(2, "cn-beijing"): "'2024-03-01 13:00:01.500'", (4, "cn-beijing"): "NULL"}
        for (run_id, region_id), end in ends.items():
            where = f"run_id = {run_id} AND region_id = '{region_id}'"
            connection.execute(text(rf"UPDATE region_run SET finished_at = {end} WHERE {where}".replace(":", r"\:")))
    database.close()


@pytest.fixture(params=DIALECTS)
def recorded(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[Database]:
    """The story with its two runs, to read; once for each database server."""
    opened = Database(shelf.url_of(request.param, record), is_read_only=True)
    yield opened
    opened.close()


def query_of(dialect: str, title: str) -> str:
    """Return the statement of a panel."""
    (panel,) = (panel for panel in dashboard_of(dialect)["panels"] if panel["title"] == title)
    (target,) = panel["targets"]
    return str(target["rawQueryText" if dialect == "sqlite" else "rawSql"])


def plain(value: Any) -> Any:
    """Return a value as it is on every database: times aware, numbers as numbers."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", value):
        return datetime.fromisoformat(value if value.endswith("Z") else f"{value}Z")
    return value if value is None or isinstance(value, str) else float(value)


def answered(database: Database, title: str, view: View = AFTERNOON) -> list[Row]:
    """Return what the panel with this title gets from the database."""
    sql = view.filled_in(query_of(database.dialect_name, title), database.dialect_name)
    with database.reading() as connection:
        return [tuple(map(plain, row)) for row in connection.exec_driver_sql(sql).all()]


def test_the_numbers_of_now(recorded: Database) -> None:
    assert answered(recorded, "Images available") == [(6,)]
    assert answered(recorded, "Removals held") == [(0,)]
    assert answered(recorded, "Targets unknown") == [(3,)]
    assert answered(recorded, "Last good answer") == [(at(3),)]
    only = View(at(0), at(1), {"region": ("cn-hangzhou",), "instance_type": ("ecs.c7.large", "ecs.c1.large")})
    assert answered(recorded, "Images available", only) == [(2,)]
    assert answered(recorded, "Targets unknown", only) == [(1,)]


def test_a_held_removal_is_counted(database: Database, database_url: str) -> None:
    record(database_url)
    held = """
        INSERT INTO held_removal (target_id, image_key, first_missed_at, last_missed_at, missed_runs, missed_answers)
        SELECT t.id, i.id, t.first_observed_at, t.first_observed_at, 1, 2
        FROM target t, image i
        WHERE t.instance_type = 'ecs.hpc8.large' AND i.image_id = 'm-rocky'
    """
    with database.writing() as connection:
        connection.exec_driver_sql(held)
    assert answered(database, "Removals held") == [(1,)]


def test_the_lines_of_availability_begin_and_end_with_the_time_range(recorded: Database) -> None:
    assert answered(recorded, "Images available over time") == [
        (at(0.5), "cn-beijing", 1),
        (at(0.5), "cn-hangzhou", 5),
        (at(1), "cn-hangzhou", 7),
        (at(2), "cn-hangzhou", 5),
        (at(2.5), "cn-beijing", 1),
        (at(2.5), "cn-hangzhou", 5),
    ]


def test_the_line_of_one_type_begins_where_its_history_does(recorded: Database) -> None:
    view = View(at(-1), at(2), {"region": ("cn-hangzhou",), "instance_type": ("ecs.c7.large",)})
    assert answered(recorded, "Images available over time", view) == [
        (at(0), "cn-hangzhou", 2),
        (at(1), "cn-hangzhou", 3),
        (at(2), "cn-hangzhou", 2),
    ]


def test_changes_are_counted_by_run_and_kind(recorded: Database) -> None:
    assert answered(recorded, "Changes") == [
        (at(1), "added", 2),
        (at(1), "changed", 1),
        (at(2), "removed", 2),
        (at(2), "type_added", 1),
        (at(2), "type_retired", 1),
    ]
    assert answered(recorded, "Changes", EVENING) == [(at(3), "type_added", 1)]


def test_the_newest_changes_of_the_time_range_come_first(recorded: Database) -> None:
    rows = answered(recorded, "Newest changes")
    assert [row[1] for row in rows[-3:]] == ["changed", "added", "added"]
    assert {row[:4] for row in rows[:2]} == {
        (at(2), "type_added", "cn-hangzhou", "ecs.hpc8.large"),
        (at(2), "type_retired", "cn-hangzhou", "ecs.g7.large"),
    }
    assert (at(2), "removed", "cn-hangzhou", "ecs.c7.large", "CentOS_7.6_64", "m-centos", at(1)) in rows
    assert len(rows) == 7


def test_open_gaps_say_since_when_and_why(recorded: Database) -> None:
    assert [row[:5] for row in answered(recorded, "Open gaps")] == [
        ("cn-beijing", "ecs.c7.large", at(2), 1, "InvalidParameter.Scripted"),
        ("cn-hangzhou", "ecs.c1.large", at(2), 0, "InvalidInstanceType.Scripted"),
        ("cn-hangzhou", "ecs.new.large", at(3), 0, "InvalidInstanceType.Scripted"),
    ]


def test_runs_show_their_seconds_and_their_failures(recorded: Database) -> None:
    seconds = [(*row[:2], round(row[2], 2)) for row in answered(recorded, "Duration of runs")]
    assert seconds == [
        (at(1), "cn-beijing", 1.5),
        (at(1), "cn-hangzhou", 0),
        (at(2), "cn-beijing", 0),
        (at(2), "cn-hangzhou", 0),
    ]
    assert [row[:2] for row in answered(recorded, "Duration of runs", EVENING)] == [(at(3), "cn-hangzhou")]
    assert answered(recorded, "Targets that failed", EVENING) == [(at(3), "cn-beijing", 1), (at(3), "cn-hangzhou", 2)]


def test_the_variables_list_what_there_is(recorded: Database) -> None:
    region, instance_type = dashboard_of(recorded.dialect_name)["templating"]["list"]
    view = View(at(0), at(1), {"region": ("cn-beijing",)})
    with recorded.reading() as connection:
        assert connection.exec_driver_sql(region["query"]).scalars().all() == list(ALL["region"])
        of_beijing = view.filled_in(instance_type["query"], recorded.dialect_name)
        assert connection.exec_driver_sql(of_beijing).scalars().all() == ["ecs.c7.large"]


@pytest.mark.parametrize("evil", ["x') OR ('1'='1", "'; DROP TABLE run; --"])
def test_a_value_is_never_a_statement(recorded: Database, evil: str) -> None:
    view = View(at(0.5), at(2.5), {"region": (evil,), "instance_type": (evil,)})
    for panel in dashboard_of(recorded.dialect_name)["panels"]:
        rows = answered(recorded, panel["title"], view)
        assert rows in ([], [(0,)], [(None,)])


def test_a_series_is_a_time_a_label_and_a_number(recorded: Database) -> None:
    for panel in dashboard_of(recorded.dialect_name)["panels"]:
        if panel["type"] == "timeseries":
            label = re.fullmatch(r"\$\{__field\.labels\.(\w+)\}", panel["fieldConfig"]["defaults"]["displayName"])
            sql = AFTERNOON.filled_in(query_of(recorded.dialect_name, panel["title"]), recorded.dialect_name)
            with recorded.reading() as connection:
                answer = connection.exec_driver_sql(sql)
                assert label
                assert list(answer.keys())[:2] == ["time", label[1]]
                moments = [row[0] for row in answer]
            assert moments == sorted(moments)


@pytest.fixture
def reading_role(postgresql_url: str) -> Any:
    """A PostgreSQL database with the story and the page's role, under a name of its own."""
    record_story(postgresql_url)
    database, role = Database(postgresql_url), f"grafana_{uuid.uuid4().hex}"
    (grants,) = blocks_of("grafana.md", "sql")
    with database.writing() as connection:
        connection.exec_driver_sql(re.sub(r"\bgrafana\b", role, grants.code))
    yield database, role
    with database.writing() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    database.close()


def test_the_pages_role_reads_the_views_and_nothing_else(reading_role: tuple[Database, str]) -> None:
    database, role = reading_role
    with database.reading() as connection:
        # Grafana's session may have any zone; the macros name theirs.
        connection.exec_driver_sql(f"SET ROLE {role}; SET TIME ZONE 'Asia/Shanghai'")
        for panel in dashboard_of("postgresql")["panels"]:
            connection.exec_driver_sql(AFTERNOON.filled_in(panel["targets"][0]["rawSql"], "postgresql"))
        changes = connection.exec_driver_sql(AFTERNOON.filled_in(query_of("postgresql", "Changes"), "postgresql"))
        assert [plain(row[0]) for row in changes] == [at(1), at(1), at(2), at(2), at(2)]
        assert [name for name in views.tables if not may_read(connection, name)] == []
        assert not may_read(connection, "availability")


def may_read(connection: Connection, name: str) -> bool:
    allowed: bool = connection.execute(text("SELECT has_table_privilege(:name, 'SELECT')"), {"name": name}).scalar_one()
    return allowed


def test_the_file_can_be_imported(dashboard: dict[str, Any]) -> None:
    (wanted,) = dashboard["__inputs"]
    assert wanted["type"] == "datasource"
    source = {"type": wanted["pluginId"], "uid": f"${{{wanted['name']}}}"}
    variables = dashboard["templating"]["list"]
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    assert [part["datasource"] for part in (*dashboard["panels"], *targets, *variables)] == [source] * (
        len(dashboard["panels"]) + len(targets) + len(variables)
    )
    assert "id" not in dashboard  # Grafana would take it for a dashboard of its own
    assert dashboard["schemaVersion"] >= 39


def test_each_panel_has_its_place_and_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    taken = [
        (column, row)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(column for column, _ in taken) == 23
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if not panel["description"].endswith(".")] == []
    plotted = [panel for panel in panels if panel["type"] != "table"]
    assert [panel["title"] for panel in plotted if not panel["fieldConfig"]["defaults"]["unit"]] == []


def test_the_files_differ_as_their_data_sources_do() -> None:
    made = {kind: dashboard_of(kind) for kind in KINDS}
    assert {kind: one["__inputs"][0]["pluginId"] for kind, one in made.items()} == {
        "postgresql": "grafana-postgresql-datasource",
        "mysql": "mysql",
        "sqlite": "frser-sqlite-datasource",
    }
    forms = {kind: [panel["targets"][0] for panel in one["panels"]] for kind, one in made.items()}
    assert {target["format"] for target in forms["postgresql"] + forms["mysql"]} == {"table", "time_series"}
    assert all(target["rawQuery"] for target in forms["postgresql"] + forms["mysql"])
    assert {target["queryType"] for target in forms["sqlite"]} == {"table", "time series"}
    assert all(target["timeColumns"] == ["time"] for target in forms["sqlite"])
    assert not any("rawSql" in target for target in forms["sqlite"])


def test_the_page_names_all_panels_views_and_files() -> None:
    page = text_of("grafana.md")
    for panel in dashboard_of("postgresql")["panels"]:
        assert re.search(rf"^\| .*\b{panel['title']}\b.* \|.* \|$", page, re.MULTILINE), panel["title"]
    (grants,) = blocks_of("grafana.md", "sql")
    granted = re.findall(r"GRANT SELECT ON (.*) TO", grants.code)[0].split(", ")
    assert granted == list(views.tables)
    assert re.findall(r"python docs/grafana/for_datasource.py (\w+)", page) == ["mysql", "sqlite"]


def test_the_statements_name_no_table() -> None:
    named = [
        re.findall(r"\bFROM (\w+)", panel["targets"][0]["rawSql"]) for panel in dashboard_of("postgresql")["panels"]
    ]
    # A subquery's own names, and what EXTRACT takes from two times.
    assert set(itertools.chain(*named)) - {"steps", "finished_at"} <= set(views.tables)
