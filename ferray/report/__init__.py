"""What a search came to, for people: scores with intervals, pictures, the best model's card; and doubts about scores.

    names, scores       every number called accuracy under its own name, with its interval and what guessing gets
    bootstrap           the intervals: whole groups of faces drawn again and again
    evaluate            the scores of an exported model on a store; runs the model
    finish              the one reading of the test split, and the files that it leaves beside the model
    seal                who has read the test split; a second reading goes on record
    calibration         whether probabilities can be believed, and the temperature that helps
    slices, words       where a model is weak
    compare             whether one model beats another, and how much of the best of many scores is luck
    predictions         tables of answers, ferray's own or anybody's
    audit, claims       somebody's score recomputed and doubted; `doubts/` has one function a doubt
    plots, diagrams     pictures of a search, of a model, as PNG files; `axes`, `figure` are beneath them
    card, terminal      the text that travels with a model, and the text on the screen
    __main__            `python -m ferray.report`: evaluate, audit, slices

Records, stores and tables come in, files and numbers go out; nothing here trains. Begin at `scores.score`.
"""
