"""Kills one of two processes that train together, as often as asked, and compares with a run that
was left alone.

    processes_restarts.py --programs build/release/examples --launcher torchrun --kills 5
    processes_restarts.py --programs build/release/examples --launcher mpirun --kills 1
    processes_restarts.py --programs build/release/examples --program train_dynamics

Each kill (SIGKILL) comes after a random step and hits the ranks in turn. torchrun starts both anew
(--max-restarts); under mpirun and --processes, which do not, the same command is given again. Every
file of weights of the last checkpoint must have the same bytes in both runs. Then SIGTERM to both
ranks: a checkpoint, and exit 0.

Exit: 0 all as told; 1 not; 77 the launcher is not there.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LIMIT = 300  # seconds that anything may take


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Launcher:
    def __init__(self, kind, file, kills):
        self.kind, self.file, self.kills = kind, file, kills
        self.restarts = kind == "torchrun"

    def start(self, program, arguments, log):
        environment = dict(os.environ, OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1",
                           MASTER_PORT=str(free_port()))
        command = [program, *arguments]
        if self.kind == "torchrun":
            command = [self.file, "--no-python", "--nproc-per-node", "2", "--monitor-interval",
                       "0.2", "--max-restarts", str(self.kills), "--master-port",
                       environment["MASTER_PORT"], "--", *command]
        elif self.kind == "mpirun":
            command = [self.file, "-n", "2", "--oversubscribe", "--allow-run-as-root", "-x",
                       "MASTER_ADDR", "-x", "MASTER_PORT", "-x", "OMP_NUM_THREADS", *command]
        else:
            command += ["--processes", "2"]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def children_of(parent, program):
    """Process ids of all ranks of `program` below `parent`, in the order of their starts."""
    text = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True,
                          text=True).stdout
    below = {parent}
    found = []
    rows = [line.split(None, 2) for line in text.splitlines()]
    for _ in range(3):
        for pid, above, name in rows:
            if int(above) in below and int(pid) not in below:
                below.add(int(pid))
                if os.path.basename(name.split()[0]) == program:
                    found.append(int(pid))
    return found


def last_step(log):
    """Of metrics.jsonl, whole lines only; 0 where there is none."""
    try:
        lines = log.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    steps = [json.loads(line).get("step", 0) for line in lines[-3:]]
    return max(steps, default=0)


def wait_for(what, process, ready):
    end = time.monotonic() + LIMIT
    while not ready():
        if process.poll() is not None:
            sys.exit(f"error: the launcher ended with {process.returncode} before {what}")
        if time.monotonic() > end:
            sys.exit(f"error: {LIMIT} s without {what}")
        time.sleep(0.002)


def weights(run):
    folder = run / "checkpoints"
    folder = folder / (folder / "latest").read_text().strip()
    files = {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}
    return files, folder.name


def kill_one(process, program, log, at, chosen):
    """Kills rank `chosen` once step `at` of the log was taken; the step that was reached."""
    wait_for(f"step {at}", process, lambda: last_step(log) >= at)
    ranks = children_of(process.pid, program)
    if process.poll() is not None or len(ranks) < 2:
        sys.exit(f"error: {len(ranks)} ranks at step {at}")
    os.kill(ranks[chosen], signal.SIGKILL)
    return last_step(log)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--source", default=str(pathlib.Path(__file__).parents[2]))
    parser.add_argument("--launcher", choices=["torchrun", "mpirun", "own"], default="torchrun")
    parser.add_argument("--file", help="the launcher; else the one in PATH")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", choices=["pretrain", "train_dynamics"], default="pretrain")
    parser.add_argument("--extra", default="", help="further options of it")
    parser.add_argument("--no-terminate", action="store_true", help="leave out the SIGTERM")
    options = parser.parse_args()
    file = options.file or shutil.which(options.launcher)
    if options.launcher != "own" and (not file or not os.path.exists(file)):
        print(f"no {options.launcher} here: left out")
        sys.exit(77)
    launcher = Launcher(options.launcher, file, options.kills)
    work = pathlib.Path(tempfile.mkdtemp(prefix="jepa_restarts_"))
    try:
        check(options, launcher, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check(options, launcher, work):
    programs = pathlib.Path(options.programs).resolve()
    program = str(programs / options.program)
    configs = options.source + "/examples/configs"
    if options.program == "pretrain":
        data = str(work / "digits.h5")
        subprocess.run([programs / "make_data", "--clips", "64", "--out", data], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        its_own = ["--config", configs + "/plain_digits.ini", "--data", data, "--encoder.depth", "1",
                   "--predictor.depth", "1", "--optimisation.total_steps", str(options.steps)]
    else:  # the second half of the steps is the second phase
        half = options.steps // 2
        its_own = ["--config", configs + "/two_rooms_quick.ini", "--second.from_step", str(half),
                   "--optimisation.total_steps", str(half), "--second_optimisation.total_steps",
                   str(2 * half)]

    def arguments(run, steps):
        return [*its_own, "--run", str(run), "--loader.batch", "8", "--training.checkpoint_every", "5",
                "--training.steps", str(steps), "--timeout", "60", *options.extra.split()]

    said = open(work / "said.txt", "w+b")

    def failed(text):
        said.flush()
        tail = (work / "said.txt").read_text(errors="replace").splitlines()[-30:]
        sys.exit("\n".join([*tail, "error: " + text]))

    start = time.monotonic()
    alone = launcher.start(program, arguments(work / "alone", options.steps), said)
    if alone.wait(LIMIT) != 0:
        failed(f"the run that was left alone ended with {alone.returncode}")
    print(f"left alone: {options.steps} steps, {time.monotonic() - start:.1f} s in all")

    choose = random.Random(options.seed)
    ends = sorted(choose.sample(range(2, options.steps - 3), options.kills))
    run = work / "killed"
    log = run / "metrics.jsonl"
    process = launcher.start(program, arguments(run, options.steps), said)
    first = choose.randrange(2)
    for number, at in enumerate(ends):
        chosen = (first + number) % 2
        reached = kill_one(process, options.program, log, at, chosen)
        killed_at = time.monotonic()
        if not launcher.restarts:
            try:
                code = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                failed("the launcher did not end")
            if code == 0:
                failed("the launcher ended with 0 though one of its processes was killed")
            print(f"  all had ended {time.monotonic() - killed_at:.1f} s later, exit {code}")
            process = launcher.start(program, arguments(run, options.steps), said)
        # The log is cut back to the checkpoint when the run goes on.
        changed = log.stat().st_ino
        wait_for("the run going on", process, lambda: log.stat().st_ino != changed)
        print(f"killed rank {chosen} (asked after step {at}, {reached} was logged); went on from"
              f" step {last_step(log)} {time.monotonic() - killed_at:.1f} s later")
    if process.wait(LIMIT) != 0:
        failed(f"the run that was killed {options.kills} times ended with {process.returncode}")
    expected, step = weights(work / "alone")
    found, same_step = weights(run)
    if step != same_step or expected.keys() != found.keys():
        failed(f"{same_step} {list(found)} against {step} {list(expected)}")
    different = [name for name in expected if expected[name] != found[name]]
    if different:
        failed(f"other bytes in {', '.join(different)} of {step}")
    print(f"{step}: {', '.join(expected)} have the same bytes")

    if options.no_terminate:
        return
    run = work / "terminated"
    process = launcher.start(program, arguments(run, 100000), said)
    wait_for("step 7", process, lambda: last_step(run / "metrics.jsonl") >= 7)
    for rank in children_of(process.pid, options.program):
        os.kill(rank, signal.SIGTERM)
    start = time.monotonic()
    if process.wait(LIMIT) != 0:
        failed(f"after SIGTERM to both ranks the launcher ended with {process.returncode}")
    _, step = weights(run)
    if int(step.removeprefix("step-")) != last_step(run / "metrics.jsonl"):
        failed(f"SIGTERM: {step} is the checkpoint, the log ends elsewhere")
    print(f"SIGTERM to both ranks: exit 0 after {time.monotonic() - start:.1f} s, {step} written")


if __name__ == "__main__":
    main()
