"""Find banned phrases and long sentences: `python -m tests.documentation.plain_english [--sentences] [PATH …]`.

CONTRIBUTING.md states the rules. They apply to Markdown, and to docstrings, comments, messages and variables in Python.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

DEFAULT_PATHS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "metseg", "components", "pipelines", "models")
LONGEST_SENTENCE = 25
LONGEST_FIRST_LINE = 15
MOST_SEMICOLONS = 1

# What follows a "training" that is not a thing in itself: it is then a run.
AFTER_RUN = (
    r"(?:that|which|is|was|has|had|may|took|takes|ends?|ended|stops?|stopped|of|in|on|with|under|for|from|by|and|or|can|"
    r"cannot|goes|writes|leaves|needs|does|never|begins|began|gets?|would|will|requests)\b"
)

# (pattern, what to write instead). Patterns match prose alone: code in backticks is taken out before.
BANNED: tuple[tuple[str, str], ...] = (
    (r"\b(?:un)?answer(?:s|ed|ing)?\b", "return, respond; response, prediction"),
    (r"\b(?:say|says|saying|said|speak|speaks|spoken)\b", "state, report, log, name, show"),
    (r"\b(?:tell|tells|telling|told)\b", "report, log, show; distinguish"),
    (r"\bask(?:s|ed|ing)?\b", "request, query, require"),
    (r"\b(?:hold|holds|held|holding) (?:it |them |him |this |these )?against\b", "compare with"),
    (r"\b(?:is|are|be|was|were|became|become|becomes|hold|holds|held|has|have) no numbers?\b(?! of)", "NaN"),
    (r"\bvalues (?:that are )?no numbers?\b", "NaN"),
    (r"\bbeside\b", "next to, along with, and; written to a temporary file"),
    (r"\bfare[sd]?\b", "status"),
    (r"\btrainings\b", "training runs"),
    (rf"\b(?:a|each|every|another|this|one) training(?:'s)?(?=[.,;:)]|$| {AFTER_RUN})", "a training run"),
    (r"\b(?:person|nobody|somebody|anybody|everybody|whoever)\b", "the user, the caller, no user; default"),
    (r"\breign(?:s|ed|ing)?\b", "current"),
    (r"\bstrangers?\b", "untrusted input, other callers"),
    (r"\b(?:is|are|be|was|were|been|being) called (?:`|\"|'|as\b|after\b|so\b|what\b|P\b)", "is named"),
    (r"\bcalls? (?:itself|themselves)\b", "is named"),
    (r"\bcalled (?:`|\")", "named"),
    (r"\bvouch(?:es|ed)?\b", "CA, CA certificate"),
    (r"\b(?:token|key|certificate|session|password|lease|job|it|that|time|run) (?:is|was) over\b", "expired, ended"),
    (r"\b(?:missing|expired), over\b", "expired"),
    (r"\bwhat is there\b", "name the thing"),
    (r"\bwhat there is\b", "name the thing"),
    (r"\bwhat is not there\b", "missing"),
    (r"\bnot there yet\b", "not available, planned, not tested"),
    (r"\b(?:has|have|had) met (?:none|no)\b", "have not been tested on"),
    (r"\b(?:is|are) (?:not )?at hand\b", "available"),
    (r"\bwhere (?:no|none|nothing|neither|not|needed|possible|known|unset)\b", "if, when"),
    (r"[,;(] ?where there (?:is|are|was|were)\b", "if, when"),
    (r"[,;] where (?:it|they|that|this|these) (?:is|are|was|were|has|have|does|do|can|cannot)\b", "if, when"),
    (r"\bnone of (?:our|its|their) business\b", "ignored"),
    (r"\b(?:of|as) ours\b", "metseg's"),
    (r"\bas ever\b", "as before"),
    (r"\banew\b", "again, new"),
    (r"\bso long as\b", "while"),
    (r"\b(?:goes|go|went|going|gone) on\b", "continue, resume"),
    (r"\b(?:take|takes|took|taken|taking) up(?: again)?\b", "resume, reuse"),
    (r"\b(?:comes?|came) to an end\b", "end"),
    (r"\bof one's own\b", "your own; private"),
    (r"\b(?:has|have) to be (?:shown|known)\b", "must be"),
    (r"\bfor good\b", "permanently"),
    (r"\bof no use\b", "useless"),
    (r"\b(?:does|did) well\b", "succeed"),
    (r"\bthe way (?:so far|there|in|out)\b", "name the thing"),
    (r"\b(?:till|whither|thereof|wherein|henceforth|notwithstanding|withal|alas|aught|naught)\b", "plain words"),
    (r"\b(?:looked|seen|seeing|sees?|look) to\b", "check"),
    (r"\bmakes? (?:nothing|something) of\b", "ignore"),
    (r"\bknows? nothing of\b", "ignore, does not use"),
    (r"\bstands? (?:there|in place|in for)\b", "is; replaces"),
    (r"\bwhat (?:it|they|he) (?:makes|make) of\b", "result, effect"),
)  # fmt: skip
RULES = tuple((re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in BANNED)
CLAUSE = re.compile(r"(?:What|Whether|How|Who|Whose|Where|Why|That|Which)\b")
RIDDLES = {"told", "said", "found", "kept", "asked", "answered", "answer", "answers"}
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|Fig|Eq|Sec|No|approx|Dr|St)\.")


@dataclass(frozen=True)
class Prose:
    """A piece of text of a file; the length of `measured` sentences is limited."""

    line: int
    text: str
    measured: bool = False
    first_line_of_docstring: bool = False
    riddle: bool = False


@dataclass(frozen=True)
class Offence:
    """One violation of a rule of language."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def offences(path: Path, sentences: bool = False) -> list[Offence]:
    """Return the offences of a Markdown or Python file, in order.

    Args:
        path: the file.
        sentences: of a Python file, measure the sentences of docstrings and comments too; of Markdown they always are.
    """
    text = path.read_text(encoding="utf-8")
    pieces = markdown_prose(text) if path.suffix == ".md" else python_prose(text, sentences)
    found_here = [offence for piece in pieces for offence in _offences(path, piece)]
    return sorted(found_here, key=lambda offence: offence.line)


