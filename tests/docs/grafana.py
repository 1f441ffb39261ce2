"""What Grafana makes of a query before the database gets it, for each of the data sources.

Variables: https://grafana.com/docs/grafana/latest/dashboards/variables/variable-syntax/ (``sqlstring``) and
…/variables/add-template-variables/ (``$__from``, ``$__to``). Macros: https://grafana.com/docs/grafana/latest/datasources/,
postgres/query-editor/ and mysql/query-editor/; in the source pkg/tsdb/grafana-postgresql-datasource/macros.go and
pkg/tsdb/mysql/macros.go. The SQLite plugin: https://github.com/fr-ser/grafana-sqlite-datasource, its README,
src/DataSource.ts and pkg/plugin/.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.docs.pages import CHECKOUT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Variables = Mapping[str, Sequence[str]]


def dashboard_of(dialect: str) -> dict[str, Any]:
    """Return the dashboard that the page names for a database: ``postgresql``, ``mysql`` or ``sqlite``."""
    folder = CHECKOUT / "docs/grafana"
    if dialect == "postgresql":
        text = (folder / "dashboard.json").read_text("utf-8")
    else:
        command = [sys.executable, str(folder / "for_datasource.py"), dialect]
        text = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", env={}).stdout
    dashboard: dict[str, Any] = json.loads(text)
    return dashboard


@dataclass(frozen=True, slots=True)
class View:
    """The time range and the variables that a person has chosen."""

    start: datetime
    end: datetime
    variables: Variables

    def filled_in(self, sql: str, dialect: str) -> str:
        """Return what the database gets; nothing that looks like a variable or a macro is left."""
        for name, values in self.variables.items():
            sql = sql.replace(f"${{{name}:sqlstring}}", sqlstring(values))
        for placeholder, moment in _moments(dialect, self.start, self.end).items():
            sql = sql.replace(placeholder, moment)
        assert not re.search(r"\$(\w|\{)", sql), sql
        return sql


def sqlstring(values: Sequence[str]) -> str:
    """Return the values as the format ``sqlstring`` writes them."""
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def _moments(dialect: str, start: datetime, end: datetime) -> dict[str, str]:
    milliseconds = [(moment - EPOCH) // timedelta(milliseconds=1) for moment in (start, end)]
    if dialect == "sqlite":
        return {"$__from": str(milliseconds[0]), "$__to": str(milliseconds[1])}
    if dialect == "mysql":
        first, last = (f"FROM_UNIXTIME({moment // 1000})" for moment in milliseconds)
    else:
        first, last = (f"'{moment:%Y-%m-%dT%H:%M:%S.%f}Z'" for moment in (start, end))
    return {"$__timeFrom()": first, "$__timeTo()": last}
