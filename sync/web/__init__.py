"""The HTTP side of the product: the dashboard, ``/healthz``, ``/livez`` and ``/metrics``. It only reads.

Needs the extra ``web``, whose packages are imported only when ``create_app`` and ``Server`` are called.

    app         the Flask application: every area is a blueprint; errors and headers that all of them share
    access      who may look: host names and the token
    dashboard   the area of pages: their twins, refusals and what templates know
    pages/      one module per page: what its address asks → what it shows
    visit       one request of a page: parameters, filters, times, addresses
    life        what the pages with a timeline share
    words       changes as sentences with links
    figures     timelines as figures of plotly (pure)
    feed        changes as an Atom feed
    assets      styles and scripts, plotly's from its installed package
    templates/  static/  how pages look
    monitoring  the area of probes and Prometheus
    exposition  what is known → metrics
    reading     what the database says, asked in the background so that no request waits long
    source      what whoever serves gives to all of them
    metrics     what this process has counted since it began
    server      the application on a port
    flight      work in the background that is never done twice at a time
    extra       the packages that may be missing
"""
