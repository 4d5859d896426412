"""`mer-lightning data`: inspect, import, verify, synthesize and list corpora. Heavy imports wait for the command."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mer_lightning import output
from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    from mer_lightning.data.corpus import CorpusCard

ALIGNMENTS = ("aligned", "unaligned")  # of twins
_REPLACED = {
    "median": " set to the training median of the column",
    "zero": " set to 0",
    "missing": ": those steps are missing",
}


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)
    try:
        given.run(given)
    except Refusal as refusal:
        print(f"mer-lightning data: {refusal}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """One line and exit code 2, with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        words = [word.strip("'") for word in message.replace(":", " ").split()]
        valid = [*self._option_string_actions, *(name for a in self._actions for name in (a.choices or ()))]
        close = [near for word in words if word not in valid for near in difflib.get_close_matches(word, valid, 1, 0.7)]
        hint = f"; did you mean {close[0]}?" if close else ""
        print(f"{self.prog}: {' '.join(message.split())}{hint}", file=sys.stderr)
        sys.exit(2)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mer-lightning data", description="Inspect, import, verify, synthesize and list corpora.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="show what is in a feature file, a folder or an imported corpus")
    inspect.add_argument("path", type=Path)
    inspect.set_defaults(run=_inspect)

    load = commands.add_parser("import", help="bring a feature file or folder into the native form")
    load.add_argument("path", type=Path)
    load.add_argument("--as", dest="name", required=True, metavar="CORPUS", help="a name of `data list`, or your own")
    load.add_argument("-o", dest="folder", type=Path, help="folder to write (default: $MER_DATA/CORPUS-ALIGNMENT)")
    load.add_argument("--features", default="", metavar="text=A,audio=B,vision=C", help="which of several feature sets")
    load.add_argument("--format", help="read the path as this format, whatever it looks like")
    tasks = "of a corpus of your own: regression, ratings, single_label, multi_label, or a card of the catalogue's kind"
    load.add_argument("--task", default="", help=f"{tasks} (default: what the file shows)")
    load.add_argument("--classes", default="", metavar="'MINE: THEIRS, ...'", help="which class of the file is which")
    replaced = "by the training median of its column, by zero, or the whole step is missing"
    load.add_argument(
        "--nonfinite", choices=("median", "zero", "missing"), default="median", help=f"-inf, inf and NaN: {replaced}"
    )
    load.add_argument(
        "--allow_missing_labels", action="store_true", help="ratings may be NaN: left out of loss and metrics"
    )
    load.set_defaults(run=_import)

    fetch = commands.add_parser("fetch", help="download the public files of a corpus, and import them")
    fetch.add_argument("name", help="mosi or meld")
    fetch.add_argument("--from", dest="origin", metavar="URL|FOLDER", help="a mirror, or a folder with the files")
    fetch.add_argument("--yes", action="store_true", help="do not ask")
    fetch.set_defaults(run=_fetch)

    synthesize = commands.add_parser("synthesize", help="make the synthetic twin of a corpus")
    synthesize.add_argument("name")
    synthesize.add_argument("--alignment", choices=ALIGNMENTS, default="aligned")
    synthesize.add_argument("--samples", type=int, help="how many in all (default: as many as the corpus, or fewer)")
    processes = "default, contradiction, redundant or complementary, e.g. with constants: contradiction,cue=2"
    synthesize.add_argument("--process", default="default", help=f"that makes it: {processes}")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("-o", dest="folder", type=Path, help="folder to write (default: the cache)")
    synthesize.set_defaults(run=_synthesize)

    verify = commands.add_parser("verify", help="read all of an imported corpus: is it what its card says?")
    verify.add_argument("folders", nargs="+", type=Path)
    verify.set_defaults(run=_verify)

    listing = commands.add_parser("list", help="corpora, where to ask for them, and the formats that are read")
    listing.add_argument("name", nargs="?", help="show everything that is known about one corpus")
    listing.set_defaults(run=_list)
    return parser


def _inspect(given: argparse.Namespace) -> None:
    from mer_lightning.data.importing.inspection import Findings, inspect_any

    with _progress("inspecting") as report:
        findings = inspect_any(given.path, report)
    from rich.console import Console

    from mer_lightning.data.importing.inspection_report import show, show_contents

    def show_findings() -> None:
        if isinstance(findings, Findings):
            show(findings, Console())
        else:
            show_contents(findings, Console())

    output.give(findings.as_dict(), show_findings)


