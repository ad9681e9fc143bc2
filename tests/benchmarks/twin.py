"""The C++ benchmarks beside the same work in PyTorch (twin_models.py), and the ratios.

    twin.py --binary BENCHMARKS     each in turn: C++, eager PyTorch, the same under torch.compile,
                                    then `embed` beside the transformers package
    twin.py --only NAME [--compiled]     one task of the twin here, prints seconds and peak memory

A time is the median of its steps; a ratio is the median over rounds, in which all take their turns, so
that a drift of the machine's speed hits all. Peak memory is of the whole process, compiler included.
What is left out is told below the table, and why.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time

COLUMNS = ("cpp", "eager", "compiled")
QUICK = ("train_step/demo", "train_step/vit_tiny_16x112_b8_bfloat16",
         "encoder_forward/vit_tiny_16x112_b1", "diffusion/sample_heun20_b8")


class Skipped(Exception):
    """A row or a cell that is not measured; the text says why."""


def run_twin(name, seconds, compiled):
    import torch

    import twin_models

    torch.set_num_threads(int(os.environ.get("JEPA_THREADS", "2")))
    torch.manual_seed(0)
    task = twin_models.make_task(name, compiled)
    # Compiled code is made anew until the changing sizes are known to change.
    warm = 4 if compiled else 1
    taken = []
    while len(taken) < warm + 3 or sum(taken[warm:]) < seconds:
        prepared = task.prepare(len(taken))
        start = time.perf_counter()
        task(prepared)
        taken.append(time.perf_counter() - start)
    print(json.dumps(dict(name=name, seconds=statistics.median(taken[warm:]),
                          peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))


def child(command, limit):
    """Runs a command; returns its output and peak resident memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)  # torch.compile has children of its own
    watch = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    watch.start()
    errors = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    output = process.stdout.read()
    reader.join()
    _, status, usage = os.wait4(process.pid, 0)
    in_time = watch.is_alive()
    watch.cancel()
    if not in_time:
        raise Skipped(f"more than {limit:g} s")
    if status != 0:
        last = errors[0].decode(errors="replace").strip().splitlines()[-1:]
        sys.exit(f"error: {' '.join(map(str, command))} failed with status {status}: {last}")
    return output, usage.ru_maxrss / 1024


def cpp(arguments, name):
    output, peak = child([arguments.binary, f"--benchmark_filter=^{name}(/real_time)?$",
                          f"--benchmark_min_time={arguments.seconds}", "--benchmark_format=json"],
                         arguments.limit)
    found = json.loads(output)["benchmarks"][0]
    if found.get("error_occurred"):
        raise Skipped(found["error_message"])
    unit = dict(ns=1e-9, us=1e-6, ms=1e-3, s=1)[found["time_unit"]]
    return found.get("median_s", found["real_time"] * unit), peak


def twin(arguments, name, compiled):
    output, _ = child([sys.executable, __file__, "--only", name, "--seconds", str(arguments.seconds),
                       *(["--compiled"] if compiled else [])], arguments.limit)
    found = json.loads(output.splitlines()[-1])
    return found["seconds"], found["peak_mb"]


def ratios_of(name, rounds):
    """A row of the table, of rounds by column: (seconds, MB) each."""
    result = dict(name=name)
    for column, found in rounds.items():
        result[column] = dict(seconds=statistics.median(s for s, _ in found),
                              peak_mb=max(p for _, p in found))
    for column in rounds:
        if column == "cpp":
            continue
        ratios = [a / b for (a, _), (b, _) in zip(rounds["cpp"], rounds[column])]
        memory = result["cpp"]["peak_mb"] / result[column]["peak_mb"]
        result["to_" + column] = dict(time=statistics.median(ratios), memory=memory,
                                      time_range=[min(ratios), max(ratios)])
    return result


def compare_one(name, arguments, columns, end):
    """The row of one benchmark, and why cells of it are empty; at least one round, however late."""
    rounds = {column: [] for column in columns}
    notes = []
    for i in range(arguments.rounds):
        if i > 0 and time.monotonic() > end:
            break
        for column in list(rounds):
            try:
                rounds[column].append(cpp(arguments, name) if column == "cpp" else
                                      twin(arguments, name, column == "compiled"))
            except Skipped as skipped:
                if column == "cpp":
                    return None, [f"{name}: left out: {skipped}"]
                del rounds[column]
                notes.append(f"{name}, {column}: left out: {skipped}")
    return ratios_of(name, rounds), notes


