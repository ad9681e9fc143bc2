"""What an environment of Gymnasium or EnvPool shows and takes, checked.

First half of one program: gymnasium_server.py follows it.
"""

import sys

# Python code given by -c looks for modules in the current folder first: a stray random.py would do.
sys.path = [entry for entry in sys.path if entry != ""]

import ast
import json
import math
import mmap
import os
import shutil
import traceback

try:
    import numpy as np
except ImportError:  # main() says so
    np = None

# Packages that add environments when they are imported.
PACKAGES = {
    "ALE/": "ale_py",
    "Vizdoom": "vizdoom.gymnasium_wrapper",
    "gym_pusht/": "gym_pusht",
    "dm_control/": "shimmy",
}
IMAGE_KEYS = ("screen", "pixels", "image", "rgb")


class Failure(Exception):
    """What is said as it is, in one line."""


def keyword_arguments(text):
    """`frame_skip=4,obs_type=rgb` as a dictionary; what is no Python value is text."""
    values = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise Failure(f"make: expected name=value, found '{part}'")
        try:
            values[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            values[name.strip()] = value.strip()
    return values


def is_image(value):
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3)))
        and min(value.shape[:2]) >= 8
    )


def find_image(observation):
    if is_image(observation):
        return observation
    if isinstance(observation, dict):
        for key in (*IMAGE_KEYS, *observation):
            if key in observation and is_image(observation[key]):
                return observation[key]
    return None


