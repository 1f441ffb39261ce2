"""Tests of the pages for people who bring their own tools."""
