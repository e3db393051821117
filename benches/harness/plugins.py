#!/usr/bin/env python3
"""What plugins cost: one call, chains of 0, 1, 3 and 6 against nginx, also where the cache misses, and a
neighbour that loops.

Interleaved in one run, as run.py does. Usage: plugins.py [--rounds N] [--seconds S] [--no-save];
results go to benches/results/<date>/plugins.md.
"""

import argparse
import datetime
import pathlib
import subprocess
import sys
import tempfile
import time

import run

ROOT = run.ROOT
MODEL = "m"
SHIPPED = ["complexity-router", "prompt-rewriter", "semantic-cache"]
CHAINS = {"empty": 0, "1 plugin": 1, "3 plugins": 3, "6 plugins": 6}
UNARY = ["--connections", "64"]
# Other prompts each time, whose answers are kept: each is looked for in the cache, is not there, and is put there.
MISSES = [*UNARY, "--distinct", "--temperature", "0"]


def build(directory, *more):
    target = ROOT / "target/guests"
    command = ["cargo", "build", "--quiet", "--release", "--target", "wasm32-wasip2", "--target-dir", str(target)]
    subprocess.run([*command, *more], cwd=directory, check=True)
    return target / "wasm32-wasip2/release"


def guests(directory):
    """A router as `sluicegate plugin new` makes it, and one of four interfaces that does as it is told."""
    subprocess.run([str(run.GATEWAY), "plugin", "new", "headroom"], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    router = build(directory / "headroom") / "plugin.wasm"
    return router, build(ROOT / "plugins", "--locked", "--package", "faulty") / "faulty.wasm"


def config(upstream, plugins, routes):
    listed = "".join(f"  - {{ {one} }}\n" for one in plugins)
    return (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
        f"upstreams: {{ host: {{ url: 'http://{upstream}', kind: ollama }} }}\n"
        + (f"plugins:\n{listed}" if plugins else "")
        + "routes:\n"
        + "".join(f"  - {{ model: {name}, targets: [{{ upstream: host, model: {MODEL} }}], plugins: [{chain}] }}\n" for name, chain in routes)
    )


def start(directory, text):
    directory.mkdir()
    (directory / "config.yaml").write_text(text)
    log = directory / "log"
    process = run.Process([str(run.GATEWAY), "serve", "--config", str(directory / "config.yaml")], log)
    return process, run.wait_for(log, r"data +http://([0-9.:]+)")


def chain(directory, upstream, count, wasm):
    plugins = [f"name: {name}, source: builtin" for name in SHIPPED]
    plugins += [f"name: file-{n}, source: '{wasm}'" for n in range(3)]
    names = (SHIPPED + [f"file-{n}" for n in range(3)])[:count]
    return start(directory, config(upstream, plugins[:count], [(MODEL, ", ".join(names))]))


def calls(wasm_files):
    program = ROOT / "target/release/sluicegate-bench-plugins"
    found = []
    for name, wasm in wasm_files:
        done = subprocess.run([str(program), str(wasm)], check=True, stdout=subprocess.PIPE, text=True)
        found += [(name, line) for line in done.stdout.splitlines()]
    return found


def neighbour(directory, upstream, wasm, seconds):
    """p50 and p99 of a route without plugins, beside one whose plugin is good, then loops for ever."""
    seen = []
    for task in ("none", "spin"):
        plugin = f"name: {task}, source: '{wasm}', deadline: 10ms, config: {{ do: {task} }}"
        text = config(upstream, [plugin], [(MODEL, ""), ("other", task)])
        process, at = start(directory.with_name(f"neighbour-{task}"), text)
        calm = ["--connections", "100"]
        run.load(at, calm, 0.5)
        command = [str(run.LOAD), "run", "--to", at, "--seconds", str(seconds + 1), "--connections", "100", "--model", "other"]
        other = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        seen.append(run.load(at, calm, seconds))
        other.wait()
        process.stop()
    return seen


def starts(directory, upstream, times=5):
    """Seconds from the start of a process to its first answer; the compile cache is warm."""

    def first_answer(begin):
        began = time.monotonic()
        process, at = begin()
        run.load(at, ["--connections", "1", "--requests", "1"], 5)
        took = time.monotonic() - began
        process.stop()
        return took

    def gateway(count):
        return lambda: chain(pathlib.Path(tempfile.mkdtemp(dir=directory)) / "gateway", upstream, count, "none")

    def nginx():
        return run.start_nginx(pathlib.Path(tempfile.mkdtemp(dir=directory)) / "nginx", upstream, "on")

    begins = {"nginx": nginx, "no plugins": gateway(0), "three plugins": gateway(3)}
    # What starting the client takes is no part of it.
    client = min(first_answer(lambda: (run.Process(["true"], directory / "true.log"), upstream)) for _ in range(times))
    return [(name, min(first_answer(begin) for _ in range(times)) - client) for name, begin in begins.items()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--note", default="")
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    subprocess.run(run.BUILD, cwd=ROOT, check=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
    router, faulty = guests(directory)
    running = []
    try:
        upstream = run.Process([str(run.LOAD), "upstream"], directory / "upstream.log")
        running.append(upstream)
        address = run.wait_for(directory / "upstream.log", r"http://([0-9.:]+)")
        targets = {"nginx": run.start_nginx(directory / "nginx", address, "on")}
        for name, count in CHAINS.items():
            targets[name] = chain(directory / name.replace(" ", "-"), address, count, router)
        running += [process for process, _ in targets.values()]
        plans = {name: (target, UNARY) for name, target in targets.items()}
        plans |= {f"{name}, misses": (targets[name], MISSES) for name in ["nginx", "empty", "3 plugins"]}
        time.sleep(1)
        rounds = {name: [] for name in plans}
        for (_, at), sent in plans.values():
            run.load(at, sent, 0.5)
        for _ in range(arguments.rounds):
            for name, ((process, at), sent) in plans.items():
                rounds[name].append(run.measure(process, at, sent, arguments.seconds))
        cpu = {name: run.summary(seen, "request") for name, seen in rounds.items()}
        starting = starts(directory, address)
        alone, beside = neighbour(directory / "neighbour", address, faulty, arguments.seconds)
    finally:
        for process in running:
            process.stop()
    lines = ["| chain | CPU µs per request | against the empty chain | against nginx | p50 / p99 ms |", "|---|---|---|---|---|"]
    for name, seen in cpu.items():
        us, like = seen["cpu_us"], ", misses" if name.endswith(", misses") else ""
        nginx, empty = (cpu[base + like]["cpu_us"] for base in ["nginx", "empty"])
        lines.append(
            f"| {name} | {us:.1f} | {us / empty:.2f} | **{us / nginx:.2f}** "
            f"| {seen['p50_us'] / 1000:.2f} / {seen['p99_us'] / 1000:.2f} |"
        )
    builtin = sorted((ROOT / "target/release/build").glob("sluicegate-builtin-plugins-*/out/target/wasm32-wasip2/release/complexity_router.wasm"), key=lambda path: path.stat().st_mtime)
    lines += ["", "| one call | |", "|---|---|"]
    lines += [f"| {name} | {line} |" for name, line in calls([("a router by headroom, as `plugin new` makes it", router), ("one of four interfaces", faulty), ("complexity-router", builtin[-1])])]
    lines += [
        "",
        f"100 connections of a route without plugins beside 100 of one with a plugin that proceeds: p50 {alone['p50_us'] / 1000:.2f} ms, "
        f"p99 {alone['p99_us'] / 1000:.2f} ms; beside 100 of one whose plugin loops for ever: p50 {beside['p50_us'] / 1000:.2f} ms, "
        f"p99 {beside['p99_us'] / 1000:.2f} ms, errors {beside['errors']}.",
    ]
    times = [f"{name} {seconds * 1000:.0f} ms" for name, seconds in starting]
    lines += ["", "Start to first answer: " + ", ".join(times) + "."]
    text = "\n".join(lines) + (f"\n\n{arguments.note}" if arguments.note else "")
    print(text)
    if not arguments.no_save:
        target = ROOT / "benches/results" / datetime.date.today().isoformat()
        target.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python3 benches/harness/plugins.py", *sys.argv[1:]])
        (target / "plugins.md").write_text(f"# Plugins, {target.name}\n\n`{command}`\n\n{text}\n")


if __name__ == "__main__":
    main()