def numbers_of(observation, name="observation"):
    """What is no image, as (name, value) pairs."""
    if isinstance(observation, dict):
        return [pair for key in observation for pair in numbers_of(observation[key], key)]
    if isinstance(observation, (tuple, list)):
        return [p for i, part in enumerate(observation) for p in numbers_of(part, f"{name}_{i}")]
    if is_image(observation):
        return []
    try:
        flat = np.asarray(observation, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return []
    return [(name if flat.size == 1 else f"{name}_{i}", float(v)) for i, v in enumerate(flat)]


class ActionSpace:
    """An action as numbers: choices from 0 on, or a flat box."""

    def __init__(self, space):
        kind = type(space).__name__
        self.space, self.kind = space, kind
        self.low, self.high, self.choices = [], [], 0
        if kind == "Discrete":
            self.width, self.choices = 1, int(space.n)
        elif kind == "MultiBinary":
            self.width, self.choices = int(np.prod(space.shape)), 2
        elif kind == "MultiDiscrete" and len(set(np.ravel(space.nvec).tolist())) == 1:
            self.width, self.choices = int(np.size(space.nvec)), int(np.ravel(space.nvec)[0])
        elif kind == "Box":
            self.width = int(np.prod(space.shape))
            self.low = np.ravel(space.low).astype(float).tolist()
            self.high = np.ravel(space.high).astype(float).tolist()
            if not np.isfinite(self.low + self.high).all():
                self.low, self.high = [], []
        else:
            raise Failure(f"its actions are {space}, which are not handled")

    def action(self, row):
        if self.kind == "Discrete":
            return int(row[0]) + int(getattr(self.space, "start", 0))
        if self.kind == "MultiDiscrete":
            row = row + np.ravel(getattr(self.space, "start", 0))
        return row.astype(self.space.dtype).reshape(self.space.shape)


class Episode:
    """What an environment shows now, checked."""

    def __init__(self, options):
        self.options = options
        self.frame, self.state, self.shape, self.names = None, None, None, None
        self.steps, self.blank, self.reward, self.over = 0, False, 0.0, (False, False)

    def restart(self):
        self.steps, self.frame = 0, None

    def look(self, frame, pairs, info, ram, last=False):
        """Takes in what is seen, and checks that it is as it was at first."""
        for name, value in pairs:
            if math.isnan(value):
                raise Failure(f"observation '{name}' is NaN after {self.steps} steps")
        shape = (*frame.shape[:2], 1 if frame.ndim == 2 else frame.shape[2])
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            raise Failure(f"frames changed from {self.shape} to {shape} after {self.steps} steps")
        # ViZDoom's wrapper has no last frame and gives zeros: the last real one stays.
        self.blank = last and self.frame is not None and not frame.any() and self.frame.any()
        if self.blank:
            return
        # Environments may hand out the same array again.
        self.frame = np.array(frame, dtype=np.uint8).reshape(shape)
        self.state = self.read_state(pairs, info, ram)

    def read_state(self, pairs, info, ram):
        source = self.options["state"]
        if source == "ram" or (source == "auto" and ram is not None):
            if ram is None:
                raise Failure("it has no RAM: state=ram is for Atari")
            names, values = [f"ram_{i}" for i in range(len(ram))], ram
        elif source == "none":
            names, values = [], []
        elif source.startswith("info."):
            key = source[len("info."):]
            if key not in info:
                raise Failure(f"info has no '{key}' but {', '.join(sorted(info)) or 'nothing'}")
            pairs = numbers_of(info[key], key)
            names, values = [p[0] for p in pairs], [p[1] for p in pairs]
        else:
            names, values = [p[0] for p in pairs], [p[1] for p in pairs]
        if self.names is None:
            self.names = names
        if len(names) != len(self.names):
            raise Failure(f"state changed from {len(self.names)} to {len(names)} numbers")
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise Failure(f"state '{names[at]}' is {values[at]} after {self.steps} steps")
        return values

    def begin_action(self):
        self.reward, self.over = 0.0, (False, False)

    def count(self, reward, terminated, truncated):
        """One more step of the environment. Whether it was the last."""
        self.steps += 1
        self.reward += float(reward)
        if not abs(self.reward) < 3e38:  # it is kept as float32
            raise Failure(f"reward is {reward} after {self.steps} steps")
        limit = self.options["max_steps"]
        truncated = bool(truncated or (limit and self.steps >= limit))
        self.over = bool(terminated), truncated and not terminated
        return terminated or truncated


class Slot(Episode):
    """One environment of Gymnasium."""

    def __init__(self, options):
        super().__init__(options)
        self.environment = self.make()
        self.actions = ActionSpace(self.environment.action_space)
        self.ale = getattr(self.environment.unwrapped, "ale", None)

    def make(self):
        import gymnasium

        identity = self.options["id"]
        for prefix, package in PACKAGES.items():
            if identity.startswith(prefix):
                __import__(package)
        arguments = {"disable_env_checker": True, **keyword_arguments(self.options["make"])}
        if self.options["pixels"] == "observation":
            return gymnasium.make(identity, **arguments)
        try:
            return gymnasium.make(identity, **{"render_mode": "rgb_array", **arguments})
        except TypeError as error:
            if "render_mode" not in str(error):
                raise
            return gymnasium.make(identity, **arguments)

    def see(self, observation):
        pixels = self.options["pixels"]
        frame = find_image(observation) if pixels != "render" else None
        if frame is None and pixels != "observation":
            frame = self.environment.render()
        if not is_image(frame):
            found = getattr(frame, "shape", type(frame).__name__)
            raise Failure(f"no frame uint8 (H, W, 1 or 3) in its {pixels} pixels: {found}")
        return frame

    def take(self, observation, info, last=False):
        ram = None if self.ale is None else self.ale.getRAM()
        self.look(self.see(observation), numbers_of(observation), info, ram, last)

    def reset(self, seed):
        self.restart()
        self.take(*self.environment.reset(seed=int(seed)))

    def step(self, row):
        """One action for `frame_skip` steps; rewards are added up."""
        self.begin_action()
        last = False
        for _ in range(self.options["frame_skip"]):
            observation, reward, terminated, truncated, info = self.environment.step(
                self.actions.action(row)
            )
            last = self.count(reward, terminated, truncated)
            if last:
                break
        self.take(observation, info, last)
