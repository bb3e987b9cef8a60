"""What a search came to, for people: scores with intervals, pictures, the best model's card.

    scores      one split's scores from labels and probabilities, each with its interval; numpy only
    evaluate    the scores of an exported model on a store; runs the model
    plots       heatmap, curves and confusion matrix as PNG files
    card        the text that travels with a model
    __main__    `python -m ferray.report evaluate`: repeats a score from the exported folder alone

Records and stores come in, files and numbers go out; nothing here trains. Begin at `scores.score`.
"""
