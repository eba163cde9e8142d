"""Measuring quality and speed: metrics, benchmarks, run time."""