def _import(given: argparse.Namespace) -> None:
    from mer_lightning.data.importing.asked import read_asked, refuse_strange_name
    from mer_lightning.data.importing.base import all_readers, detect
    from mer_lightning.data.places import corpus_folder
    from mer_lightning.data.store import write_corpus

    refuse_strange_name(given.name)
    if given.format and given.format not in all_readers():
        raise Refusal(
            "--format", f"one of {', '.join(all_readers())}", f"'{given.format}'", "leave it out to detect it"
        )
    reader = all_readers()[given.format] if given.format else detect(given.path)
    raw = read_asked(given.path, given.name, reader, _features(given.features), given.task, given.classes)
    folder = given.folder or corpus_folder(given.name, raw.alignment)
    with _progress("importing") as report:
        card = write_corpus(
            raw,
            folder,
            given.name,
            progress=report,
            nonfinite=given.nonfinite,
            allow_missing_labels=given.allow_missing_labels,
        )
    _print_imported(card, folder)


def _fetch(given: argparse.Namespace) -> None:
    from mer_lightning.data.catalogue import lookup
    from mer_lightning.data.fetching import SERVER, fetch_files, public_corpora
    from mer_lightning.data.importing.base import detect, read_raw
    from mer_lightning.data.places import corpus_folder, data_root
    from mer_lightning.data.store import write_corpus

    corpora = public_corpora()
    if given.name not in corpora:
        remedy = f"`mer-lightning data list {given.name}` says where to ask for others"
        raise Refusal("data fetch", f"one of {', '.join(corpora)}", f"'{given.name}'", remedy)
    corpus, origin = corpora[given.name], given.origin or SERVER
    print(f"{corpus.title}: {len(corpus.files)} files, {corpus.size / 1e6:.1f} MB, from {origin}")
    for source in corpus.sources:
        print(f"  {source['repository']}, {len(source['files'])} files, licence: {source['licence']}")
    if not given.yes and not _agreed(f"download them into {data_root()}? [y/N] "):
        raise Refusal("data fetch", "yes", "no answer of yes", "nothing was downloaded; --yes answers beforehand")
    folder = data_root() / "fetched" / given.name
    with _progress("fetching") as report:
        fetch_files(corpus, folder, origin, report)
    raw = read_raw(detect(folder), folder, lookup(given.name), {})
    target = corpus_folder(given.name, raw.alignment)
    with _progress("importing") as report:
        card = write_corpus(raw, target, given.name, progress=report)
    _print_imported(card, target)


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _features(text: str) -> dict[str, str]:
    """`text=A,audio=B` -> {"text": "A", "audio": "B"}"""
    from mer_lightning.modalities import MODALITIES

    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for modality, equals, name in pairs:
        if modality not in MODALITIES or not equals or not name:
            remedy = "write --features text=A,audio=B,vision=C"
            raise Refusal(
                "--features", f"MODALITY=NAME with {', '.join(MODALITIES)}", f"'{modality}{equals}{name}'", remedy
            )
    return {modality: name for modality, _, name in pairs}


