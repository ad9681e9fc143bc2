"""The work of the C++ benchmarks in PyTorch, written as published Python code goes about it.

Masked prediction as in V-JEPA's training code: the backbone is called once for each mask (embedding the
whole clip each time), positions and attention go through the stock layers, the optimiser is
torch.optim.AdamW, the moving average a loop over parameters. Diffusion as in DiT's: each token is told
its own shift, scale and gate.

Each task is a function of the step's number; `make_task` names them.
"""

import torch
from torch import nn
from torch.nn import functional as F


def rotate(x, angle):  # x [B, h, N, d], angle [B, 1, N, d / 2]; pairs are neighbours
    cos, sin = angle.cos().repeat(1, 1, 1, 2), angle.sin().repeat(1, 1, 1, 2)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack((-b, a), -1).flatten(-2) * sin


def rope(x, ids, grid):
    d = x.shape[-1]
    axis = 2 * (d // 3 // 2)
    frame = grid[1] * grid[2]
    places = (ids // frame, ids % frame // grid[2], ids % grid[2])
    parts = []
    for i, place in enumerate(places):
        omega = 10000 ** (-torch.arange(axis // 2, dtype=x.dtype, device=x.device) / (axis / 2))
        angle = place[:, None, :, None] * omega
        parts.append(rotate(x[..., i * axis:(i + 1) * axis], angle))
    return torch.cat((*parts, x[..., 3 * axis:]), -1)


class Attention(nn.Module):
    def __init__(self, dim, heads, grid):
        super().__init__()
        self.heads, self.grid = heads, grid  # no grid: nothing is turned
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x, ids):
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.grid:
            q, k = rope(q, ids, self.grid), rope(k, ids, self.grid)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim), nn.GELU()

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads, grid):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads, grid), Mlp(dim)

    def forward(self, x, ids):
        x = x + self.attn(self.norm1(x), ids)
        return x + self.mlp(self.norm2(x))


def gather(x, ids):
    return torch.gather(x, 1, ids.unsqueeze(-1).repeat(1, 1, x.shape[-1]))


def grid_of(c):
    return (c["frames"] // 2, c["size"] // c["patch"], c["size"] // c["patch"])


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        p, grid = c["patch"], grid_of(c)
        self.rope = c["rope"]
        self.embed = nn.Conv3d(c["channels"], c["dim"], (2, p, p), (2, p, p))
        self.pos = nn.Parameter(torch.randn(1, grid[0] * grid[1] * grid[2], c["dim"]),
                                requires_grad=False)
        self.blocks = nn.ModuleList(Block(c["dim"], c["heads"], self.rope and grid)
                                    for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(c["dim"], eps=1e-6)

    def forward(self, clip, ids=None):
        x = self.embed(clip).flatten(2).transpose(1, 2)
        if not self.rope:
            x = x + self.pos
        if ids is None:
            ids = torch.arange(x.shape[1], device=x.device).repeat(x.shape[0], 1)
        else:
            x = gather(x, ids)
        for block in self.blocks:
            x = block(x, ids)
        return self.norm(x)


class Predictor(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, grid = c["pdim"], grid_of(c)
        self.rope = c["rope"]
        self.embed, self.proj = nn.Linear(c["dim"], d), nn.Linear(d, c["dim"])
        self.tokens = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, d)) for _ in range(2))
        self.pos = nn.Parameter(torch.randn(1, grid[0] * grid[1] * grid[2], d), requires_grad=False)
        self.blocks = nn.ModuleList(Block(d, c["pheads"], self.rope and grid)
                                    for _ in range(c["pdepth"]))
        self.norm = nn.LayerNorm(d, eps=1e-6)

    def forward(self, x, context, target, index):
        B, K = context.shape
        x = self.embed(x)
        asked = self.tokens[index].repeat(B, target.shape[1], 1)
        if not self.rope:
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


