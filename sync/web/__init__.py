"""The HTTP side of the daemon: ``/healthz``, ``/livez`` and ``/metrics``.

Needs the extra ``web``, whose packages are imported only when ``create_app`` and ``Server`` are called.

    app         the Flask application: every area is a blueprint; errors and headers that all of them share
    monitoring  the area of probes and Prometheus
    exposition  what is known → metrics
    reading     what the database says, asked in the background so that no request waits long
    source      what the daemon gives to all of them
    metrics     what this process has counted since it began
    server      the application on a port
    flight      work in the background that is never done twice at a time
    extra       the packages that may be missing
"""
