"""Operators of Gesher's own, for graphs on their way to an engine of ours. No file carries them."""
