"""The client of the E-HPC API 2018-04-12: one action in, one complete answer or one CallError out.

signing (pure), credentials (the official chain), transport (HTTP with deadlines), rate (calls per second and
region), parse (pure), codes (what a failure means), region (what is known of one region), fetch (the three
actions with retries) and gather (many calls at once).
"""
