"""`python -m ferray.fit`: a folder of pictures in, a model out. Begin at `ferray.api.folder`.

`ferray.fit` is a function, which trains one recipe.
"""
