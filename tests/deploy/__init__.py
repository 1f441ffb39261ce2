"""Tests of what is shipped to install the program: units, images, manifests, alerts, the crontab."""
