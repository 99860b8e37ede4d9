"""The compiled engine's machinery: a graph becomes primitives, fused loops, C, a shared library, and answers."""