def masks(c, blocks, scale, step):
    """One mask a clip: the union of `blocks` boxes over all time, cut to the batch's shortest."""
    grid = grid_of(c)
    g = torch.Generator().manual_seed(step)
    torch.rand(1, generator=g)
    torch.rand(1, generator=g)  # the scale, whose range is a point
    ratio = 0.75 + torch.rand(1, generator=g).item() * 0.75
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


def adamw(modules, **options):
    decayed, plain = [], []
    for module in modules:
        for key, p in module.named_parameters():
            if p.requires_grad:
                (plain if p.ndim == 1 or key.endswith("bias") else decayed).append(p)
    return torch.optim.AdamW([dict(params=decayed, weight_decay=0.04),
                              dict(params=plain, weight_decay=0.0)], lr=1e-4, **options)


def move_average(online, average, momentum):
    with torch.no_grad():
        for q, k in zip(online.parameters(), average.parameters()):
            k.data.mul_(momentum).add_((1 - momentum) * q.detach().data)


def frozen_copy(make, module):
    copy = make()
    copy.load_state_dict(module.state_dict())
    for p in copy.parameters():
        p.requires_grad = False
    return copy


class TrainStep:
    """A step of masked prediction with V-JEPA's two masks."""

    def __init__(self, c, compiled, device="cpu", precision=None):
        self.c, self.device, self.precision = c, device, precision
        self.encoder, self.predictor = Encoder(c).to(device), Predictor(c).to(device)
        self.target = frozen_copy(lambda: Encoder(c).to(device), self.encoder)
        self.optimizer = adamw((self.encoder, self.predictor))
        if compiled:  # the number of tokens changes from step to step
            for module in (self.encoder, self.predictor, self.target):
                module.compile(dynamic=True)
        self.clips = torch.randint(
            0, 256, (c["batch"], c["channels"], c["frames"], c["size"], c["size"]), dtype=torch.uint8)

    def prepare(self, i):
        drawn = [masks(self.c, 8, 0.15, i), masks(self.c, 2, 0.7, i)]
        return [(a.to(self.device), b.to(self.device)) for a, b in drawn]

    def __call__(self, drawn):
        c = self.c
        clip = (self.clips.to(self.device).float() - 127.5) / 127.5
        kind = self.device.split(":")[0]
        with torch.autocast(kind, self.precision or torch.bfloat16, enabled=self.precision is not None):
            with torch.no_grad():
                h = F.layer_norm(self.target(clip).float(), (c["dim"],))
                hs = [gather(h, t) for _, t in drawn]
            zs = [self.encoder(clip, context) for context, _ in drawn]
            zs = [self.predictor(z, context, target, i)
                  for i, (z, (context, target)) in enumerate(zip(zs, drawn))]
        loss = sum((z.float() - h).abs().mean() for z, h in zip(zs, hs)) / len(zs)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        move_average(self.encoder, self.target, 0.998)
        return loss.item()


class EncoderForward:
    """The whole of some clips, without gradient."""

    def __init__(self, c, compiled, batch):
        self.encoder = Encoder(c).eval()
        if compiled:
            self.encoder.compile()
        self.clip = torch.randn(batch, c["channels"], c["frames"], c["size"], c["size"])

    def prepare(self, i):
        return self.clip

    def __call__(self, clip):
        with torch.no_grad():
            return self.encoder(clip)


class AdaptiveBlock(nn.Module):
    def __init__(self, dim, heads, grid):
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads, grid), Mlp(dim)

    def forward(self, x, told, places, ids):
        told = self.modulation(told)[:, places].chunk(6, 2)  # of each token
        x = x + told[2] * self.attn(self.norm1(x) * (1 + told[1]) + told[0], ids)
        return x + told[5] * self.mlp(self.norm2(x) * (1 + told[4]) + told[3])


