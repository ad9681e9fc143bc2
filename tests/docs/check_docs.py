#!/usr/bin/env python3
"""Checks README.md, docs/ and recipes: limits, links, and that commands name what there is.

    tests/docs/check_docs.py [--programs build/release/examples]

- README.md: at most 200 lines of at most 110 columns; its C++ is that of examples/train_your_own.cpp.
- Relative links, pictures and anchors exist.
- Every `--config FILE.ini` exists, and every program that a command begins with is one of ours.
- docs/recipes.md has a row for every ini file of examples/configs.
- With --programs: every option of a command is known to the program's --help.

Standard library only. Prints one line a fault; exit code 1 where there is one.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
README_LINES, README_COLUMNS = 200, 110
# What commands may begin with beside our programs.
OTHERS = {"cmake", "ls", "torchrun", "srun", "mpirun"}
SCRIPTS = re.compile(r"^(\./dev|examples/\w+\.(py|sh)|docs/programs/generate\.sh)$")
NO_HELP = {"train_your_own"}


def blocks(text):
    """Code of a page: (first line number, language, lines). Fenced, or indented by four."""
    found, language, start, lines = [], None, 0, []
    previous = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^\s*```(\w*)", line)
        if language is None:
            if fence:
                language, start, lines = fence[1], number + 1, []
            elif line.startswith("    ") and line.strip():
                if found and found[-1][1] == "indented" and found[-1][0] + len(found[-1][2]) == number:
                    found[-1][2].append(line[4:])
                elif not previous.strip():
                    found.append((number, "indented", [line[4:]]))
        elif fence:
            found.append((start, language, lines))
            language = None
        else:
            lines.append(line)
        previous = line
    return found


def prose(text):
    """The page without its code, so that brackets in code are not taken for links."""
    text = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    made = set()
    for heading in re.findall(r"^#+ +(.*)$", path.read_text(), flags=re.M):
        heading = re.sub(r"[`*]", "", heading).strip().lower()
        made.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return made


def check_links(path, text):
    text = prose(text)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    targets += re.findall(r"^\[[^\]]+\]: +(\S+)", text, flags=re.M)
    for target in targets:
        if re.match(r"^[a-z]+:", target):
            continue
        file, _, anchor = urllib.parse.unquote(target).partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"link to '{target}', which does not exist"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            yield f"link to '{target}': {there.name} has no such heading"


def commands(lines, language):
    """(line number in the block, words) of each command; lines that end in a backslash are joined."""
    prompted = any(line.startswith("$ ") for line in lines)
    if language not in ("", "sh", "bash", "indented") or (language == "" and not prompted):
        return
    joined, start = "", 0
    for number, line in enumerate(lines):
        if not joined:
            if prompted and not line.startswith("$ "):
                continue
            start = number
            line = line.removeprefix("$ ")
        joined += line.rstrip("\\") if line.endswith("\\") else line
        if line.endswith("\\"):
            joined += " "
            continue
        try:
            words = shlex.split(joined, comments=True)
        except ValueError:
            words = []
        joined = ""
        if words:
            yield start, words


def known_options(binary, cache={}):
    if binary not in cache:
        text = subprocess.run([binary, "--help"], capture_output=True, text=True).stdout
        cache[binary] = set(re.findall(r"^ +--([\w.\-]+)", text, flags=re.M))
    return cache[binary]


def check_command(words, programs, folder):
    while len(words) > 1 and re.match(r"^[A-Z_]+=", words[0]):  # variables of the environment
        words = words[1:]
    for place, word in enumerate(words[1:], 1):  # a launcher, and what it starts
        if words[0] in OTHERS and word.startswith("build/release/examples/"):
            words = words[place:]
            break
    name = words[0].rsplit("/", 1)[-1]
    for before, value in zip(words, words[1:]):
        written = not re.match(r"^[A-Z_]+\.ini$", value)  # RECIPE.ini stands for any
        if before == "--config" and written and not (ROOT / value).exists():
            yield f"--config {value}, which does not exist"
    if SCRIPTS.match(words[0]):
        if not (ROOT / words[0]).exists():
            yield f"'{words[0]}' does not exist"
        return
    if name not in programs:
        if words[0] not in OTHERS and ("--" in " ".join(words) or "/" in words[0]):
            yield f"'{words[0]}' is none of our programs"
        return
    if folder is None or name in NO_HELP:
        return
    binary = folder / name
    if not binary.exists():
        yield f"{binary} is not there"
        return
    known = known_options(binary)
    for word in words[1:]:
        option = re.match(r"^--([A-Za-z][\w.\-]*)", word)
        # Numbered sections: --help shows as many as there are by default.
        if option and option[1] not in known and \
                re.sub(r"\.\d+\.", ".1.", option[1]) not in known:
            yield f"{name} has no option --{option[1]}"


def check_mentions(text, programs):
    for config in set(re.findall(r"examples/configs/(\w+\.ini)", text)):
        if not (ROOT / "examples/configs" / config).exists():
            yield f"examples/configs/{config} does not exist"
    for program in set(re.findall(r"build/release/examples/(\w+)", text)):
        if program not in programs:
            yield f"build/release/examples/{program} is none of our programs"


def check_readme(text):
    lines = text.splitlines()
    if len(lines) > README_LINES:
        yield f"{len(lines)} lines, at most {README_LINES}"
    for number, line in enumerate(lines, 1):
        if len(line) > README_COLUMNS:
            yield f"line {number}: {len(line)} columns, at most {README_COLUMNS}"
    source = (ROOT / "examples/train_your_own.cpp").read_text()
    for start, language, code in blocks(text):
        if language == "cpp" and "\n".join(code).strip() not in source:
            yield f"line {start}: this code is not that of examples/train_your_own.cpp"


def check_recipe(path, programs, folder):
    """The commands in a recipe's comments, indented by three."""
    lines = path.read_text().splitlines()
    code = [line[4:] if line.startswith("#   ") else "" for line in lines]
    for number, words in commands(code, "sh"):
        for fault in check_command(words, programs, folder):
            yield f"line {number + 1}: {fault}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, help="folder of the built programs")
    folder = parser.parse_args().programs
    listed = (ROOT / "examples/CMakeLists.txt").read_text()
    programs = {name for names in re.findall(r"foreach\(program\s+([^)]*)\)", listed) for name in names.split()}
    faults, seen = [], 0
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for path in pages:
        text = path.read_text()
        page = [*check_links(path, text), *check_mentions(text, programs)]
        if path.name == "README.md" and path.parent == ROOT:
            page += check_readme(text)
        for start, language, lines in blocks(text):
            for number, words in commands(lines, language):
                seen += 1
                page += [f"line {start + number}: {fault}"
                         for fault in check_command(words, programs, folder)]
        faults += [f"{path.relative_to(ROOT)}: {fault}" for fault in page]
    recipes = (ROOT / "docs/recipes.md").read_text()
    for path in sorted((ROOT / "examples/configs").glob("*.ini")):
        faults += [f"{path.relative_to(ROOT)}: {fault}"
                   for fault in check_recipe(path, programs, folder)]
        if not re.search(rf"^\|[^|]*`{re.escape(path.name)}`", recipes, flags=re.M):
            faults.append(f"docs/recipes.md: no row of a table begins with {path.name}")
    for program in sorted(programs):
        if not (ROOT / "docs/programs" / f"{program}.md").exists():
            faults.append(f"docs/programs/{program}.md is missing; run docs/programs/generate.sh")
    print("\n".join(faults) if faults else f"{len(pages)} pages, {seen} commands: all is there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
