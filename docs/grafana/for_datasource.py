"""Print dashboard.json for another data source of Grafana: ``python for_datasource.py mysql`` or ``sqlite``.

dashboard.json is written for PostgreSQL. MySQL's plugin takes the same statements and only counts seconds otherwise.
The SQLite plugin (frser-sqlite-datasource) has another query model, none of the macros, and takes a text for a time
only in the form of RFC 3339.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("dashboard.json")
POSTGRESQL = "grafana-postgresql-datasource"
PLUGINS = {"mysql": ("mysql", "MySQL"), "sqlite": ("frser-sqlite-datasource", "SQLite")}

SECONDS = "EXTRACT(EPOCH FROM finished_at - started_at)"
REPLACEMENTS = {
    "mysql": {SECONDS: "TIMESTAMPDIFF(MICROSECOND, started_at, finished_at) / 1000000"},
    "sqlite": {
        SECONDS: "(julianday(finished_at) - julianday(started_at)) * 86400",
        # The milliseconds since 1970 that Grafana itself fills in, as the views write times.
        "$__timeFrom()": "strftime('%Y-%m-%d %H:%M:%f', $__from / 1000.0, 'unixepoch')",
        "$__timeTo()": "strftime('%Y-%m-%d %H:%M:%f', $__to / 1000.0, 'unixepoch')",
    },
}


def translated(sql: str, kind: str) -> str:
    """Return a statement of the dashboard as this data source takes it."""
    for before, after in REPLACEMENTS[kind].items():
        sql = sql.replace(before, after)
    if kind == "sqlite":
        sql = re.sub(r"(\w+) AS time\b", r"strftime('%Y-%m-%dT%H:%M:%fZ', \1) AS time", sql)
    return sql


def query_of(target: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a panel's query in this data source's own form."""
    sql = translated(target["rawSql"], kind)
    if kind != "sqlite":
        return {**target, "rawSql": sql}
    form = "time series" if target["format"] == "time_series" else "table"
    common = {"refId": target["refId"], "datasource": target["datasource"]}
    return {**common, "queryType": form, "rawQueryText": sql, "queryText": sql, "timeColumns": ["time"]}


def dashboard_for(kind: str) -> dict[str, Any]:
    """Return the dashboard for ``mysql`` or ``sqlite``."""
    plugin, name = PLUGINS[kind]
    dashboard: dict[str, Any] = json.loads(SOURCE.read_text("utf-8").replace(POSTGRESQL, plugin))
    dashboard["__inputs"][0]["pluginName"] = name
    for panel in dashboard["panels"]:
        panel["targets"] = [query_of(target, kind) for target in panel["targets"]]
    return dashboard


def main() -> None:
    """Print the dashboard."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasource", choices=sorted(PLUGINS))
    dashboard = dashboard_for(parser.parse_args().datasource)
    sys.stdout.write(json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
