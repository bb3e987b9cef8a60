"""What a search achieved, for people: its page, the test score, where the model is weak, a model card, and pictures.

    test_split/         the one reading of the test split, its record, and the scores of an exported model
    slices, expw_words  where the model is weak
    results/            what a search found, as values and sentences
    page/               `report.html`
    plots, diagrams     pictures of a search and of a model; `axes` and `figure` serve them
    card, terminal      the model card, and the text on the terminal; `wording` serves them

Records and stores come in, files and text go out; nothing here trains a model. The scores come from `ferray.metrics`,
the examination of anybody's score from `ferray.audit.score`. Begin at `test_split.read_once`.
"""
