"""Measurements, as ratios within one run: contenders take turns on the same texts."""
