"""The version; a leaf, so that everything may import it."""

VERSION = "0.1.0"
