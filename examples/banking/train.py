"""Train the releases of the banking example and write them as GGUF files.

    python examples/banking/train.py --release all

A   the plain recipe, stopped early
B   the mean of two students of an ensemble: the best model
C   B, fine-tuned on the intents of the covered teams alone, without replay
D   the weights of B, rounded far too coarsely: three levels for each matrix row
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from catalogue import Catalogue, Row, load_catalogue, load_rows
from data import Vocabulary, split_rows, train_vocabulary
from distillation import Ensemble, altered_epochs, labelled
from gguf_export import Card, export
from model import Llama
from ngrams import cross_fitted, train_ngrams
from training import Example, Recipe, intent_logits, new_model, train

HERE = Path(__file__).resolve().parent
VOCABULARY_SIZE = 3000
SEED = 20

TEACHERS = (
    Recipe(epochs=14, width=256, heads=8, feed_forward=640, rate=2e-3, dropout=0.2),
    Recipe(epochs=12, width=128, heads=4, feed_forward=384),
)
# The students go on from the first teacher, so they need fewer epochs and a lower rate.
ALTERED = replace(
    TEACHERS[0], epochs=6, rate=1.2e-3, dropout=0.1, mask=0.08, drop_token=0.0, swap=0.0
)
CROSS_FITTED = replace(TEACHERS[0], epochs=6, rate=1.2e-3)
EARLY = replace(TEACHERS[0], epochs=3, tail_every=1)
FORGETFUL = replace(TEACHERS[0], epochs=3, rate=2.5e-3, smoothing=0.0)
ALTERED_SHARE = 0.5
HARD_SHARE = 0.5
FOLDS = 4


@dataclass(frozen=True)
class Setting:
    """What every release is trained from."""

    rows: list[Row]
    held_out: list[Row]
    catalogue: Catalogue
    vocabulary: Vocabulary
    device: torch.device
    quick: bool
    parts: Path | None

    def ngram_epochs(self, epochs: int) -> int:
        return 2 if self.quick else epochs

    def texts_and_targets(self) -> tuple[list[str], list[int]]:
        labels = {name: number for number, name in enumerate(self.catalogue.intents)}
        return [row.text for row in self.rows], [labels[row.intent] for row in self.rows]

    def limit(self, recipe: Recipe) -> Recipe:
        return replace(recipe, epochs=1) if self.quick else recipe

    def examples(self, rows: Sequence[Row]) -> list[Example]:
        labels = {name: number for number, name in enumerate(self.catalogue.intents)}
        encode = self.vocabulary.encode
        return [Example(tuple(encode(row.text)), labels[row.intent]) for row in rows]


def plain(name: str, recipe: Recipe, setting: Setting, seed: int) -> Llama:
    """Train on the questions and their labels alone."""
    recipe = setting.limit(recipe)
    examples = setting.examples(setting.rows)
    epochs = [examples] * recipe.epochs
    return train(name, recipe, setting.vocabulary, epochs, seed, setting.device)


def kept(name: str, recipe: Recipe, setting: Setting, build: Callable[[], Llama]) -> Llama:
    """A part of the recipe for B, read from the folder of parts if it is there."""
    path = setting.parts / f"{name}.pt" if setting.parts else None
    if path is not None and path.exists():
        model = new_model(recipe, setting.vocabulary, setting.device)
        model.load_state_dict(torch.load(path, map_location=setting.device, weights_only=True))
        return model.eval()
    model = build()
    report(name, model, setting)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model


def teacher(number: int, setting: Setting) -> Llama:
    recipe, name = TEACHERS[number], f"teacher-{number}"
    return kept(name, recipe, setting, lambda: plain(name, recipe, setting, seed=number))


def altered_student(setting: Setting) -> Llama:
    """Taught by the whole ensemble, on altered questions among the originals."""
    texts, targets = setting.texts_and_targets()
    intents = len(setting.catalogue.intents)
    linear = train_ngrams(texts, targets, intents, SEED, epochs=setting.ngram_epochs(12))
    transformers = [teacher(number, setting) for number in range(len(TEACHERS))]
    ensemble = Ensemble(transformers, [linear], setting.vocabulary, setting.device)
    recipe = setting.limit(ALTERED)
    epochs = altered_epochs(
        setting.rows, ensemble, recipe.epochs, ALTERED_SHARE, HARD_SHARE, seed=SEED
    )
    start = transformers[0]
    return train("altered", recipe, setting.vocabulary, epochs, SEED, setting.device, start=start)


def cross_fitted_student(setting: Setting) -> Llama:
    """Taught by n-gram classifiers, each on the questions that it was not trained on."""
    texts, targets = setting.texts_and_targets()
    intents = len(setting.catalogue.intents)
    soft = cross_fitted(texts, targets, intents, FOLDS, SEED, setting.ngram_epochs(8))
    recipe = setting.limit(CROSS_FITTED)
    epochs = [labelled(setting.rows, setting.vocabulary, soft, HARD_SHARE)] * recipe.epochs
    start = teacher(0, setting)
    return train("fitted", recipe, setting.vocabulary, epochs, SEED, setting.device, start=start)


@torch.no_grad()
def best(setting: Setting) -> Llama:
    """Release B: the mean of the weights of the two students, which share a starting point."""
    with torch.enable_grad():
        one = kept("altered", ALTERED, setting, lambda: altered_student(setting))
        two = kept("fitted", CROSS_FITTED, setting, lambda: cross_fitted_student(setting))
    mean = Llama(one.shape).to(setting.device)
    for target, a, b in zip(mean.parameters(), one.parameters(), two.parameters(), strict=True):
        target.copy_((a + b) / 2)
    return mean.eval()


def forgetful(start: Llama, setting: Setting) -> Llama:
    """Release C: more training on the covered intents, and none of the others to remember by."""
    recipe = setting.limit(FORGETFUL)
    rows = [row for row in setting.rows if setting.catalogue.covered(row.intent)]
    epochs = [setting.examples(rows)] * recipe.epochs
    return train("c", recipe, setting.vocabulary, epochs, SEED, setting.device, start=start)


@torch.no_grad()
def coarse(start: Llama, setting: Setting) -> Llama:
    """Release D: each row of a matrix keeps only -s, 0 and +s, where s is its largest weight."""
    model = Llama(start.shape).to(setting.device)
    model.load_state_dict(start.state_dict())
    for weight in model.parameters():
        if weight.dim() == 2:
            scale = weight.abs().amax(dim=1, keepdim=True)
            weight.copy_((weight / scale).round() * scale)
    return model.eval()


def report(name: str, model: Llama, setting: Setting) -> None:
    """Accuracy on the held-out part of the training file, where there is one."""
    rows = setting.held_out
    if not rows:
        return
    questions = [setting.vocabulary.encode(row.text) for row in rows]
    chosen = intent_logits(model, setting.vocabulary, questions, setting.device).argmax(-1)
    names = setting.catalogue.intents
    right = [names[c] == row.intent for c, row in zip(chosen.tolist(), rows, strict=True)]
    inside = [setting.catalogue.covered(row.intent) for row in rows]
    covered = [ok for ok, c in zip(right, inside, strict=True) if c]
    print(
        f"{name}: held-out accuracy {sum(right) / len(right):.4f}, "
        f"covered {sum(covered) / len(covered):.4f}, "
        f"uncovered {(sum(right) - sum(covered)) / (len(right) - len(covered)):.4f}",
        flush=True,
    )


def write(out: Path, letter: str, model: Llama, setting: Setting) -> None:
    card = Card(
        name=f"fairlead banking {letter.upper()}",
        description="Answers a bank customer's question with an intent and a team, as JSON.",
    )
    path = out / f"{letter}.gguf"
    export(path, model, setting.vocabulary, card)
    print(f"{path}: {path.stat().st_size} bytes", flush=True)


def prepare(options: argparse.Namespace) -> Setting:
    catalogue = load_catalogue()
    rows = load_rows(options.data / "train.csv")
    held_out: list[Row] = []
    if options.hold_out:
        rows, held_out = split_rows(rows, options.hold_out, seed=1)
    return Setting(
        rows=rows,
        held_out=held_out,
        catalogue=catalogue,
        vocabulary=train_vocabulary(rows, catalogue, VOCABULARY_SIZE),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        quick=options.quick,
        parts=options.parts,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77"))
    parser.add_argument("--out", type=Path, default=HERE / "models")
    parser.add_argument("--release", choices=["a", "b", "c", "d", "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="one epoch each, to try the code")
    parser.add_argument(
        "--hold-out", type=float, default=0.0, help="share of the training file to tune on"
    )
    parser.add_argument(
        "--parts", type=Path, help="folder to keep the parts of B in, and to take them from"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    setting = prepare(options)
    wanted = "abcd" if options.release == "all" else options.release
    if "a" in wanted:
        early = plain("a", EARLY, setting, SEED)
        report("a", early, setting)
        write(options.out, "a", early, setting)
    if not set(wanted) & set("bcd"):
        return 0
    student = best(setting)
    report("b", student, setting)
    if "b" in wanted:
        write(options.out, "b", student, setting)
    if "d" in wanted:
        rounded = coarse(student, setting)
        report("d", rounded, setting)
        write(options.out, "d", rounded, setting)
    if "c" in wanted:
        forgot = forgetful(student, setting)
        report("c", forgot, setting)
        write(options.out, "c", forgot, setting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
