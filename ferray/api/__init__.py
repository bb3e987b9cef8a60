"""What `import ferray` offers beyond its classes: the commands as functions. Begin at `ferray.api.searching`.

`ferray.search`, `ferray.plan`, `ferray.prepare`, `ferray.open` and `ferray.fit_folder` take what the commands take,
call what the commands call, and return values instead of printing them.
"""
