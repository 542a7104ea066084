"""Reflow: a language and a runtime for incremental data processing."""
