"""`python -m ferray.data prepare` for public sets with layouts of their own: FER2013, RAF-DB, AffectNet, CK+.

Begin at `add_public_sets`.
"""

import argparse

from ferray.commands.common import path_option
from ferray.commands.store_options import (
    Commands,
    add_common,
    add_drop_leaks,
    add_margin,
    add_source,
    listing_unusable,
    prepare_and_print,
    read_options,
)
from ferray.data.prepare.options import DEFAULT_MARGIN
from ferray.errors import DataError

FER2013_EXAMPLES = """\
  python -m ferray.data prepare fer2013 --csv fer2013.csv --size 64 --out data/fer2013
  python -m ferray.data prepare fer2013 --csv icml_face_data.csv --drop-leaks --out data/fer2013-clean
  python -m ferray.data prepare fer2013 --csv train.csv --split 70/10/20 --out data/fer2013-own    # no Usage: own split
  python -m ferray.data prepare fer2013 --csv fer2013.csv --ferplus fer2013new.csv --votes majority --out data/ferplus
  python -m ferray.train --data data/ferplus --set targets=votes       # train on all votes, not on the label alone
"""

RAFDB_EXAMPLES = """\
  python -m ferray.data prepare rafdb --images RAF-DB/basic --out data/rafdb        # EmoLabel/ and Image/aligned/
  python -m ferray.data prepare rafdb --images raf --out data/rafdb                 # train/1 to test/7
  python -m ferray.data prepare rafdb --images raf --order affectnet --out data/rafdb   # 0 neutral, 1 happy, ...
"""

AFFECTNET_EXAMPLES = """\
  python -m ferray.data prepare affectnet --images AffectNet --out data/affectnet       # train_set/, val_set/
  python -m ferray.data prepare affectnet --images Manually_Annotated_Images --training training.csv \\
      --validation validation.csv --without-contempt --out data/affectnet7
"""

CKPLUS_EXAMPLES = """\
  python -m ferray.data prepare ckplus --images CK+ --out data/ckplus           # cohn-kanade-images/ and Emotion/
  python -m ferray.data prepare ckplus --images CK+ --frames 1 --with-neutral --out data/ckplus-peak
  python -m ferray.data prepare ckplus --images CK+48 --out data/ckplus         # folders by class, original file names
"""

_FROM_TRAIN = "validation out of train, by group of copies (default 90/10/0)"


def add_public_sets(sources: Commands, prog: str) -> None:
    """Add a command for each set."""
    for add in (_add_fer2013, _add_rafdb, _add_affectnet, _add_ckplus):
        add(sources, prog)


def _add_fer2013(sources: Commands, prog: str) -> None:
    fer2013 = add_source(
        sources, prog, "fer2013", help="FER2013's CSV file, with its own labels or FER+'s votes",
        description="Take the faces of fer2013.csv or icml_face_data.csv in their own split (Usage). With FER+, a rule "
        "makes labels of ten annotators' votes, and the votes are kept, to train on them: --set targets=votes.",
        examples=FER2013_EXAMPLES,
    )  # fmt: skip
    fer2013.add_argument(
        "--csv", type=path_option("--csv"), required=True, metavar="FILE", help="columns emotion, pixels, Usage"
    )
    fer2013.add_argument(
        "--ferplus", type=path_option("--ferplus"), metavar="FILE", help="FER+'s votes, fer2013new.csv"
    )
    fer2013.add_argument(
        "--votes", choices=("majority", "plurality", "microsoft"),
        help="the rule: more than half of the votes (default); the most votes; or the authors' own, more than half "
        "without answers that have a single vote",
    )  # fmt: skip
    _add_contempt(fer2013)
    add_common(fer2013, split="for a file without Usage, which is refused without it; Usage is kept")
    add_drop_leaks(fer2013)
    fer2013.set_defaults(run=_prepare_fer2013)


def _add_rafdb(sources: Commands, prog: str) -> None:
    rafdb = add_source(
        sources, prog, "rafdb", help="RAF-DB's basic expressions, its own layout or folders by number",
        description="Take the aligned faces that EmoLabel/list_patition_label.txt lists, or those of folders by class "
        "or number. What a number means is decided by the published counts, or by --order.",
        examples=RAFDB_EXAMPLES,
    )  # fmt: skip
    rafdb.add_argument(
        "--images", type=path_option("--images"), required=True, metavar="DIR", help="the top of RAF-DB's basic part"
    )
    rafdb.add_argument(
        "--labels", type=path_option("--labels"), metavar="FILE", help="the list of labels, where it lies elsewhere"
    )
    _add_order(rafdb)
    add_common(rafdb, split=_FROM_TRAIN)
    add_drop_leaks(rafdb)
    rafdb.set_defaults(run=_prepare_rafdb)


