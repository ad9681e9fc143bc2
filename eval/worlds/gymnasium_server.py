"""Steps Gymnasium environments for the program that started it.

Commands and answers are lines over the socket on descriptor 0; seeds, actions, rewards, ends, state
and frames lie in the memory shared on descriptor 3, laid out as the first answer says. What the
environments print goes to the program's pipe for their last words.
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

import numpy as np

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


class Slot:
    """One environment and what it shows now."""

    def __init__(self, options):
        self.options = options
        self.environment = self.make()
        self.actions = ActionSpace(self.environment.action_space)
        self.ale = getattr(self.environment.unwrapped, "ale", None)
        self.frame, self.state, self.shape, self.names = None, None, None, None
        self.steps, self.blank = 0, False

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

    def look(self, observation, info, last=False):
        """Takes in what is seen, and checks that it is as it was at first."""
        pairs = numbers_of(observation)
        for name, value in pairs:
            if math.isnan(value):
                raise Failure(f"observation '{name}' is NaN after {self.steps} steps")
        frame = self.see(observation)
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
        self.state = self.read_state(pairs, info)

    def see(self, observation):
        pixels = self.options["pixels"]
        frame = find_image(observation) if pixels != "render" else None
        if frame is None and pixels != "observation":
            frame = self.environment.render()
        if not is_image(frame):
            found = getattr(frame, "shape", type(frame).__name__)
            raise Failure(f"no frame uint8 (H, W, 1 or 3) in its {pixels} pixels: {found}")
        return frame

    def read_state(self, pairs, info):
        source = self.options["state"]
        if source == "ram" or (source == "auto" and self.ale is not None):
            if self.ale is None:
                raise Failure("it has no RAM: state=ram is for Atari")
            ram = self.ale.getRAM()
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

    def reset(self, seed):
        self.steps, self.frame = 0, None
        observation, info = self.environment.reset(seed=int(seed))
        self.look(observation, info)

    def step(self, row):
        """One action for `frame_skip` steps; rewards are added up."""
        total, terminated, truncated = 0.0, False, False
        for _ in range(self.options["frame_skip"]):
            observation, reward, terminated, truncated, info = self.environment.step(
                self.actions.action(row)
            )
            self.steps += 1
            if not math.isfinite(reward):
                raise Failure(f"reward is {reward} after {self.steps} steps")
            total += float(reward)
            limit = self.options["max_steps"]
            truncated = bool(truncated or (limit and self.steps >= limit))
            if terminated or truncated:
                break
        self.look(observation, info, last=terminated or truncated)
        return total, bool(terminated), truncated and not terminated


class Memory:
    """The shared arrays, one row an environment."""

    def __init__(self, slots, batch):
        slot = slots[0]
        h, w, c = slot.shape
        state = len(slot.names)
        layout = [
            ("seeds", np.int64, (batch,)),
            ("active", np.uint8, (batch,)),
            ("actions", np.float64, (batch, slot.actions.width)),
            ("rewards", np.float64, (batch,)),
            ("terminated", np.uint8, (batch,)),
            ("truncated", np.uint8, (batch,)),
            ("blank", np.uint8, (batch,)),
            ("state", np.float64, (batch, state)),
            ("frames", np.uint8, (batch, h, w, c)),
        ]
        self.offsets, end = {}, 0
        for name, kind, shape in layout:
            self.offsets[name] = end
            end += -(-int(np.prod(shape)) * np.dtype(kind).itemsize // 64) * 64
        self.size = max(end, 64)
        os.ftruncate(3, self.size)
        shared = mmap.mmap(3, self.size)
        for name, kind, shape in layout:
            array = np.frombuffer(shared, kind, int(np.prod(shape)), self.offsets[name])
            setattr(self, name, array.reshape(shape))

    def show(self, i, slot):
        self.frames[i] = slot.frame
        self.state[i] = slot.state
        self.blank[i] = slot.blank


def described(slots, memory):
    slot = slots[0]
    spec = slot.environment.spec
    return {
        "frame": list(slot.shape),
        "action_width": slot.actions.width,
        "action_choices": slot.actions.choices,
        "action_low": slot.actions.low,
        "action_high": slot.actions.high,
        "state": slot.names,
        "step_limit": int(getattr(spec, "max_episode_steps", None) or 0),
        "fps": float(slot.environment.metadata.get("render_fps") or 0),
        "size": memory.size,
        "offsets": memory.offsets,
    }


def serve(commands, answers, options, folder, home):
    os.chdir(folder)  # ViZDoom writes into the current one
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if ":" in options["id"]:  # module:Name, a person's own
        sys.path.append(home)
    batch = options["batch"]
    slots = [Slot(options) for _ in range(batch)]
    slots[0].reset(0)
    memory = Memory(slots, batch)
    answers.write(json.dumps(described(slots, memory)) + "\n")
    answers.flush()
    for command in commands:
        for i, slot in enumerate(slots):
            if command == "reset\n":
                slot.reset(memory.seeds[i])
                memory.show(i, slot)
            elif command == "step\n" and memory.active[i]:
                done = slot.step(memory.actions[i])
                memory.rewards[i], memory.terminated[i], memory.truncated[i] = done
                memory.show(i, slot)
        answers.write("ok\n")
        answers.flush()
    for slot in slots:
        slot.environment.close()


def main():
    socket = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    commands, answers = os.fdopen(socket, "r"), os.fdopen(os.dup(socket), "w")
    try:
        serve(commands, answers, json.loads(sys.argv[1]), *sys.argv[2:4])
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass
    except Exception as error:
        text = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Failure):
            traceback.print_exc()
        answers.write("error " + " ".join(text.split()) + "\n")
        answers.flush()
        sys.exit(1)
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)  # where the program was killed


main()
