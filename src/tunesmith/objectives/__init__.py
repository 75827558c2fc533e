"""Objectives: which scalar a step minimises. One objective a file."""
