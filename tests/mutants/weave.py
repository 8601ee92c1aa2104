"""Many changes of the source in one build: each in a copy of the body of its function, chosen by a variable of the
environment when the program runs. Standard library alone."""

import collections
import os
import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ["Cargo.toml", "Cargo.lock", "config.toml", "src", "tests", "docs", "deploy", "systemd", "README.md"]
CHOICE = """
/// The change that this process is.
pub mod mutant {
    /// Its number; 0: none.
    pub fn chosen() -> usize {
        static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}
"""
TOKEN = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | r(\#*)".*?"\1 | b?"(?:\\.|[^"\\])*" | b?'(?:\\[^\n]{1,8}?|[^\\'\n])' | \bfn\ \w+ | [{}]""", re.X | re.S
)
BOXED = re.compile(r"-> impl (.*?)(\s*)\{$", re.S)


def copy(place):
    """The tree, apart from what is built; only what changed is touched, so that little is compiled anew."""
    place.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            there = place / file.relative_to(ROOT)
            if not there.exists() or there.read_bytes() != file.read_bytes():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, there)


def environment(target, **more):
    """For cargo: the build goes there, and nothing of an outer build's judgement is taken over."""
    taken_over = ("RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS")
    return {name: text for name, text in os.environ.items() if name not in taken_over} | {"CARGO_TARGET_DIR": str(target)} | more


def edited(text, edits):
    """The text with those edits: from where to where, and what takes the place."""
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


class Source:
    """A file: where its lines begin, and the insides of its outermost functions."""

    def __init__(self, path):
        self.text = path.read_text()
        self.lines = [0]
        for line in self.text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.bodies, open_braces, named = [], [], None
        for token in TOKEN.finditer(self.text):
            if token[0].startswith("fn "):
                named = token.start()
            elif token[0] == "{":
                # A declaration has no body: what opens next is something else. An array's length is no end of one.
                header = re.sub(r"\[[^\]]*\]", "", self.text[named : token.start()]) if named is not None else ";"
                open_braces.append((token.start(), ";" not in header))
                named = None
            elif token[0] == "}":
                start, of_function = open_braces.pop()
                if of_function and not any(inside for _, inside in open_braces):
                    self.bodies.append((start + 1, token.start()))

    def place(self, point):
        return self.lines[point["line"] - 1] + point["column"] - 1

    def span(self, span):
        return self.place(span["start"]), self.place(span["end"])


def box(returned):
    """A return type that only the compiler knows, as one that several bodies can have."""
    traits = returned[1] if "'" in returned[1] else returned[1] + " + '_"
    return f"-> Box<dyn {traits}>{returned[2]}{{"


def woven(source, changes):
    """The file's text with all changes in it, and which lines belong to which.

    `changes`: a number each, and its edits: from where to where, and what takes the place.
    """
    bodies = collections.defaultdict(lambda: collections.defaultdict(list))
    for number, edits in changes:
        for begin, end, text in edits:
            body = next(body for body in source.bodies if body[0] <= begin and end <= body[1])
            bodies[body][number].append((begin, end, text))
    parts, at, owners, line = [], 0, [], 1

    def put(*texts):
        nonlocal line
        parts.extend(texts)
        line += sum(text.count("\n") for text in texts)

    for (start, end), numbers in sorted(bodies.items()):
        before, header = source.text[at:start].rpartition("fn ")[::2]
        # Which change this is only shows when it runs, and so does which iterator.
        boxed, several = BOXED.subn(box, header)
        wrap = ("Box::new({", "}),") if several else ("{", "}")
        put(before.removesuffix("const "), "fn ", boxed, "match crate::mutant::chosen() {\n")
        for number, edits in numbers.items():
            changed = edited(source.text[start:end], [(begin - start, close - start, text) for begin, close, text in edits])
            first = line
            put(f"{number} => ", changed.join(wrap), "\n")
            owners.append((first, line - 1, number))
        first = line
        put("_ => ", source.text[start:end].join(wrap), "\n}")
        # What cannot be boxed fails as it stands: none of its changes can be chosen while it runs.
        owners += [(first, line, number) for number in numbers if several]
        at = end
    return "".join([*parts, source.text[at:]]), owners


def by_file(edits):
    """What is edited in each file."""
    files = collections.defaultdict(list)
    for file, *edit in edits:
        files[file].append(tuple(edit))
    return files


def plant_alone(place, edits):
    """Plants one change into a copy of the tree as it would be written: its edits with their files."""
    copy(place)
    for file, those in by_file(edits).items():
        (place / file).write_text(edited((ROOT / file).read_text(), those))


def weave(place, changes):
    """Plants them into a copy of the tree: a number each, and its edits with their files. Which lines of which file are whose."""
    copy(place)
    library = place / "src/lib.rs"
    library.write_text(library.read_text() + CHOICE)
    files = collections.defaultdict(dict)
    for number, edits in changes:
        for file, those in by_file(edits).items():
            files[file][number] = those
    owners = {}
    for file, those in files.items():
        text, owners[file] = woven(Source(ROOT / file), those.items())
        (place / file).write_text(text)
    return owners
