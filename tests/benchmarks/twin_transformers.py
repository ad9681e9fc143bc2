"""`embed` beside the transformers package in eager mode, on the same weights and clips: one clip
(latency) and several (throughput). Prints one JSON line a row; twin.py runs it with a Python that has
the package.

    twin_transformers.py --programs build/release/examples [--quick]
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import save_file
from transformers import VJEPA2Config, VJEPA2Model
from transformers.utils import logging

SHAPES = {
    "vit_large_16x256": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                             crop_size=256, frames_per_clip=16),
    "small_8x64": dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, crop_size=64,
                       frames_per_clip=8),
}


def embed(programs, weights, clips, work):
    """Seconds of encoding and peak memory, as the program tells them; the tokens."""
    out = work / "embed.json"
    subprocess.run([programs / "embed", "--weights", weights, "--clip", f"{clips}:clips",
                    "--clip-layout", "btchw", "--batch", "1", "--precision", "float32", "--json", out],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = json.loads(out.read_text())
    return found["encode_seconds"], found["peak_rss_mb"]


def theirs(weights, clips):
    """The same in a Python of its own, for its peak memory."""
    found = subprocess.run([sys.executable, __file__, "--folder", weights, "--clips", clips], check=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def encode(folder, clips):
    from safetensors.torch import load_file
    model = VJEPA2Model.from_pretrained(folder).eval()
    videos = load_file(clips)["clips"]
    start = time.perf_counter()
    with torch.inference_mode():
        for video in videos:
            model(pixel_values_videos=video[None], skip_predictor=True).last_hidden_state
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", help="encode here, with these weights ...")
    parser.add_argument("--clips", help="... these clips")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if arguments.folder:
        return encode(arguments.folder, arguments.clips)
    name = "small_8x64" if arguments.quick else "vit_large_16x256"
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory(prefix="jepa_twin_") as work:
        work = pathlib.Path(work)
        torch.manual_seed(0)
        VJEPA2Model(VJEPA2Config(**shape)).save_pretrained(work / "weights")
        side, frames = shape["crop_size"], shape["frames_per_clip"]
        for count in (1, 4):
            clips = work / f"clips{count}.safetensors"
            save_file({"clips": torch.rand(count, frames, 3, side, side)}, clips)
            rounds = [(embed(arguments.programs, work / "weights", clips, work),
                       theirs(work / "weights", clips)) for _ in range(arguments.rounds)]
            row = f"embed/{name}_{count}_clip{'s' if count > 1 else ''}"
            print(json.dumps(dict(name=row, cpp=[ours for ours, _ in rounds],
                                  transformers=[other for _, other in rounds])), flush=True)


if __name__ == "__main__":
    main()
