"""The C++ benchmarks beside the same work in PyTorch (twin_models.py), and the ratios.

    twin.py --binary BENCHMARKS     each in turn: C++, eager PyTorch, the same under torch.compile
    twin.py --only NAME [--compiled]     one task of the twin here, prints seconds and peak memory

A time is the median of its steps; a ratio is the median over rounds, in which all take their turns, so
that a drift of the machine's speed hits all. Peak memory is of the whole process, compiler included.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

COLUMNS = ("cpp", "eager", "compiled")


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


def child(command):
    """Runs a command; returns its output and peak resident memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"error: {' '.join(command)} failed with status {status}")
    return output, usage.ru_maxrss / 1024


def cpp(binary, name, seconds):
    output, peak = child([binary, f"--benchmark_filter=^{name}(/real_time)?$",
                          f"--benchmark_min_time={seconds}", "--benchmark_format=json"])
    found = json.loads(output)["benchmarks"][0]
    unit = dict(ns=1e-9, us=1e-6, ms=1e-3, s=1)[found["time_unit"]]
    return found.get("median_s", found["real_time"] * unit), peak


def twin(name, seconds, compiled):
    output, _ = child([sys.executable, __file__, "--only", name, "--seconds", str(seconds),
                       *(["--compiled"] if compiled else [])])
    found = json.loads(output.splitlines()[-1])
    return found["seconds"], found["peak_mb"]


def compare_one(name, arguments, columns):
    rounds = {column: [] for column in columns}
    for _ in range(arguments.rounds):
        for column in columns:
            if column == "cpp":
                rounds[column].append(cpp(arguments.binary, name, arguments.seconds))
            else:
                rounds[column].append(twin(name, arguments.seconds, column == "compiled"))
    result = dict(name=name)
    for column, found in rounds.items():
        result[column] = dict(seconds=statistics.median(s for s, _ in found),
                              peak_mb=max(p for _, p in found))
    for column in columns[1:]:
        ratios = [a / b for (a, _), (b, _) in zip(rounds["cpp"], rounds[column])]
        memory = result["cpp"]["peak_mb"] / result[column]["peak_mb"]
        result["to_" + column] = dict(time=statistics.median(ratios), memory=memory,
                                      time_range=[min(ratios), max(ratios)])
    return result


def machine():
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def print_table(results, columns):
    print("| step | " + " | ".join(f"{column}, s" for column in columns) + " | "
          + " | ".join(f"C++ / {column}, time (rounds)" for column in columns[1:]) + " | "
          + " | ".join(f"{column}, MB" for column in columns) + " |")
    print("|---" * (3 * len(columns)) + "|")
    for r in results:
        cells = [r["name"], *(f"{r[column]['seconds']:.4f}" for column in columns)]
        for column in columns[1:]:
            ratio = r["to_" + column]
            low, high = ratio["time_range"]
            cells.append(f"{ratio['time']:.2f} ({low:.2f} to {high:.2f})")
        cells += [f"{r[column]['peak_mb']:.0f}" for column in columns]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the benchmarks program")
    parser.add_argument("--only", help="run one task of the twin here")
    parser.add_argument("--compiled", action="store_true", help="with --only: under torch.compile")
    parser.add_argument("--shape", action="append", help="compare only these benchmarks")
    parser.add_argument("--eager-only", action="store_true", help="leave torch.compile out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of steps, each time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.only:
        return run_twin(arguments.only, arguments.seconds, arguments.compiled)
    if not arguments.binary:
        parser.error("name the benchmarks program with --binary, or a task with --only")
    import twin_models
    names = arguments.shape or list(twin_models.TASKS)
    for name in names:
        if name not in twin_models.TASKS:
            parser.error(f"{name} is not one of {', '.join(twin_models.TASKS)}")
    columns = COLUMNS[:2] if arguments.eager_only else COLUMNS
    before = machine()
    results = [compare_one(name, arguments, columns) for name in names]
    if arguments.json:
        print(json.dumps(dict(machine=before, results=results), indent=2))
    else:
        print(before + f"; afterwards load {os.getloadavg()[0]:.1f}\n")
        print_table(results, columns)


if __name__ == "__main__":
    main()
