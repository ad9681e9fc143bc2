#!/usr/bin/env python3
"""What each part of the recipe does: pretrains every row with several seeds and prints one table.

    make_data --kind digits --split train --clips 20000 --seed 1 --out data/digits.h5
    make_data --kind digits --split train --clips 3000 --seed 2 --out data/probe_train.h5
    make_data --kind digits --split validation --clips 1000 --seed 3 --out data/probe_validation.h5
    examples/ablation.py --programs build/release/examples --data data --runs runs/ablation

All rows see as many clips, whatever their batch. A run that is finished is read, one that was
interrupted goes on. Scores are the online probe's
(ridge on mean- and max-pooled tokens of the trained encoder) after the last step, on validation
digits: this table chooses, and test digits are for what was chosen.
"""
import argparse
import concurrent.futures
import configparser
import json
import os
import pathlib
import re
import statistics
import subprocess

CONFIGS = pathlib.Path(__file__).parent / "configs"
REST = "regulariser.kind=vicreg regulariser.on=token_residual"
ROWS = [  # name, ini file, options beside it
    ("plain V-JEPA", "plain_digits.ini", ""),
    ("pooled VICReg (10, 0.4)", "plain_digits.ini",
     "regulariser.kind=vicreg regulariser.on=pooled regulariser.variance_weight=10"
     " regulariser.covariance_weight=0.4"),
    ("token-residual VICReg (2, 0.08)", "plain_digits.ini", REST),
    ("SIGReg on residual tokens", "plain_digits.ini",
     "regulariser.kind=sigreg regulariser.on=token_residual"),
    ("token-residual VICReg, momentum 0.9995", "plain_digits.ini",
     REST + " optimisation.momentum=0.9995"),
    ("token-residual VICReg, past to future", "plain_digits.ini",
     REST + " mask.1.kind=causal mask.2.kind=causal"),
    ("shipped recipe", "moving_digits.ini", ""),
    ("shipped recipe, no prediction", "moving_digits.ini", "objective.prediction_weight=0"),
    ("shipped recipe, no agreement", "moving_digits.ini", "agreement.weight=0"),
]
SCORES = [("digit", "probe_digit"), ("direction", "probe_direction"),
          ("position R²", "probe_position"), ("position", "position_share"),
          ("clip", "clip_share"), ("rest", "rest_share")]


def train(arguments, row, seed):
    """Trains one cell, or goes on with it; the values of its last probed step."""
    name, config, options = row
    recipe = configparser.ConfigParser()
    recipe.read_string("[program]\n" + (CONFIGS / config).read_text())
    steps = arguments.clips // recipe.getint("loader", "batch")
    warmup = steps * recipe.getint("optimisation", "warmup_steps") // recipe.getint(
        "optimisation", "total_steps")
    run = arguments.runs / f"{''.join(c if c.isalnum() else '_' for c in name)}_{seed}"
    run.mkdir(parents=True, exist_ok=True)
    command = [
        arguments.programs / "pretrain", "--config", CONFIGS / config, "--run", run,
        "--data", arguments.data / "digits.h5", "--in_memory=20000", "--threads=1",
        "--probe.train", arguments.data / "probe_train.h5",
        "--probe.test", arguments.data / "probe_validation.h5",
        "--probe.train_clips=3000", "--probe.test_clips=1000", f"--seed={seed}",
        f"--training.steps={steps}", f"--optimisation.total_steps={steps}",
        f"--optimisation.warmup_steps={warmup}",
        *(f"--{pair}" for pair in options.split())]
    with open(run / "log.txt", "a") as log:  # what is finished is not trained again
        subprocess.run(command, check=True, stdout=log, stderr=log,
                       env={**os.environ, "OMP_NUM_THREADS": "1"})
    with open(run / "metrics.jsonl") as lines:
        steps = [json.loads(line) for line in lines]
    return next(step for step in reversed(steps) if "probe_digit" in step)


def cell(values):
    """Mean and half the width of a 95 % interval (Student's t) over seeds."""
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 2.0)
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {t * statistics.stdev(values) / len(values) ** 0.5:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=pathlib.Path, default="build/release/examples")
    parser.add_argument("--data", type=pathlib.Path, default="data")
    parser.add_argument("--runs", type=pathlib.Path, default="runs/ablation")
    parser.add_argument("--clips", type=int, default=19200, help="that each run is trained on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    parser.add_argument("--only", default="", help="rows whose name matches this pattern")
    arguments = parser.parse_args()

    rows = [row for row in ROWS if re.search(arguments.only, row[0])]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        cells = {(row[0], seed): pool.submit(train, arguments, row, seed)
                 for seed in range(arguments.seeds) for row in rows}
        results = {key: future.result() for key, future in cells.items()}
    print("| recipe | " + " | ".join(name for name, _ in SCORES) + " |")
    print("|---" * (len(SCORES) + 1) + "|")
    for row in rows:
        values = [[results[row[0], seed][key] for seed in range(arguments.seeds)]
                  for _, key in SCORES]
        print(f"| {row[0]} | " + " | ".join(cell(v) for v in values) + " |")


if __name__ == "__main__":
    main()
