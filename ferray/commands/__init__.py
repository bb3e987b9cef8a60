"""The commands: parsers and handlers. `python -m ferray.NAME` begins at `main` of the module NAME."""
