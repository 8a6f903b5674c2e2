"""Use of a trained model: sampling token ids, turning them into checked molecules, encoding molecules."""