class DiffusionTransformer(nn.Module):
    """4 x 128 over 64 patches of 2 x 8 x 8; each of four time steps has its own time."""

    GRID, WIDTH = (4, 4, 4), 256

    def __init__(self, words, dim=128, depth=4, heads=4):
        super().__init__()
        self.embed = nn.Conv3d(1, dim, (2, 8, 8), (2, 8, 8))
        self.pos = nn.Parameter(torch.randn(1, 64, dim), requires_grad=False)
        self.time = nn.Sequential(nn.Linear(self.WIDTH, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.words = nn.Embedding(words + 1, dim) if words else None
        self.blocks = nn.ModuleList(AdaptiveBlock(dim, heads, self.GRID) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.head = nn.Linear(dim, 2 * 8 * 8)

    def forward(self, z, t, prompt=None):
        B = z.shape[0]
        x = self.embed(z).flatten(2).transpose(1, 2) + self.pos
        places = torch.arange(4).repeat_interleave(16)
        ids = torch.arange(64)
        if self.words:
            t = torch.cat((t, torch.ones_like(t[:, :1])), 1)
        half = self.WIDTH // 2
        angle = 1000 * t[..., None] * torch.exp(-torch.arange(half) / half * 9.21034)
        told = self.time(torch.cat((angle.cos(), angle.sin()), -1))
        count = 0
        if self.words:
            word = self.words(prompt)
            count = word.shape[1]
            told = told + word.sum(1, keepdim=True)
            x = torch.cat((word, x), 1)
            places = torch.cat((torch.full((count,), 4), places))
            ids = torch.cat((torch.zeros(count, dtype=torch.int64), ids))
        for block in self.blocks:
            x = block(x, told, places, ids.repeat(B, 1))
        shift, scale = self.last(told)[:, places[count:]].chunk(2, 2)
        x = self.head(self.norm(x[:, count:]) * (1 + scale) + shift)
        x = x.view(B, *self.GRID, 2, 8, 8).permute(0, 1, 4, 2, 5, 3, 6)
        return x.reshape(B, 1, 8, 32, 32)


class DiffusionStep:
    """A training step: says x, compares velocities."""

    def __init__(self, compiled, batch=32):
        self.model = DiffusionTransformer(words=21)
        self.average = frozen_copy(lambda: DiffusionTransformer(words=21), self.model)
        self.optimizer = adamw((self.model,))
        if compiled:
            self.model.compile()
        self.x = torch.randn(batch, 1, 8, 32, 32)
        self.prompt = torch.zeros(batch, 3, dtype=torch.int64)

    def prepare(self, i):
        return torch.randn_like(self.x), torch.rand(len(self.x), 1).repeat(1, 4)

    def __call__(self, drawn):
        noise, t = drawn
        spread = t.repeat_interleave(2, 1)[:, None, :, None, None]
        said = self.model(spread * self.x + (1 - spread) * noise, t, self.prompt)
        loss = ((said - self.x) / (1 - spread).clamp_min(0.05)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        move_average(self.model, self.average, 0.999)
        return loss.item()


class Sampling:
    """Twenty Heun steps, 39 passes, of eight clips."""

    def __init__(self, compiled, batch=8, steps=20):
        self.model, self.steps = DiffusionTransformer(words=0).eval(), steps
        if compiled:
            self.model.compile()
        self.noise = torch.randn(batch, 1, 8, 32, 32)

    def prepare(self, i):
        return self.noise.clone()

    def velocity(self, z, t):
        said = self.model(z, torch.full((len(z), 4), t))
        return (said - z) / max(1 - t, 0.05), said

    def __call__(self, z):
        with torch.no_grad():
            for i in range(self.steps - 1):
                t, s = i / self.steps, (i + 1) / self.steps
                first, _ = self.velocity(z, t)
                second, _ = self.velocity(z + (s - t) * first, s)
                z = z + 0.5 * (s - t) * (first + second)
            return self.velocity(z, 1 - 1 / self.steps)[1]


class ClassTokenVit(nn.Module):
    """ViT-tiny of 14 px patches, as LeWorldModel's encoder; the class token is its latent."""

    def __init__(self, size=224, patch=14, dim=192, depth=12, heads=3):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, None) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.positions
        for block in self.blocks:
            x = block(x, None)
        return self.norm(x[:, 0])


class AdaLnBlock(nn.Module):
    def __init__(self, dim, heads, head_dim, hidden):
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * inner, bias=False), nn.Linear(inner, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(),
                                 nn.Linear(hidden, dim))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def attend(self, x):
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(2))

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, -1)
        x = x + gate1 * self.attend(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def norm_mlp(dim, hidden):
    return nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.GELU(),
                         nn.Linear(hidden, dim))


