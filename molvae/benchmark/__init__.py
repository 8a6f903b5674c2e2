"""Measure a model or a list of molecules by published protocols."""
