"""The command line: one small module per verb, and `main`, which finds them."""
