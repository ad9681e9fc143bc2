#!/usr/bin/env python3
"""What many processes cost: measured here on one and two, predicted for many GPUs.

    docs/many_efficiency.py                                      the prediction; needs nothing
    docs/many_efficiency.py --measure build/release/examples     first one process against two here

The prediction, for n GPUs in machines of eight, one step of a batch of B clips, P weights trained:

    compute    C = B f / (n u R)           f FLOP a clip, R the card's rate, u the share of it reached
    reduce     G = 4 P bytes of gradients; by rings within a machine (g = min(n, 8) GPUs, b_in) and,
               each card with its part of G, between the m = n / 8 machines (b_out):
               A = 2 (g - 1) / g G / b_in + 2 (m - 1) / m (G / g) / b_out
                   + 2 (g - 1) l_in + 2 (m - 1) l_out
    shards     the weights come back by an all-gather: A / 2 more
    step       T = C + max(0, A - h C)     h: share of C that a collective hides behind; 0 where it
                                           waits for the whole backward pass; the last column has
                                           h = 0.5, as buckets leave early
    efficiency C / T

It leaves out: loading, stragglers, what compares clips (a gather of a few MB), and that a card with few
clips reaches a smaller share u.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

# What is assumed of the machines.
RATE = 989e12         # FLOP/s of an H100 SXM in bfloat16, dense, by its data sheet
SHARE = 0.40          # of it that a step reaches: assumed, not measured
INSIDE = 450e9        # bytes/s each way between the GPUs of a machine (NVLink 4, data sheet)
LATENCY_INSIDE = 5e-6
LATENCY_OUTSIDE = 10e-6
OUTSIDE = {"50 GB/s": 50e9, "12.5 GB/s": 12.5e9}  # a GPU between machines: 400 and 100 Gbit/s
HIDDEN = 0.5          # share of a step's compute behind which a reduction could hide (backward)
BATCH = 3072          # clips a step, as V-JEPA 2 was trained
GPUS = [8, 64, 1000]

GRID = (8, 16, 16)    # 16 frames of 256 x 256, tubelets of 2, patches of 16
MASKS = [(8, 0.15), (2, 0.7)]
PREDICTOR = dict(dim=384, depth=12, hidden=4 * 384)
MODELS = {
    "ViT-L": dict(dim=1024, depth=24, hidden=4 * 1024),
    "ViT-g": dict(dim=1408, depth=40, hidden=6144),
}


def mask_tokens(blocks, scale, clips=24, draws=100):
    """Mean tokens of context and target: `blocks` boxes a clip, cut to the batch's shortest."""
    draw = random.Random(0)
    frames, height, width = GRID
    contexts, targets = [], []
    for _ in range(draws):
        ratio = draw.uniform(0.75, 1.5)
        area = int(height * width * scale)
        h = min(round((area * ratio) ** 0.5), height)
        w = min(round((area / ratio) ** 0.5), width)
        kept = []
        for _ in range(clips):
            hidden = set()
            for _ in range(blocks):
                top, left = draw.randint(0, height - h), draw.randint(0, width - w)
                hidden |= {(y, x) for y in range(top, top + h) for x in range(left, left + w)}
            kept.append(height * width - len(hidden))
        contexts.append(frames * min(kept))
        targets.append(frames * (height * width - max(kept)))
    return statistics.mean(contexts), statistics.mean(targets)


def forward(tokens, dim, depth, hidden):
    """FLOP of a transformer's forward pass: projections, attention's two products, MLP."""
    return depth * tokens * (8 * dim * dim + 4 * tokens * dim + 4 * dim * hidden)


def weights(dim, depth, hidden):
    return depth * (4 * dim * dim + 2 * dim * hidden)


def clip_flops(model):
    tokens = GRID[0] * GRID[1] * GRID[2]
    total = forward(tokens, **model)  # target encoder
    for blocks, scale in MASKS:
        context, target = mask_tokens(blocks, scale)
        total += 3 * (forward(context, **model) + forward(context + target, **PREDICTOR))
    return total


def reduce_seconds(size, n, outside):
    g, m = min(n, 8), max(1, n / 8)
    return (2 * (g - 1) / g * size / INSIDE + 2 * (m - 1) / m * (size / g) / outside
            + 2 * (g - 1) * LATENCY_INSIDE + 2 * (m - 1) * LATENCY_OUTSIDE)


