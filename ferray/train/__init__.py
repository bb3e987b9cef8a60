"""How it is trained: one recipe, one store, epoch after epoch. Begin at `ferray.train.fit`."""