def _offences(path: Path, piece: Prose) -> Iterator[Offence]:
    if piece.riddle:
        yield Offence(path, piece.line, f"variable named {piece.text}: name it by a noun (message, matches, response)")
        return
    plain = without_markup(piece.text)
    for rule, advice in RULES:
        for match in rule.finditer(plain):
            line = piece.line + plain.count("\n", 0, match.start())
            phrase = " ".join(match.group().split())
            yield Offence(path, line, f"“{phrase}”: {advice}")
    if piece.first_line_of_docstring:
        yield from _offences_of_first_line(path, piece, plain)
    if piece.measured:
        for start, sentence in split_sentences(plain):
            line = piece.line + plain.count("\n", 0, start)
            words = word_count(sentence)
            beginning = " ".join(sentence.split()[:6])
            if words > LONGEST_SENTENCE:
                yield Offence(path, line, f"sentence of {words} words, at most {LONGEST_SENTENCE}: “{beginning} …”")
            if sentence.count(";") > MOST_SEMICOLONS:
                yield Offence(
                    path, line, f"{sentence.count(';')} semicolons, at most {MOST_SEMICOLONS}: “{beginning} …”"
                )


def _offences_of_first_line(path: Path, piece: Prose, plain: str) -> Iterator[Offence]:
    words = word_count(plain)
    if words > LONGEST_FIRST_LINE:
        yield Offence(path, piece.line, f"first line of a docstring has {words} words, at most {LONGEST_FIRST_LINE}")
    if CLAUSE.match(plain):
        yield Offence(
            path, piece.line, f"first line begins with a clause “{plain.split()[0]} …”: begin with a verb or noun"
        )


def without_markup(text: str) -> str:
    """Return the text without code spans, links' targets and emphasis; lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        return "`x`" + "\n" * match.group().count("\n")

    text = re.sub(r"(`+)(?:(?!\1).)+?\1", blank, text, flags=re.DOTALL)
    text = re.sub(r"!?\[((?:[^\]\\]|\\.)*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+", "x", text)
    return re.sub(r"\*\*|(?<!\w)\*(?=\w)|(?<=[\w.])\*(?!\w)", "", text)


def split_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its offset in the text."""
    masked = ABBREVIATION.sub(lambda match: match.group().replace(".", "\0"), text)
    start = 0
    for match in re.finditer(r"[.!?][)”\"]?(?=\s)|:(?=\s*$)", masked):
        yield (
            start + len(text[start : match.end()]) - len(text[start : match.end()].lstrip()),
            text[start : match.end()].strip(),
        )
        start = match.end()
    if text[start:].strip():
        yield start, text[start:].strip()


