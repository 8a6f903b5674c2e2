"""Tensors to distributions; never imports rdkit, selfies or pandas."""
