"""The chaos script: half an hour of trouble in a minute, after which the history must be the catalogue's.

``python -m tests.chaos --database sqlite`` plays it and says what it did and found; ``test_chaos`` does so in CI.

``script`` says what happens and when, ``stage`` holds who takes part: ``server`` (the database), ``fleet`` (daemons,
kept alive as an init system would), ``receiver`` (who is told), ``clock`` (libfaketime), and ``watcher``, which notes
from outside when runs came and went. ``offers`` is the catalogue, ``expected`` what its history must look like, and the
judges compare: ``judge`` the views, ``judge_runs`` the runs and ticks, ``judge_alerts`` the messages.
"""
