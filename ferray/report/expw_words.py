"""ExpW's own: the search words in its file names, merged into slices that are large enough to be scored, and limits.

A collector found `frightened_by_the_movie_man_12.jpg` by typing an emotion and a subject. Such words are queries, not
annotations of people: they show what was searched for, not who or what is in the picture. Slices overlap.
"""

from collections.abc import Mapping

MERGED: Mapping[str, Mapping[str, frozenset[str]]] = {
    "subject_word": {
        "woman, girl": frozenset({"woman", "girl", "lady", "wife", "mother", "grandmother"}),
        "man, boy": frozenset({"man", "boy", "husband", "father", "grandfather", "son", "lad"}),
        "child": frozenset({"boy", "girl", "infant", "son"}),
        "older": frozenset({"grandfather", "grandmother", "old"}),
        "job": frozenset(
            {"actor", "boss", "manager", "president", "programmer", "soldier", "student", "teacher", "worker"}
        ),
        "origin": frozenset({"african", "american", "asian", "black", "chinese", "european", "yang"}),
        "group": frozenset({"couple", "family", "people"}),
        "plain": frozenset({"expression", "face"}),
    },
    "emotion_word": {
        "anger": frozenset({"angry", "annoyed", "mad", "fierce", "hostile", "fighting"}),
        "disgust": frozenset({"disgust", "distaste"}),
        "fear": frozenset(
            {"afraid", "anxious", "frightened", "frightened_by_the_movie", "horrified", "fear", "distressed"}
        ),
        "happiness": frozenset({"ecstatic", "excited", "joyous"}),
        "sadness": frozenset({"crying", "heartbroken", "unhappy"}),
        "surprise": frozenset({"amazed", "astound", "awe", "shocked"}),
        "no emotion": frozenset({"expressionless", "serious", "boring"}),
    },
}
"""The words of each slice, in lower case, by column of the store's table and name of the slice."""

EXPW_LIMITS = (
    "ExpW may be used for research only. It holds web pictures of people who were not asked, children among\n"
    "  them: publish no pictures, crops or embeddings. Whether this also limits its weights is unclear.",
    "The search words in ExpW's file names were typed by collectors. They are not annotations of people, and they\n"
    "  support no claim about groups of people.",
)
"""What else a model of ExpW must not be used for: items of the model card."""