def predict():
    print(f"batch {BATCH}; {RATE / 1e12:.0f} TFLOP/s, of which {SHARE:.0%} are reached; {INSIDE / 1e9:.0f}"
          f" GB/s within a machine of eight\n")
    print("| model | GPUs | between machines | clips a GPU | compute, s | reduce, s | efficiency |"
          " moments sharded | half of the compute hides it |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model in MODELS.items():
        flops = clip_flops(model)
        size = 4 * (weights(**model) + weights(**PREDICTOR))
        for n in GPUS:
            for label, outside in OUTSIDE.items():
                if n <= 8 and label != next(iter(OUTSIDE)):
                    continue
                compute = BATCH * flops / (n * SHARE * RATE)
                reduce = reduce_seconds(size, n, outside)
                hidden = max(0.0, reduce - HIDDEN * compute)
                print(f"| {name} | {n:,} | {label if n > 8 else '-'} | {BATCH / n:.3g} | {compute:.3g} |"
                      f" {reduce:.3g} | {compute / (compute + reduce):.3f} |"
                      f" {compute / (compute + 1.5 * reduce):.3f} | {compute / (compute + hidden):.3f} |")
    print()
    for name, model in MODELS.items():
        count = weights(**model) + weights(**PREDICTOR)
        print(f"{name}: {clip_flops(model) / 1e12:.2f} TFLOP a clip and step, {count / 1e6:.0f} million"
              f" weights trained, {4 * count / 1e9:.2f} GB of gradients, {8 * count / 1e9:.2f} GB of"
              " moments")


def train(programs, data, folder, processes, batch, steps, config, extra):
    command = [str(programs / "pretrain"), "--config", config, "--data", str(data), "--run", str(folder),
               "--processes", str(processes), "--loader.batch", str(batch // processes),
               "--training.steps", str(steps), "--training.checkpoint_every", "1000000", "--precision",
               "float32", "--training.diagnose_every", "1000000", *extra]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    said = process.communicate()[1]
    if process.returncode != 0:
        sys.exit(said)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if line["type"] == "step"][2:]
    return statistics.median(seconds), lines[-1]["peak_rss_mb"]


def read_weights(folder, steps):
    """Float32 tensors of a checkpoint: name -> numbers."""
    import struct
    import array
    found = {}
    for file in sorted((folder / "checkpoints" / f"step-{steps:08d}").glob("*.safetensors")):
        if file.stem == "optimizer":
            continue
        raw = file.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8:8 + length]).items():
            if name != "__metadata__" and entry["dtype"] == "F32":
                begin, end = entry["data_offsets"]
                found[file.stem + "." + name] = array.array("f", raw[8 + length + begin:8 + length + end])
    return found


def measure(programs, source, batch, steps):
    """The table of one process against two here, and a bare all-reduce of as many bytes."""
    print(f"measured here, one thread a process; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| processes | moments | s a step | peak memory of rank 0, MB |"
          " weights apart, of the largest |\n|---|---|---|---|---|")
    config = str(source / "examples/configs/moving_digits.ini")
    with tempfile.TemporaryDirectory(prefix="jepa_many_") as work:
        work = pathlib.Path(work)
        subprocess.run([programs / "make_data", "--clips", "512", "--out", work / "digits.h5"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        first = None
        times = {}
        for processes, sharded in ((1, False), (2, False), (2, True)):
            folder = work / f"run{processes}{sharded}"
            extra = ["--optimisation.shard_moments", "true"] if sharded else []
            seconds, peak = train(programs, work / "digits.h5", folder, processes, batch, steps, config,
                                  extra)
            found = read_weights(folder, steps)
            first = first or found
            largest = max(max(map(abs, numbers), default=0) for numbers in first.values())
            # A projector's shift before batch norm has no true gradient: Adam moves it by rounding.
            apart = max(max(abs(a - b) for a, b in zip(first[name], found[name]))
                        for name in first if not (name.startswith("projector") and "bias" in name))
            times[processes, sharded] = seconds
            print(f"| {processes} | {'sharded' if sharded else 'whole'} | {seconds:.3f} | {peak:.0f} |"
                  f" {apart / largest:.1e} |", flush=True)
        count = sum(map(len, first.values()))
    one, two = times[1, False], times[2, False]
    print(f"\nefficiency of two: {one / (2 * two):.2f} (step of one over twice that of two)")
    print(f"bare all-reduce of {count * 4 / 1e6:.1f} MB by gloo: {all_reduce(count)}")


def all_reduce(count):
    """Median seconds of an all-reduce of `count` floats over two processes; needs torch."""
    code = """
import os, sys, time, statistics, torch, torch.distributed as d
torch.set_num_threads(1)
d.init_process_group("gloo")
x = torch.ones(int(sys.argv[1]))
t = []
for _ in range(20):
    d.barrier()
    s = time.perf_counter()
    d.all_reduce(x)
    t.append(time.perf_counter() - s)
    x.fill_(1)
if d.get_rank() == 0:
    print(statistics.median(t))
"""
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    running = [subprocess.Popen([sys.executable, "-c", code, str(count)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                env=dict(os.environ, RANK=str(rank), WORLD_SIZE="2",
                                         MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)))
               for rank in range(2)]
    output = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        return "not measured (this Python has no torch)"
    seconds = float(output[0])
    return f"{seconds:.4f} s, {count * 4 / seconds / 1e9:.2f} GB/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", metavar="PROGRAMS", help="folder of the built programs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if options.measure:
        measure(pathlib.Path(options.measure), pathlib.Path(__file__).resolve().parents[1],
                options.batch, options.steps)
        print()
    predict()


if __name__ == "__main__":
    main()