def _print_imported(card: CorpusCard, folder: Path) -> None:
    from rich.console import Console

    from mer_lightning.data.catalogue import known_corpus, nearest
    from mer_lightning.data.places import data_root

    entry = known_corpus(card.name)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{card.label}[/]: {card.samples} samples in {folder}")
    if entry is None:
        console.print(f"  a corpus of your own; {nearest(card.name)}".removesuffix("; "), markup=False)
    console.print("  " + ", ".join(f"{m} {card.feature_set[m]} ({width} wide)" for m, width in card.dims.items()))
    console.print(f"  task: {_task_in_words(card.task)}", markup=False)
    for name, counts in card.partitions.items():
        console.print(f"  {name}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))
        expected = entry.counts.get(name) if entry else None
        if expected and expected != counts:
            usual = ", ".join(f"{split} {count}" for split, count in expected.items())
            console.print(f"  [yellow]! {name} usually has {usual}: results on other counts are not comparable[/]")
    for modality, cleaned in card.cleaned.items():
        replaced = ", ".join(f"{count} {kind}" for kind, count in cleaned.items())
        console.print(f"  {modality}: {replaced}{_REPLACED[card.nonfinite]}")
    for note in card.notes:
        console.print(f"  [dim]note: {note}[/]")
    named = card.name if folder.parent == data_root() else folder
    console.print(f"next: mer-lightning fit --model supervised --model.backbone early --data.corpus {named}")


def _task_in_words(task: dict[str, Any]) -> str:
    if "classes" in task:
        how = "one of" if task["kind"] == "single_label" else "any of"
        return f"{how} {', '.join(task['classes'])}"
    if "limit" in task:
        return f"sentiment from -{task['limit']:g} to {task['limit']:g}"
    ranges = zip(task["targets"], task["low"], task["high"], strict=True)
    return "ratings: " + ", ".join(f"{name} from {low:g} to {high:g}" for name, low, high in ranges)


def _synthesize(given: argparse.Namespace) -> None:
    from rich.console import Console

    from mer_lightning.data.corpus import read_card
    from mer_lightning.data.places import synthetic_cache
    from mer_lightning.data.store import write_corpus
    from mer_lightning.data.synthetic.twins import make_corpus, synthetic_corpus
    from mer_lightning.modalities import COMPLETE

    if given.folder:
        raw, twin = make_corpus(given.name, given.alignment, given.samples, given.seed, given.process)
        with _progress("writing") as report:
            write_corpus(raw, given.folder, given.name, twin=twin, progress=report)
    folder = given.folder or synthetic_corpus(
        given.name, given.alignment, synthetic_cache(), samples=given.samples, seed=given.seed, process=given.process
    )
    card, console = read_card(folder), Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{card.label}[/]: {card.samples} samples in {folder}")
    for metric, linear in card.linear.items():
        best, ceiling = card.bayes[COMPLETE][metric], card.ceiling[metric]
        console.print(
            f"  test {metric}: best possible {best:.3f}; best with what contradicts known and masked {ceiling:.3f}; "
            f"a linear model of mean features {linear:.3f}"
        )


def _verify(given: argparse.Namespace) -> None:
    from mer_lightning.data.corpus import open_corpus
    from mer_lightning.data.verification import verify

    for folder in given.folders:
        corpus = open_corpus(folder)
        verify(corpus)
        print(f"{folder}: {corpus.card.label}, {corpus.card.samples} samples, as its card says")


def _list(given: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from mer_lightning.data.catalogue import TWINS, CatalogueEntry, catalogue, lookup, own_catalogue
    from mer_lightning.data.importing.base import all_readers

    def show_one(entry: CatalogueEntry) -> None:
        console = Console(highlight=False)
        console.print(f"[bold]{entry.name}[/]: {entry.title}")
        console.print(f"task: {_task_in_words(entry.task_card)}", markup=False)
        for what in ("obtain", "licence", "labels"):
            if text := getattr(entry, what):
                console.print(f"{what}: {text}", markup=False)

    def show_all() -> None:
        console, left = Console(highlight=False), dict(here)
        corpora = Table("corpus", "what it is", "here", title="corpora", title_justify="left")
        for name, entry in known.items():
            twin = " (or its synthetic twin)" if name in TWINS else ""
            corpora.add_row(name, entry.title, "\n".join(left.pop(name, [])) or f"no{twin}")
        for name, lines in sorted(left.items()):
            corpora.add_row(name, "your own", "\n".join(lines))
        formats = Table("format", "what it is", title="formats that are read", title_justify="left")
        for name, reader in readers.items():
            formats.add_row(name, reader.describes)
        console.print(corpora)
        console.print(formats)
        console.print("[dim]`mer-lightning data list CORPUS` says where to ask for it[/]")

    if given.name:
        entry = lookup(given.name)
        output.give(asdict(entry), lambda: show_one(entry))
        return
    known, here, readers = catalogue() | own_catalogue(), _imported(), all_readers()
    facts = {
        name: {"title": known[name].title if name in known else "", "twin": name in TWINS, "here": here.get(name, [])}
        for name in (*known, *sorted(here.keys() - known.keys()))
    }
    formats = {name: reader.describes for name, reader in readers.items()}
    output.give({"corpora": facts, "formats": formats}, show_all)


def _imported() -> dict[str, list[str]]:
    """{name: "folder: samples" of each import under the data root}"""
    from mer_lightning.data.corpus import read_card
    from mer_lightning.data.places import data_root

    found: dict[str, list[str]] = {}
    for path in sorted(data_root().glob("*/card.yaml")):
        try:
            card = read_card(path.parent)
        except Refusal as refusal:  # one bad folder must not hide the others
            found.setdefault(path.parent.name, []).append(str(refusal))
            continue
        found.setdefault(card.name, []).append(f"{path.parent}: {card.samples}")
    return found


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to report (done, in all) to; a bar appears once it has taken a second."""
    from rich.console import Console
    from rich.progress import Progress

    started = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(what, visible=False)

        def report(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=time.monotonic() - started > 1)

        yield report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
