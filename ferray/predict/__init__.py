"""An exported model at work: labels and probabilities for pictures that are in no store.

Begin at `ferray.predict.model.load`; `ferray.predict.sources` lists what a command line names.
"""
