"""A finished run, loaded and ready to predict."""
