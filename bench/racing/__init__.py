"""The race of the engines: workers that run a model, the interleaving of their runs, and what is written of it."""
