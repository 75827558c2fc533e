"""Backbones and their tokenizers: loading, checking, saving."""
