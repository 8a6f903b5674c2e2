"""One training loss from small pieces, chosen as a row of a table."""
