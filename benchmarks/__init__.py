"""Figures of the program, measured side by side; none of them is a test."""
