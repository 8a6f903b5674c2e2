"""Strings and RDKit molecules. In: SMILES. Out: canonical SMILES, tokens, checks, numbers. Never imports torch."""