def word_count(sentence: str) -> int:
    """Return the number of words that hold a letter; a code span counts as one."""
    return sum(any(character.isalpha() for character in word) for word in sentence.split())


def markdown_prose(text: str) -> Iterator[Prose]:
    """Yield headings, paragraphs, list items, table cells and the comments of code blocks."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    in_table = in_heading = False
    for token in tokens:
        if token.type in {"table_open", "table_close"}:
            in_table = token.type == "table_open"
        if token.type in {"heading_open", "heading_close"}:
            in_heading = token.type == "heading_open"
        if token.type == "inline" and token.map:
            yield Prose(token.map[0] + 1, token.content, measured=not in_table and not in_heading)
        if token.type == "fence" and token.map:
            for number, line in enumerate(token.content.splitlines()):
                comment = re.search(r"(?:^|\s)# (.+)$", line)
                if comment:
                    yield Prose(token.map[0] + 2 + number, comment.group(1))


def python_prose(text: str, sentences: bool) -> Iterator[Prose]:
    """Yield docstrings, comments, messages of at least three words, and variables with a riddling name."""
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.add(id(first.value))
                yield from _docstring(first.value.lineno, first.value.value, sentences)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from [Prose(node.lineno, node.value)] if len(node.value.split()) >= 3 else []
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in RIDDLES:
            yield Prose(node.lineno, node.id, riddle=True)
    yield from _comments(text, sentences)


def _docstring(line: int, text: str, sentences: bool) -> Iterator[Prose]:
    first, _, rest = text.partition("\n")
    yield Prose(line, first, first_line_of_docstring=True)
    if not rest.strip():
        return
    start = line + 1
    for block in re.split(r"(\n\s*\n)", rest):
        is_code = ">>>" in block or bool(re.match(r"\s*(?:Args|Returns|Raises|Yields|Attributes|Example)s?:", block))
        yield Prose(start, block, measured=sentences and not is_code)
        start += block.count("\n")


def _comments(text: str, sentences: bool) -> Iterator[Prose]:
    """Yield comments; those on successive lines of their own are one."""
    block: list[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(?:noqa|type:|fmt:|ruff:|!)", token.string):
            continue
        alone = not token.line[: token.start[1]].strip()
        if block and (not alone or token.start[0] != last + 1):
            yield Prose(begun, "\n".join(block), measured=sentences)
            block = []
        if not block:
            begun = token.start[0]
        block.append(token.string.lstrip("# "))
        last = token.start[0] if alone else 0
    if block:
        yield Prose(begun, "\n".join(block), measured=sentences)


def files_of(paths: list[Path]) -> list[Path]:
    """Return the Markdown and Python files that the paths name or contain."""
    files: list[Path] = []
    for path in paths:
        files += sorted([*path.rglob("*.py"), *path.rglob("*.md")]) if path.is_dir() else [path]
    return files


def clean_places(paths: list[Path]) -> list[Path]:
    """Return the largest folders, and the files, without offences; folders come before what they contain."""
    clean: list[Path] = []
    for path in paths:
        if not any(offences(file) for file in files_of([path])):
            clean += [path] if files_of([path]) else []
        elif path.is_dir():
            clean += clean_places(sorted(entry for entry in path.iterdir() if entry.is_dir() or entry.suffix == ".py"))
    return clean


def main() -> int:
    """Print each offence as `file:line: message`; exit code 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", action="store_true", help="measure sentences of docstrings and comments too")
    parser.add_argument("--list-clean", action="store_true", help="list the folders and files without offences instead")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    paths = options.paths or [Path(name) for name in DEFAULT_PATHS if Path(name).exists()]
    if options.list_clean:
        print("\n".join(map(str, clean_places(paths))))
        return 0
    offending = [offence for path in files_of(paths) for offence in offences(path, options.sentences)]
    for offence in offending:
        print(offence)
    print(f"{len(offending)} offences", file=sys.stderr)
    return 1 if offending else 0


if __name__ == "__main__":
    sys.exit(main())
