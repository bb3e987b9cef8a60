"""What a store holds, as text. Begin at `format_counts`."""

from collections.abc import Sequence

from ferray.data.store.reader import Store


def format_counts(store: Store) -> str:
    """Number of faces by class and split, what was done to the faces, and what was left out."""
    manifest = store.manifest
    sizes = {split: size for split, size in manifest.split_sizes.items() if size}
    what = f"{manifest.num_faces:,} {manifest.shown.nouns} of {manifest.size_px} px"
    lines = [f"{store.folder}: {what} from {manifest.dataset}", ""]
    lines.append("".join([f"{'class':12}", *(f"{split:>12}" for split in sizes), f"{'all':>12}"]))
    lines += [_line(name, [manifest.counts[split][name] for split in sizes]) for name in manifest.class_names]
    lines += [_line("all", list(sizes.values())), ""]
    lines += [f"- {note}" for note in manifest.notes]
    lines += [f"- left out: {count:,} {reason}" for reason, count in manifest.skipped.items()]
    return "\n".join([*lines, f"- fingerprint {manifest.fingerprint[:16]}"])


def _line(name: str, numbers: Sequence[int]) -> str:
    return "".join([f"{name:12}", *(f"{number:12,}" for number in [*numbers, sum(numbers)])])
