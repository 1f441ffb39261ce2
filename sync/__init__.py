"""ehpc-image-sync: which E-HPC images each instance type supports, and what changed when, in a SQL database.

A map, from the words at the bottom to the program at the top; each layer imports only those below it, and the stages
(between the lines) never import each other. ``tests/test_layers.py`` holds this.

    __main__        python -m sync
    cli/            commands, options, exit codes
    daemon          what runs until it is told to end: signals, systemd, HTTP, a configuration that may change
    demo  preview   the demo's story; what a run would ask
    check           configuration, credentials, permissions, database, channels: one line each, with its remedy
    session         what a command works with: settings, database, client, signals
    terminal        how a command speaks: rows, tables, progress
    schedule        the daemon's loop: when a run is due and what to wait for (the only file with APScheduler)
    web/            HTTP: the dashboard, health and metrics
    job             a run as cron and the daemon make it: the run, the dead man's switch, telling people
    report          how a run and the condition of the data are told: one object, one screen
    export          a view as a Parquet, CSV or JSON lines file
    tell            telling channels what they do not know yet, once
    health          how fresh and complete the data are, and what needs a person
    accept  run/    accepting held removals by hand; one run, start to end: the only place that knows the order
    compare         what differs between two times, regions or instance types
    timeline        which image lived when: bars, and what nobody knows
    matrix          families of instance types and the images they share
    asking          names and times as people give them → filters and times, checked
    follow          watching changes as they are recorded
    region          one region of a run: what was answered, and what to write about it (pure)
    ------------------------------------------------------------------------------------------------------------
    plan            configuration + discovered types → targets (pure)
    ehpc/           the API: signing (pure) · transport · fetch (one action → answer or error) · parse (pure) · gather
    diff            observations → changes and held removals: the rules of removal (pure)
    store/          schema · database · lease · known (reads before a run) · record (the only writer of the history) ·
                    filters, snapshot, absences, history, groups, spans, runs, condition, stream (reads) ·
                    alerts (what channels were told) · verify, prune, copy, statistics (upkeep)
    notify/         messages and templates (pure) · channels through Apprise · the dead man's switch
    render/         rows → table, JSON, CSV (pure)
    simulator/      an E-HPC endpoint on loopback: catalogue, timeline, faults, server
    systemd         ready, alive, status
    moments         times as people type and read them (pure)
    ------------------------------------------------------------------------------------------------------------
    config  logs    settings from file, environment and flags; logging with redaction
    ticks  backoff  schedules and spans of time as people configure them; growing waits (pure)
    inventory       the words of the domain as frozen values
    errors          the error tree and the exit codes

One run: ``run`` takes the lease, plans regions and targets, lets ``ehpc`` fetch all targets concurrently while one
thread compares digests; a region that is answered is judged by ``diff`` and written by ``store.record``, at most 500
targets a transaction. ``tell`` then compares what each channel was told with the changes and with ``health``.

Every table, view and column is described in README.md, every rule of removal in ``diff``.
"""