class LeWorldModelPlan:
    """LeWorldModel's search: 300 candidates of 5 blocks, 30 iterations, 30 elites. Each step runs the
    window of the last three latents and keeps what it says of the last. Present and goal are encoded
    once a plan."""

    def __init__(self, compiled, bfloat16=False, dim=192, window=3):
        self.bfloat16, self.window = bfloat16, window
        self.encoder, self.projector = ClassTokenVit().eval(), norm_mlp(dim, 2048).eval()
        self.smooth = nn.Linear(10, 10)
        self.embed = nn.Sequential(nn.Linear(10, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim))
        self.positions = torch.randn(1, window, dim)
        self.blocks = nn.ModuleList(AdaLnBlock(dim, 16, 64, 2048) for _ in range(6)).eval()
        self.norm, self.pred_proj = nn.LayerNorm(dim), norm_mlp(dim, 2048).eval()
        if compiled:
            self.predict = torch.compile(self.predict)
        self.frames = torch.randn(2, 3, 224, 224)

    def prepare(self, i):
        return None

    def predict(self, latents, actions):
        x = latents + self.positions[:, :latents.shape[1]]
        for block in self.blocks:
            x = block(x, actions)
        x = self.norm(x)
        return self.pred_proj(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def costs(self, present, goal, candidates):
        latents = present.expand(len(candidates), 1, -1)
        actions = self.embed(self.smooth(candidates))
        for t in range(candidates.shape[1]):
            first = max(0, t + 1 - self.window)
            said = self.predict(latents[:, first:], actions[:, first:t + 1])
            latents = torch.cat((latents, said[:, -1:]), 1)
        return (latents[:, -1] - goal).square().sum(-1)

    def __call__(self, _):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            present, goal = self.projector(self.encoder(self.frames)).float().unbind(0)
            mean, std = torch.zeros(5, 10), torch.ones(5, 10)
            for _ in range(30):
                candidates = mean + std * torch.randn(300, 5, 10)
                candidates[0] = mean
                costs = self.costs(present, goal, candidates)
                elites = candidates[costs.topk(30, largest=False).indices]
                mean, std = elites.mean(0), elites.std(0)
            return mean


def vit_tiny(rope):
    return dict(dim=192, depth=12, heads=3, channels=3, frames=16, size=112, patch=16, batch=8,
                pdim=96, pdepth=6, pheads=3, rope=rope)


DEMO = dict(dim=96, depth=4, heads=3, channels=1, frames=8, size=32, patch=8, batch=64, pdim=64,
            pdepth=4, pheads=2, rope=False)

# By the names of the C++ benchmarks.
TASKS = {
    "train_step/vit_tiny_16x112_b8": lambda compiled: TrainStep(vit_tiny(True), compiled),
    "train_step/vit_tiny_16x112_b8_bfloat16":
        lambda compiled: TrainStep(vit_tiny(True), compiled, precision=torch.bfloat16),
    "train_step/vit_tiny_sincos_16x112_b8": lambda compiled: TrainStep(vit_tiny(False), compiled),
    "train_step/demo": lambda compiled: TrainStep(DEMO, compiled),
    "encoder_forward/vit_tiny_16x112_b1": lambda compiled: EncoderForward(vit_tiny(True), compiled, 1),
    "diffusion/train_step_b32": lambda compiled: DiffusionStep(compiled),
    "diffusion/sample_heun20_b8": lambda compiled: Sampling(compiled),
    "planning/lewm_plan": lambda compiled: LeWorldModelPlan(compiled),
    "planning/lewm_plan_bfloat16": lambda compiled: LeWorldModelPlan(compiled, bfloat16=True),
}


def make_task(name, compiled=False):
    return TASKS[name](compiled)
