"""Mirrors src/tunesmith; besides: contracts (of every part of a kind) and architecture (how the source is written)."""
