# Second half of the program that gymnasium_episodes.py begins: steps environments for the program
# that started it. Commands and answers are lines over the socket on descriptor 0; seeds, actions,
# rewards, ends, state and frames lie in the memory shared on descriptor 3, laid out as the first
# answer says. What the environments print goes to the program's pipe for their last words.


class Separate:
    """Environments of Gymnasium, one after another."""

    def __init__(self, options, alive):
        self.alive, self.episodes = alive, []
        for _ in range(options["batch"]):
            self.episodes.append(Slot(options))
            alive()
        first = self.episodes[0]
        first.reset(0)
        alive()
        self.actions = first.actions
        self.step_limit = getattr(first.environment.spec, "max_episode_steps", None)
        self.fps = first.environment.metadata.get("render_fps")

    def reset(self, seeds):
        for slot, seed in zip(self.episodes, seeds):
            slot.reset(seed)
            self.alive()

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


def lacking(error):
    """Whether another interpreter may have what this one has not."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return not kinds.isdisjoint({"ImportError", "UnregisteredEnv", "DependencyNotInstalled"})


def serve(commands, answers, options, folder, home):
    os.chdir(folder)  # ViZDoom writes into the current one
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if ":" in options["id"]:  # module:Name, a person's own
        sys.path.append(home)
    # Before anything else: whether it is there at all.
    __import__("numpy")
    __import__(options["server"])

    def alive():
        """Importing, making and resetting may take long: each is waited for by itself."""
        answers.write(".\n")
        answers.flush()

    alive()
    world = Pool(options) if options["server"] == "envpool" else Separate(options, alive)
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
        kind = f"lacking {sys.executable}\t" if lacking(error) else "error "
        answers.write(kind + " ".join(text.split()) + "\n")
        answers.flush()
        sys.exit(1)
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)  # where the program was killed


main()
