"""The tests of what survives: repetition, kills, interrupts, lost servers."""
