"""What the pictures of a data set show: the words for them, and what holds for them alone.

ferray was made for facial expressions, and much of what it says holds only for those: seven classes with many names,
the law on emotion recognition, words such as "face". All of that is here, so that another data set has none of it.
Begin at `Subject`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SubjectName = Literal["expressions", "pictures"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the pictures of a data set show."""

    name: SubjectName
    """As a store's manifest records it."""
    noun: str
    """One row of a store, in the singular."""
    title: str
    """What a model of it recognizes, for the title of its card."""
    class_aliases: Mapping[str, tuple[str, ...]]
    """Its classes in the order of their labels, each with the names that mean it; empty where the data names them."""
    meaning: str
    """What a prediction is, and is not: a sentence of the model card after the list of classes."""
    limits: tuple[str, ...]
    """What its models must not be used for: items of the model card."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Words of texts written for faces to the words for this subject."""

    @property
    def nouns(self) -> str:
        """Several rows of a store."""
        return f"{self.noun}s"

    def reword(self, text: str) -> str:
        """A text that was written for faces, in the words for this subject; what stands in quotes is left as it is."""
        if not self.words:
            return text
        pattern = rf"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|\b({'|'.join(self.words)})\b"
        return re.sub(pattern, lambda found: self.words[found[1]] if found[1] else found[0], text)


EXPRESSIONS = Subject(
    name="expressions",
    noun="face",
    title="facial expressions",
    class_aliases={
        "angry": ("angry", "anger"),
        "disgust": ("disgust", "disgusted", "disgusting"),
        "fear": ("fear", "fearful", "afraid", "scared"),
        "happy": ("happy", "happiness", "joy", "joyful"),
        "sad": ("sad", "sadness"),
        "surprise": ("surprise", "surprised"),
        "neutral": ("neutral", "natural"),
    },
    meaning="It does not tell what a person feels: a face may hide or play an emotion, and annotators often disagree.",
    limits=(
        "Research only. Not for decisions about people.",
        "European Union: the AI Act, Regulation (EU) 2024/1689, Article 5(1)(f), prohibits placing on the market, "
        "putting into\n  service for this purpose, or using AI to infer emotions of a person in the workplace or in "
        "education, except for\n  medical or safety reasons, since 2 February 2025; other emotion recognition from "
        "biometric data is high-risk, with\n  duties to inform people. This is a reader's summary and not legal "
        "advice.",
        "The score holds for faces like those of its test split. For other cameras, ages, poses or cultures, expect a "
        "lower\n  accuracy and worse probabilities.",
    ),
)  # fmt: skip
"""Faces, each labeled with one of seven expressions: ExpW, FER2013, RAF-DB and others."""

PICTURES = Subject(
    name="pictures",
    noun="picture",
    title="pictures",
    class_aliases={},
    meaning="It knows no other class: a picture of something else also gets one of these labels.",
    limits=(
        "The score holds for pictures like those of its test split. For other cameras, places or times, expect a\n"
        "  lower accuracy and worse probabilities.",
        "The rights in the pictures, and the rules for what they show, are those of the data set: they were not looked "
        "at here.",
    ),
    words={"faces": "pictures", "face": "picture", "Faces": "Pictures", "Face": "Picture", "expression": "content"},
)  # fmt: skip
"""Any other pictures, labeled with classes that the data set names."""

SUBJECTS: Mapping[SubjectName, Subject] = {one.name: one for one in (EXPRESSIONS, PICTURES)}

CLASS_NAMES = tuple(EXPRESSIONS.class_aliases)
"""The seven expressions, in the order of the labels: ExpW's own numbers 0 to 6."""
