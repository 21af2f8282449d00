"""Pipelines in a file: what it says, whether it holds, and the settings that each of its pipelines gives."""
