"""The metrics that the daemon serves, as the alerts may use them."""

from collections.abc import Mapping

METRICS: Mapping[str, tuple[str, ...]] = {
    "ehpc_sync_build_info": ("version",),
    "ehpc_sync_database_up": (),
    "ehpc_sync_healthy": (),
    "ehpc_sync_runs_total": ("status",),
    "ehpc_sync_run_duration_seconds": (),
    "ehpc_sync_last_run_timestamp_seconds": (),
    "ehpc_sync_last_run_status": ("status",),
    "ehpc_sync_next_run_timestamp_seconds": (),
    "ehpc_sync_calls_total": ("region_id", "outcome"),
    "ehpc_sync_call_retries_total": ("region_id",),
    "ehpc_sync_throttled_seconds_total": ("region_id",),
    "ehpc_sync_targets": ("region_id", "state"),
    "ehpc_sync_open_intervals": ("region_id",),
    "ehpc_sync_changes_total": ("region_id", "kind"),
    "ehpc_sync_held_removals": ("region_id",),
    "ehpc_sync_data_age_seconds": ("region_id",),
    "ehpc_sync_stale_after_seconds": (),
    "ehpc_sync_failing_targets": ("region_id", "code"),
    "ehpc_sync_lease_info": ("owner",),
    "ehpc_sync_notifications_total": ("channel", "outcome"),
}
"""Each metric's name with its labels; the histogram also has its names with _bucket, _sum and _count."""

HISTOGRAMS = ("ehpc_sync_run_duration_seconds",)

SCRAPED_LABELS = ("job", "instance")
"""What Prometheus itself adds to every metric."""
