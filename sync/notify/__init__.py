"""Telling people: messages from templates, channels through Apprise, and the dead man's switch."""
