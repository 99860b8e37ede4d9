"""Operators of other domains (com.microsoft), in the same notation."""
