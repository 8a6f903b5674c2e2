"""Rows to integers to tensors: tables, splits, vocabulary, memory-mapped datasets, length-bucketed batches."""
