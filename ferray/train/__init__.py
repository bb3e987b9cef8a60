"""Training: one recipe on one store, epoch by epoch. Begin at `ferray.train.fit`."""
