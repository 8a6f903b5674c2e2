"""The parts of ``scripts/bench.py``: what is measured (chemistry, network), beside whom (peers), under which roof."""
