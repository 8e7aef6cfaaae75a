"""Papers in float64 NumPy, by family of `gradtx.optimizers`."""