def beside_transformers(arguments):
    """Rows of `embed`, where a Python with the transformers package is at hand."""
    python = arguments.transformers or sys.executable
    has = subprocess.run([python, "-c", "import transformers"], stderr=subprocess.DEVNULL)
    if has.returncode != 0:
        return [], ["embed beside the transformers package: left out: " + python + " has none"]
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "twin_transformers.py")
    try:
        output, _ = child([python, script, "--programs", arguments.programs, "--rounds",
                           str(arguments.rounds), *(["--quick"] if arguments.quick else [])],
                          6 * arguments.limit * arguments.rounds)
    except Skipped as skipped:
        return [], [f"embed beside the transformers package: left out: {skipped}"]
    found = [json.loads(line) for line in output.splitlines()]
    return [ratios_of(row.pop("name"), row) for row in found], []


def machine():
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def print_table(results):
    columns = [c for c in (*COLUMNS, "transformers") if any(c in r for r in results)]
    others = columns[1:]
    print("| step | " + " | ".join(f"{column}, s" for column in columns) + " | "
          + " | ".join(f"C++ / {column}, time (rounds)" for column in others) + " | "
          + " | ".join(f"{column}, MB" for column in columns) + " |")
    print("|---" * (1 + 2 * len(columns) + len(others)) + "|")
    for r in results:
        cells = [r["name"], *(f"{r[c]['seconds']:.4f}" if c in r else "" for c in columns)]
        for column in others:
            ratio = r.get("to_" + column)
            cells.append("" if ratio is None else "{:.2f} ({:.2f} to {:.2f})".format(
                ratio["time"], *ratio["time_range"]))
        cells += [f"{r[c]['peak_mb']:.0f}" if c in r else "" for c in columns]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the benchmarks program")
    parser.add_argument("--programs", default="build/release/examples", help="folder of `embed`")
    parser.add_argument("--transformers", help="a Python that has the transformers package")
    parser.add_argument("--only", help="run one task of the twin here")
    parser.add_argument("--compiled", action="store_true", help="with --only: under torch.compile")
    parser.add_argument("--shape", action="append", help="compare only these benchmarks")
    parser.add_argument("--eager-only", action="store_true", help="leave torch.compile out")
    parser.add_argument("--quick", action="store_true",
                        help="a few rows, one short round, no torch.compile: whether it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of steps, each time")
    parser.add_argument("--limit", type=float, default=300,
                        help="seconds of one measurement, compiler included; then its cell is empty")
    parser.add_argument("--minutes", type=float, default=60,
                        help="of all; then every row has its first round and no further one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.only:
        return run_twin(arguments.only, arguments.seconds, arguments.compiled)
    if not arguments.binary:
        parser.error("name the benchmarks program with --binary, or a task with --only")
    import twin_models
    names = arguments.shape or list(QUICK if arguments.quick else twin_models.TASKS)
    for name in names:
        if name not in twin_models.TASKS:
            parser.error(f"{name} is not one of {', '.join(twin_models.TASKS)}")
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.eager_only = 1, 0.2, True
    columns = COLUMNS[:2] if arguments.eager_only else COLUMNS
    before = machine()
    end = time.monotonic() + 60 * arguments.minutes
    results, notes = [], []
    for name in names:
        result, left_out = compare_one(name, arguments, columns, end)
        notes += left_out
        if result:
            results.append(result)
            print(name, *(f"{c} {result[c]['seconds']:.4f} s" for c in columns if c in result),
                  sep="  ", file=sys.stderr, flush=True)
    if not arguments.shape:
        rows, left_out = beside_transformers(arguments)
        results += rows
        notes += left_out
    if arguments.json:
        print(json.dumps(dict(machine=before, results=results, left_out=notes), indent=2))
    else:
        print(before + f"; afterwards load {os.getloadavg()[0]:.1f}\n")
        print_table(results)
        print("".join(f"\n{note}" for note in notes))


if __name__ == "__main__":
    main()
