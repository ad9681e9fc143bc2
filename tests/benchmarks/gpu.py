"""What can be measured on one CUDA device, beside eager PyTorch's twin. Without one it says so.

    gpu.py --programs build/release/examples

Prints: the step of ViT-L/16, 16 frames of 224 x 224, batch 24, in bfloat16 by `pretrain` (with what its
log says of FLOP) and by the eager twin; clips a second of the diffusion transformer by
`train_diffusion`. Needs a build with JEPA_CUDA=1. Parity is not among it: the parity runner computes on
the CPU alone.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

VIT_L = dict(dim=1024, depth=24, heads=16, channels=3, frames=16, size=224, patch=16, batch=24,
             pdim=384, pdepth=12, pheads=12, rope=True)


def run(command):
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if process.returncode != 0:
        sys.exit(f"error: {command[0]}: {process.stderr.strip().splitlines()[-1:]}")
    return process.stdout


def step_seconds(folder):
    """Median of a run's steps, the first ones left out; FLOP a step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if line["type"] == "step"]
    flops = next((line.get("flops_per_step") for line in lines if line["type"] == "run"), None)
    return statistics.median(seconds[len(seconds) // 4:]), flops


def vit_l(programs, work, steps):
    data = work / "large.h5"
    run([programs / "make_data", "--clips", "48", "--out", data, "--generated.frames", "16",
         "--generated.size", "224"])
    options = ["--encoder.preset", "vit_large", "--encoder.patch", "16", "--encoder.pixel_mean", "127.5",
               "--encoder.pixel_std", "127.5", "--predictor.dim", "384", "--predictor.depth", "12",
               "--predictor.heads", "12", "--loader.batch", "24"]
    run([programs / "pretrain", "--data", data, "--run", work / "vit_l", "--device", "cuda",
         "--precision", "bfloat16", "--training.steps", steps, "--training.checkpoint_every", "100000",
         "--in_memory", "48", "--training.diagnose_every", "100000", *options])
    return step_seconds(work / "vit_l")


def vit_l_twin(steps):
    import torch

    import twin_models

    task = twin_models.TrainStep(VIT_L | dict(channels=1), False, "cuda", torch.bfloat16)
    taken = []
    for i in range(steps):
        drawn = task.prepare(i)
        torch.cuda.synchronize()
        start = time.perf_counter()
        task(drawn)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[steps // 4:])


def diffusion(programs, work, steps, batch=64):
    data = work / "small.h5"
    run([programs / "make_data", "--clips", "256", "--out", data])
    run([programs / "train_diffusion", "--data", data, "--run", work / "diffusion", "--device", "cuda",
         "--precision", "bfloat16", "--model.preset", "dit_b", "--loader.batch", batch,
         "--in_memory", "256", "--training.steps", steps, "--training.checkpoint_every", "100000",
         "--training.evaluate_every", "100000"])
    return batch / step_seconds(work / "diffusion")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, help="of the card's matrix products, TFLOP/s")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("error: this Python has no torch")
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    print(f"{torch.cuda.get_device_name()}, LibTorch {torch.__version__}")
    with tempfile.TemporaryDirectory(prefix="jepa_gpu_") as work:
        work = pathlib.Path(work)
        ours, flops = vit_l(arguments.programs, work, arguments.steps)
        theirs = vit_l_twin(arguments.steps)
        print(f"ViT-L/16, 16 x 224, batch 24, bfloat16: {ours:.4f} s a step, eager twin {theirs:.4f} s,"
              f" ratio {ours / theirs:.2f}")
        if flops:
            share = f", {flops / ours / 1e12 / arguments.rate:.0%} of it" if arguments.rate else ""
            print(f"  {flops / ours / 1e12:.0f} TFLOP/s{share}")
        rate = diffusion(arguments.programs, work, arguments.steps)
        print(f"diffusion transformer, B, 8 x 32: {rate:.0f} clips a second of training")


if __name__ == "__main__":
    main()
