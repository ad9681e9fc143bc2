"""The training step of tests/benchmarks/train_step_benchmark.cpp in eager PyTorch, and the ratio.

Written as the published Python training code goes about it: the backbone is called once for each
mask (embedding the whole clip each time), positions and attention go through the stock layers, the
optimiser is torch.optim.AdamW, the moving average a loop over parameters.

    twin.py --binary BENCHMARKS     both in turn, prints the ratio C++ / Python of time and memory
    twin.py --only SHAPE            one shape here, prints seconds a step
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = {
    "vit_tiny_16x112_b8": dict(dim=192, depth=12, heads=3, channels=3, frames=16, size=112, patch=16,
                               batch=8, pdim=96, pdepth=6, pheads=3, rope=True),
    "demo": dict(dim=96, depth=4, heads=3, channels=1, frames=8, size=32, patch=8, batch=64, pdim=64,
                 pdepth=4, pheads=2, rope=False),
}


def run_twin(name, rounds):
    import resource

    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(os.environ.get("JEPA_THREADS", "2")))
    torch.manual_seed(0)
    c = SHAPES[name]
    grid = (c["frames"] // 2, c["size"] // c["patch"], c["size"] // c["patch"])

    def rotate(x, angle):  # x [B, h, N, d], angle [B, 1, N, d / 2]; pairs are neighbours
        cos, sin = angle.cos().repeat(1, 1, 1, 2), angle.sin().repeat(1, 1, 1, 2)
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return x * cos + torch.stack((-b, a), -1).flatten(-2) * sin

    def rope(x, ids):
        d = x.shape[-1]
        axis = 2 * (d // 3 // 2)
        frame = grid[1] * grid[2]
        places = (ids // frame, ids % frame // grid[2], ids % grid[2])
        parts = []
        for i, place in enumerate(places):
            omega = 10000 ** (-torch.arange(axis // 2, dtype=x.dtype) / (axis / 2))
            angle = place[:, None, :, None] * omega
            parts.append(rotate(x[..., i * axis:(i + 1) * axis], angle))
        return torch.cat((*parts, x[..., 3 * axis:]), -1)

    class Block(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.fc1, self.fc2, self.act = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim), nn.GELU()

        def forward(self, x, ids):
            B, N, D = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if c["rope"]:
                q, k = rope(q, ids), rope(k, ids)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D)
            x = x + self.proj(y)
            return x + self.fc2(self.act(self.fc1(self.norm2(x))))

    def gather(x, ids):
        return torch.gather(x, 1, ids.unsqueeze(-1).repeat(1, 1, x.shape[-1]))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            p = c["patch"]
            self.embed = nn.Conv3d(c["channels"], c["dim"], (2, p, p), (2, p, p))
            self.pos = nn.Parameter(torch.randn(1, grid[0] * grid[1] * grid[2], c["dim"]),
                                    requires_grad=False)
            self.blocks = nn.ModuleList(Block(c["dim"], c["heads"]) for _ in range(c["depth"]))
            self.norm = nn.LayerNorm(c["dim"], eps=1e-6)

        def forward(self, clip, ids=None):
            x = self.embed(clip).flatten(2).transpose(1, 2)
            if not c["rope"]:
                x = x + self.pos
            if ids is None:
                ids = torch.arange(x.shape[1]).repeat(x.shape[0], 1)
            else:
                x = gather(x, ids)
            for block in self.blocks:
                x = block(x, ids)
            return self.norm(x)

    class Predictor(nn.Module):
        def __init__(self):
            super().__init__()
            d = c["pdim"]
            self.embed, self.proj = nn.Linear(c["dim"], d), nn.Linear(d, c["dim"])
            self.tokens = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, d)) for _ in range(2))
            self.pos = nn.Parameter(torch.randn(1, grid[0] * grid[1] * grid[2], d),
                                    requires_grad=False)
            self.blocks = nn.ModuleList(Block(d, c["pheads"]) for _ in range(c["pdepth"]))
            self.norm = nn.LayerNorm(d, eps=1e-6)

        def forward(self, x, context, target, index):
            B, K = context.shape
            x = self.embed(x)
            asked = self.tokens[index].repeat(B, target.shape[1], 1)
            if not c["rope"]:
                pos = self.pos.repeat(B, 1, 1)
                x, asked = x + gather(pos, context), asked + gather(pos, target)
            ids = torch.cat((context, target), 1)
            x = torch.cat((x, asked), 1)
            order = ids.argsort(1)
            x, ids = gather(x, order), ids.gather(1, order)
            for block in self.blocks:
                x = block(x, ids)
            x = gather(self.norm(x), order.argsort(1))
            return self.proj(x[:, K:])

    def masks(blocks, scale, step):
        """One mask a clip: the union of `blocks` boxes over all time, cut to the batch's shortest."""
        g = torch.Generator().manual_seed(step)
        torch.rand(1, generator=g)
        s, u = torch.rand(1, generator=g).item(), torch.rand(1, generator=g).item()
        del s  # the scale's range is a point
        ratio = 0.75 + u * 0.75
        count = int(grid[1] * grid[2] * scale)
        h = min(int(round((count * ratio) ** 0.5)), grid[1])
        w = min(int(round((count / ratio) ** 0.5)), grid[2])
        contexts, targets = [], []
        for _ in range(c["batch"]):
            keep = torch.ones(grid, dtype=torch.int32)
            while True:
                for _ in range(blocks):
                    top = torch.randint(0, grid[1] - h + 1, (1,)).item()
                    left = torch.randint(0, grid[2] - w + 1, (1,)).item()
                    keep[:, top:top + h, left:left + w] = 0
                if keep.any():
                    break
                keep.fill_(1)
            contexts.append(keep.flatten().nonzero().squeeze(1))
            targets.append((keep.flatten() == 0).nonzero().squeeze(1))
        kc, kt = min(map(len, contexts)), min(map(len, targets))
        return torch.stack([x[:kc] for x in contexts]), torch.stack([x[:kt] for x in targets])

    encoder, predictor, target = Encoder(), Predictor(), Encoder()
    target.load_state_dict(encoder.state_dict())
    for p in target.parameters():
        p.requires_grad = False
    decayed, plain = [], []
    for module in (encoder, predictor):
        for key, p in module.named_parameters():
            if p.requires_grad:
                (plain if p.ndim == 1 or key.endswith("bias") else decayed).append(p)
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.04),
                                   dict(params=plain, weight_decay=0.0)], lr=1e-4)
    clips = torch.randint(0, 256, (c["batch"], c["channels"], c["frames"], c["size"], c["size"]),
                          dtype=torch.uint8)

    def step(drawn):
        clip = (clips.float() - 127.5) / 127.5
        with torch.no_grad():
            h = F.layer_norm(target(clip), (c["dim"],))
            hs = [gather(h, t) for _, t in drawn]
        zs = [encoder(clip, context) for context, _ in drawn]
        zs = [predictor(z, context, t, i) for i, (z, (context, t)) in enumerate(zip(zs, drawn))]
        loss = sum((z - h).abs().mean() for z, h in zip(zs, hs)) / len(zs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for q, k in zip(encoder.parameters(), target.parameters()):
                k.data.mul_(0.998).add_(0.002 * q.detach().data)
        return loss.item()

    seconds = []
    for i in range(rounds + 1):
        drawn = [masks(8, 0.15, i), masks(2, 0.7, i)]
        start = time.perf_counter()
        step(drawn)
        if i > 0:
            seconds.append(time.perf_counter() - start)
    print(json.dumps(dict(shape=name, seconds=statistics.median(seconds),
                          peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))


def child(command):
    """Runs a command; returns its output and peak resident memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"error: {command[0]} failed with status {status}")
    return output, usage.ru_maxrss / 1024


def compare(binary, rounds, steps, shapes, as_json):
    results = []
    for name in shapes:
        ours, theirs, memory = [], [], []
        for _ in range(rounds):  # in turn, so that a drift of the machine's speed hits both
            output, peak = child([binary, f"--benchmark_filter=^train_step/{name}/",
                                  f"--benchmark_min_time={steps * (0.8 if 'tiny' in name else 0.2)}",
                                  "--benchmark_format=json"])
            ours.append(json.loads(output)["benchmarks"][0]["median_s"])
            output, twin_peak = child([sys.executable, __file__, "--only", name, "--steps",
                                       str(steps if "tiny" in name else 3 * steps)])
            theirs.append(json.loads(output)["seconds"])
            memory.append((peak, twin_peak))
        ratios = [a / b for a, b in zip(ours, theirs)]
        results.append(dict(shape=name, cpp_seconds=statistics.median(ours),
                            python_seconds=statistics.median(theirs),
                            time_ratio=statistics.median(ratios),
                            time_ratio_range=[min(ratios), max(ratios)],
                            cpp_peak_mb=max(a for a, _ in memory),
                            python_peak_mb=min(b for _, b in memory),
                            memory_ratio=max(a for a, _ in memory) / min(b for _, b in memory)))
    if as_json:
        print(json.dumps(results, indent=2))
        return
    for r in results:
        print(f"train_step/{r['shape']}: {r['cpp_seconds']:.3f} s against {r['python_seconds']:.3f} s"
              f" a step, ratio {r['time_ratio']:.3f}"
              f" ({r['time_ratio_range'][0]:.3f} to {r['time_ratio_range'][1]:.3f});"
              f" peak memory {r['cpp_peak_mb']:.0f} against {r['python_peak_mb']:.0f} MB,"
              f" ratio {r['memory_ratio']:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the benchmarks program")
    parser.add_argument("--only", choices=SHAPES, help="run one shape of the twin here")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="compare only these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.only:
        run_twin(arguments.only, arguments.steps)
    elif arguments.binary:
        compare(arguments.binary, arguments.rounds, arguments.steps,
                arguments.shape or list(SHAPES), arguments.json)
    else:
        parser.error("name the benchmarks program with --binary, or a shape with --only")


if __name__ == "__main__":
    main()
