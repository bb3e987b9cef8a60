"""An exported model at work: labels and probabilities for pictures that are in no store; the model in other formats.

Begin at `ferray.predict.model.load`; `ferray.predict.sources` lists what a command line names, and
`ferray.predict.export` writes a file that runs without ferray.
"""
