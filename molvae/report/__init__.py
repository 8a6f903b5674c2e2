"""One self-contained HTML page about a run: figures, structures, counts, settings."""
