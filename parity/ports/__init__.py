"""Anybody's port: compared, traced, checked."""
