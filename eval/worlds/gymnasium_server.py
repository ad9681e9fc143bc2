"""Steps Gymnasium or EnvPool environments for the program that started it.

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


class Separate:
    """Environments of Gymnasium, one after another."""

    def __init__(self, options):
        self.episodes = [Slot(options) for _ in range(options["batch"])]
        first = self.episodes[0]
        first.reset(0)
        self.actions = first.actions
        self.step_limit = getattr(first.environment.spec, "max_episode_steps", None)
        self.fps = first.environment.metadata.get("render_fps")

    def reset(self, seeds):
        for slot, seed in zip(self.episodes, seeds):
            slot.reset(seed)

    def step(self, actions, active):
        for i in np.flatnonzero(active):
            self.episodes[i].step(actions[i])

    def close(self):
        for slot in self.episodes:
            slot.environment.close()


def row_of(values, i):
    """Environment i of what EnvPool gives for all."""
    if isinstance(values, dict):
        return {key: row_of(values[key], i) for key in values}
    return values[i] if isinstance(values, np.ndarray) and values.ndim > 0 else values


class Pool:
    """EnvPool: all environments at once, stepped in C++. Frames are its observations."""

    def __init__(self, options):
        if options["pixels"] == "render":
            raise Failure("EnvPool shows observations: pixels=render is for Gymnasium")
        self.options, self.batch = options, options["batch"]
        self.arguments = keyword_arguments(options["make"])
        self.episodes = [Episode(options) for _ in range(self.batch)]
        self.environment = None
        self.reset([0] * self.batch)
        self.actions = ActionSpace(self.environment.action_space)
        self.step_limit = getattr(self.environment.spec.config, "max_episode_steps", None)
        self.fps = None

    def reset(self, seeds):
        """A pool takes its seeds when it is made, so it is made anew."""
        import envpool

        if self.environment is not None:
            self.environment.close()
        threads = min(self.batch, len(os.sched_getaffinity(0)))
        arguments = {"num_threads": threads, "stack_num": 1, **self.arguments}
        arguments |= {"env_type": "gymnasium", "num_envs": self.batch}
        # Each has a seed of its own: none follows from its place in the batch.
        arguments["seed"] = [int(seed) for seed in seeds]
        try:
            self.environment = envpool.make(self.options["id"], **arguments)
        except (TypeError, AssertionError, ValueError) as error:
            if "stack_num" in self.arguments or "stack_num" not in str(error):
                raise
            del arguments["stack_num"]  # it stacks nothing
            self.environment = envpool.make(self.options["id"], **arguments)
        observations, info = self.environment.reset()
        for i, episode in enumerate(self.episodes):
            episode.restart()
            self.take(i, observations, info)

    def take(self, i, observations, info, last=False):
        observation, about = row_of(observations, i), row_of(info, i)
        frame = observation.get("obs") if isinstance(observation, dict) else observation
        planes = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        if planes and frame.shape[0] in (1, 3):
            frame = np.moveaxis(frame, 0, 2)
        if not is_image(frame):
            found = getattr(frame, "shape", type(frame).__name__)
            raise Failure(f"no frame uint8 (1 or 3, H, W) in its observations: {found}")
        self.episodes[i].look(frame, [], about, about.get("ram"), last)

    def step(self, actions, active):
        # Those that have ended begin anew behind our back; what they show is passed over.
        going = [int(i) for i in np.flatnonzero(active)]
        for i in going:
            self.episodes[i].begin_action()
        sent = np.stack([np.asarray(self.actions.action(row)) for row in actions])
        sent = sent.astype(np.int32 if self.actions.kind == "Discrete" else sent.dtype)
        for k in range(self.options["frame_skip"]):
            observations, rewards, terminated, truncated, info = self.environment.step(sent)
            lasting = k + 1 < self.options["frame_skip"]
            for i in list(going):
                last = self.episodes[i].count(rewards[i], terminated[i], truncated[i])
                if last:
                    going.remove(i)
                if last or not lasting:
                    self.take(i, observations, info, last)
            if not going:
                break

    def close(self):
        self.environment.close()


class Memory:
    """The shared arrays, one row an environment."""

    def __init__(self, world):
        first, batch = world.episodes[0], len(world.episodes)
        h, w, c = first.shape
        state = len(first.names)
        layout = [
            ("seeds", np.int64, (batch,)),
            ("active", np.uint8, (batch,)),
            ("actions", np.float64, (batch, world.actions.width)),
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

    def show(self, i, episode):
        self.frames[i] = episode.frame
        self.state[i] = episode.state
        self.blank[i] = episode.blank


def described(world, memory):
    first, actions = world.episodes[0], world.actions
    return {
        "frame": list(first.shape),
        "action_width": actions.width,
        "action_choices": actions.choices,
        "action_low": actions.low,
        "action_high": actions.high,
        "state": first.names,
        "step_limit": int(world.step_limit or 0),
        "fps": float(world.fps or 0),
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
    world = Pool(options) if options["server"] == "envpool" else Separate(options)
    memory = Memory(world)
    answers.write(json.dumps(described(world, memory)) + "\n")
    answers.flush()
    for command in commands:
        if command == "reset\n":
            world.reset(memory.seeds)
            for i, episode in enumerate(world.episodes):
                memory.show(i, episode)
        elif command == "step\n":
            world.step(memory.actions, memory.active)
            for i in np.flatnonzero(memory.active):
                episode = world.episodes[i]
                memory.rewards[i] = episode.reward
                memory.terminated[i], memory.truncated[i] = episode.over
                memory.show(i, episode)
        answers.write("ok\n")
        answers.flush()
    world.close()


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