def _add_affectnet(sources: Commands, prog: str) -> None:
    affectnet = add_source(
        sources, prog, "affectnet", help="AffectNet's manual annotations, in both layouts",
        description="Take train_set and val_set, or the lists training.csv and validation.csv, or folders by number. "
        "Labels 8 to 10 are left out. The official validation set becomes test, as papers use it; validation is taken "
        "out of train.",
        examples=AFFECTNET_EXAMPLES,
    )  # fmt: skip
    affectnet.add_argument(
        "--images", type=path_option("--images"), required=True, metavar="DIR", help="both sets, or the photographs"
    )
    affectnet.add_argument(
        "--training", type=path_option("--training"), metavar="FILE", help="the list of the training set, training.csv"
    )
    affectnet.add_argument(
        "--validation",
        type=path_option("--validation"),
        metavar="FILE",
        help="the list that becomes test, validation.csv",
    )
    _add_contempt(affectnet)
    _add_order(affectnet)
    add_common(affectnet, split=_FROM_TRAIN)
    add_margin(affectnet, DEFAULT_MARGIN)
    add_drop_leaks(affectnet)
    affectnet.set_defaults(run=_prepare_affectnet)


def _add_ckplus(sources: Commands, prog: str) -> None:
    ckplus = add_source(
        sources, prog, "ckplus", help="CK+'s sequences, split by person",
        description="Take the last frames of each labeled sequence. All faces of a person are in one split.",
        examples=CKPLUS_EXAMPLES,
    )  # fmt: skip
    ckplus.add_argument(
        "--images", type=path_option("--images"), required=True, metavar="DIR", help="cohn-kanade-images and Emotion"
    )
    ckplus.add_argument(
        "--labels", type=path_option("--labels"), metavar="DIR", help="the folder Emotion, where it lies elsewhere"
    )
    ckplus.add_argument("--frames", type=int, metavar="N", help="frames from the end of each sequence (default 3)")
    ckplus.add_argument("--with-neutral", action="store_true", help="take the first frame of each, too, as neutral")
    _add_contempt(ckplus)
    add_common(ckplus, split="shares of train/validation/test by person (default 70/10/20)")
    ckplus.set_defaults(run=_prepare_ckplus)


def _add_contempt(parser: argparse.ArgumentParser) -> None:
    words = "leave out contempt, which the seven expressions of other sets lack (default: keep it as an eighth class)"
    parser.add_argument("--without-contempt", action="store_true", help=words)


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--order", choices=("rafdb", "affectnet", "alphabetical", "fer2013"),
        help="what the numbers mean, where the published counts do not decide: the order of that set, or the alphabet",
    )  # fmt: skip


def _prepare_fer2013(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    if arguments.ferplus is None and (arguments.votes is not None or arguments.without_contempt):
        option = "--without-contempt" if arguments.without_contempt else f"--votes {arguments.votes}"
        way_out = "Name FER+'s votes: --ferplus fer2013new.csv; FER2013's own labels have seven classes"
        raise DataError(option, "is about FER+, which is not named", way_out)
    from ferray.data.sources.fer2013 import read_fer2013

    source = read_fer2013(
        arguments.csv,
        may_divide=options.split is not None,
        ferplus=arguments.ferplus,
        rule=arguments.votes or "majority",
        with_contempt=not arguments.without_contempt,
    )
    return prepare_and_print(source, arguments.out, options)


def _prepare_rafdb(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.prepare.plan import take_validation_from_train
    from ferray.data.sources.rafdb import read_rafdb

    with listing_unusable(arguments.out):
        source = read_rafdb(arguments.images, labels=arguments.labels, order=arguments.order)
    return prepare_and_print(source, arguments.out, take_validation_from_train(options, source))


def _prepare_affectnet(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.prepare.plan import take_validation_from_train
    from ferray.data.sources.affectnet import read_affectnet

    with listing_unusable(arguments.out):
        source = read_affectnet(
            arguments.images,
            training=arguments.training,
            validation=arguments.validation,
            with_contempt=not arguments.without_contempt,
            order=arguments.order,
        )
    return prepare_and_print(source, arguments.out, take_validation_from_train(options, source))


def _prepare_ckplus(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.sources.ckplus import read_ckplus

    with listing_unusable(arguments.out):
        source = read_ckplus(
            arguments.images,
            labels=arguments.labels,
            frames=arguments.frames,
            with_neutral=arguments.with_neutral,
            with_contempt=not arguments.without_contempt,
        )
    return prepare_and_print(source, arguments.out, options)
