"""The page a run ends with: one self-contained HTML file."""
