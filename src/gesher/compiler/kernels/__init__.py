"""The hand-tuned C kernels and the table of them."""
