"""Loads folders that `convert` wrote with the transformers package and compares what it computes with
what this library's fixtures and `embed` say. Run by `./dev test-python`.

usage: check_transformers.py --programs build/release/examples [--fixtures tests/fixtures]
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import VJEPA2ForVideoClassification, VJEPA2Model
from transformers.utils import logging

TOLERANCE = 2e-5


def largest(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    return (a - b).abs().max().item()


class Checks:
    """Prints one line a comparison and remembers whether all passed."""

    def __init__(self):
        self.failed = 0

    def compare(self, name, ours, theirs):
        error = largest(ours, theirs)
        good = error <= TOLERANCE
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}: largest error {error:.2e}")

    def require(self, name, good):
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}")


def load(model_class, folder, checks):
    """A model from a folder; every weight must come from the file, and every one be used."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        checks.require(f"{model_class.__name__}, no {kind.replace('_', ' ')}", not info[kind])
    return model.eval()


def embed(programs, weights, clip_file, layout, out, *more):
    subprocess.run(
        [programs / "embed", "--weights", weights, "--clip", f"{clip_file}:in/clip",
         "--clip-layout", layout, "--out", out, *more],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return load_file(out)["tokens"]


def convert(programs, weights, to, out, *more):
    subprocess.run([programs / "convert", "--weights", weights, "--to", to, "--out", out, *more],
                   check=True, stdout=subprocess.DEVNULL)
    return out


def check_round_trip(programs, fixtures, work, checks):
    """Hugging Face -> the V-JEPA code's keys -> ours -> Hugging Face, with predictor and probe."""
    expected = load_file(fixtures / "hf_vjepa2_expected.safetensors")
    keys = convert(programs, fixtures / "hf_vjepa2", "vjepa", work / "keys.safetensors")
    ours = convert(programs, keys, "safetensors", work / "ours")
    folder = convert(programs, ours, "huggingface", work / "hf")
    model = load(VJEPA2ForVideoClassification, folder, checks)
    clip = expected["in/clip"]
    with torch.no_grad():
        output = model.vjepa2(pixel_values_videos=clip)
        logits = model(pixel_values_videos=clip).logits
    checks.compare("round trip, tokens", output.last_hidden_state, expected["out/tokens"])
    checks.compare("round trip, predictions", output.predictor_output.last_hidden_state,
                   expected["out/predicted"])
    checks.compare("round trip, logits", logits, expected["out/logits"])
    checks.compare("round trip, embed",
                   embed(programs, folder, fixtures / "hf_vjepa2_expected.safetensors", "btchw",
                         work / "tokens.safetensors"), expected["out/tokens"])


def check_checkpoint(programs, fixtures, work, checks):
    """A V-JEPA 2 checkpoint of the published code, as a Hugging Face folder."""
    expected_file = fixtures / "vjepa2_checkpoint_expected.safetensors"
    expected = load_file(expected_file)
    folder = convert(programs, fixtures / "vjepa2_checkpoint.pt", "huggingface", work / "checkpoint",
                     "--encoder.heads", "3", "--predictor.heads", "3",
                     "--size", "32", "--frames", "8")
    model = load(VJEPA2Model, folder, checks)
    with torch.no_grad():
        tokens = model(pixel_values_videos=expected["in/clip"].transpose(1, 2),
                       skip_predictor=True).last_hidden_state
    checks.compare("published checkpoint, tokens", tokens, expected["out/tokens"])


def check_run(programs, work, checks):
    """A model trained here for two steps."""
    run = work / "run"
    subprocess.run(
        [programs / "make_data", "--kind", "shapes", "--out", work / "clips.h5", "--clips", "16",
         "--generated.channels", "3"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sizes = ["--encoder.preset", "custom", "--encoder.dim", "48", "--encoder.depth", "2",
             "--encoder.heads", "3", "--predictor.dim", "36", "--predictor.depth", "2",
             "--predictor.heads", "3"]
    subprocess.run(
        [programs / "pretrain", "--run", run, "--data", work / "clips.h5", "--training.steps", "2",
         "--loader.batch", "4", "--loader.threads", "1", "--encoder.height", "32",
         "--encoder.width", "32", "--encoder.patch", "8", "--encoder.frames", "8", *sizes],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clip_file = work / "clip.safetensors"
    clip = torch.rand(2, 8, 3, 32, 32)
    save_file({"in/clip": clip}, clip_file)
    tokens = embed(programs, run, clip_file, "btchw", work / "tokens.safetensors")
    model = load(VJEPA2Model, convert(programs, run, "huggingface", work / "run_hf"), checks)
    with torch.no_grad():
        theirs = model(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
    checks.compare("a run of this library, tokens", theirs, tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--fixtures", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent / "fixtures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        check_round_trip(arguments.programs, arguments.fixtures, work, checks)
        check_checkpoint(arguments.programs, arguments.fixtures, work, checks)
        check_run(arguments.programs, work, checks)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
