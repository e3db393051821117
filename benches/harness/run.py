#!/usr/bin/env python3
"""Measures Sluicegate against nginx and against no proxy at all, interleaved in one run.

CPU per request = user + system time of the proxy's processes over requests served. Absolute times
of a shared machine mean nothing; ratios of one run do. Usage: run.py [--rounds N] [--seconds S]
[--only NAME,...] [--note TEXT]; results go to benches/results/<date>/.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOAD = ROOT / "target/release/sluicegate-load"
GATEWAY = ROOT / "target/release/sluicegate"
PROGRAMS = ["sluicegate", "sluicegate-load", "sluicegate-bench-plugins"]
BUILD = ["cargo", "build", "--quiet", "--release", "--workspace", *(f"--bin={name}" for name in PROGRAMS)]
TICK = os.sysconf("SC_CLK_TCK")

# name: (what is sent, what the figure is per)
SCENARIOS = {
    "unary-1": (["--connections", "1"], "request"),
    "unary-8": (["--connections", "8"], "request"),
    "unary-64": (["--connections", "64"], "request"),
    "unary-8000/s": (["--connections", "64", "--rate", "8000"], "request"),
    "sse-fast-32": (["--connections", "32", "--events", "64"], "event"),
    "sse-paced-200": (["--connections", "200", "--events", "100", "--pace", "20"], "event"),
    "body-1MB": (["--connections", "8", "--size", "1000000"], "request"),
    "body-8MB": (["--connections", "4", "--size", "8000000"], "request"),
}

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
worker_processes 1; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  client_max_body_size 200m; keepalive_requests 100000000;
  upstream up {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering {buffering};
    }}
  }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(path, pattern):
    for _ in range(4000):
        found = re.search(pattern, path.read_text())
        if found:
            return found.group(1)
        time.sleep(0.002)
    sys.exit(f"nothing like {pattern} in {path}:\n{path.read_text()}")


class Process:
    """A process whose CPU time and memory are read from /proc."""

    def __init__(self, arguments, log):
        self.log = log
        self.child = subprocess.Popen(arguments, stdout=log.open("w"), stderr=subprocess.STDOUT)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def stop(self):
        self.child.terminate()
        self.child.wait()


def start_nginx(directory, upstream, buffering):
    port = free_port()
    directory.mkdir()
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(dir=directory, upstream=upstream, port=port, buffering=buffering))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = Process([nginx, "-c", str(config), "-p", str(directory)], directory / "log")
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"127.0.0.1:{port}"
        time.sleep(0.02)
    sys.exit("nginx did not start: " + (directory / "log").read_text())


def start_gateway(directory, upstream):
    directory.mkdir()
    config = directory / "config.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
        f"upstreams: {{ host: {{ url: 'http://{upstream}', kind: ollama }} }}\n"
    )
    log = directory / "log"
    process = Process([str(GATEWAY), "serve", "--config", str(config)], log)
    return process, wait_for(log, r"data +http://([0-9.:]+)")


def load(target, arguments, seconds):
    command = [str(LOAD), "run", "--to", target, "--seconds", str(seconds), *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(process, target, arguments, seconds):
    before = process.cpu() if process else 0.0
    peak = 0
    if process:
        command = [str(LOAD), "run", "--to", target, "--seconds", str(seconds), *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        while child.poll() is None:
            peak = max(peak, process.rss())
            time.sleep(0.05)
        seen = json.loads(child.stdout.read())
    else:
        seen = load(target, arguments, seconds)
    seen["cpu"] = (process.cpu() - before) if process else 0.0
    seen["rss_kib"] = peak
    if seen["errors"]:
        sys.exit(f"{target} {arguments}: {seen['errors']} errors")
    return seen


def summary(rounds, per):
    def middle(value):
        return statistics.median(value(one) for one in rounds)

    count = "events" if per == "event" else "requests"
    return {
        "cpu_us": middle(lambda one: one["cpu"] / one[count] * 1e6),
        "rate": middle(lambda one: one[count] / one["seconds"]),
        "p50_us": middle(lambda one: one["p50_us"]),
        "p99_us": middle(lambda one: one["p99_us"]),
        "gap_p99_us": middle(lambda one: one["gap_p99_us"]),
        "rss_kib": middle(lambda one: one["rss_kib"]),
    }


def memory_per_stream(targets, streams=1000):
    """RSS with open streams over RSS before, for each proxy."""
    found = {}
    for name, (process, address) in targets.items():
        if not process:
            continue
        load(address, ["--connections", "1"], 0.2)
        time.sleep(0.5)
        before = process.rss()
        arguments = ["--connections", str(streams), "--events", "200", "--pace", "20"]
        command = [str(LOAD), "run", "--to", address, "--seconds", "0.5", *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(3)
        found[name] = (process.rss() - before) / streams
        child.wait()
    return found


def table(results, memory):
    lines = [
        "| scenario | per | nginx CPU µs | Sluicegate CPU µs | ratio | nginx p50 / p99 ms | Sluicegate p50 / p99 ms | direct p50 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, by in results.items():
        nginx, ours, direct = by["nginx"], by["sluicegate"], by["direct"]
        lines.append(
            f"| {name} | {SCENARIOS[name][1]} | {nginx['cpu_us']:.1f} | {ours['cpu_us']:.1f} "
            f"| **{ours['cpu_us'] / nginx['cpu_us']:.2f}** "
            f"| {nginx['p50_us'] / 1000:.2f} / {nginx['p99_us'] / 1000:.2f} "
            f"| {ours['p50_us'] / 1000:.2f} / {ours['p99_us'] / 1000:.2f} | {direct['p50_us'] / 1000:.2f} |"
        )
    lines += [
        "",
        "| streams | time to first event added to direct, p50 ms: nginx | Sluicegate | gap between events p99 ms: direct | nginx | Sluicegate |",
        "|---|---|---|---|---|---|",
    ]
    for name, by in results.items():
        if SCENARIOS[name][1] != "event":
            continue
        direct = by["direct"]
        added = {
            target: f"{(by[target]['p50_us'] - direct['p50_us']) / 1000:.2f}" for target in ("nginx", "sluicegate")
        }
        gaps = " | ".join(f"{by[target]['gap_p99_us'] / 1000:.2f}" for target in ("direct", "nginx", "sluicegate"))
        lines.append(f"| {name} | {added['nginx']} | {added['sluicegate']} | {gaps} |")
    if memory:
        each = ", ".join(f"{name} {kib:.1f} KiB" for name, kib in memory.items())
        lines.append(f"\nMemory for each of 1,000 open streams: {each}.")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    wanted = [name for name in SCENARIOS if not arguments.only or name in arguments.only.split(",")]
    subprocess.run(BUILD, cwd=ROOT, check=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
    running = []
    try:
        upstream = Process([str(LOAD), "upstream"], directory / "upstream.log")
        running.append(upstream)
        address = wait_for(directory / "upstream.log", r"http://([0-9.:]+)")
        buffered, buffered_at = start_nginx(directory / "nginx", address, "on")
        unbuffered, unbuffered_at = start_nginx(directory / "nginx-sse", address, "off")
        gateway, gateway_at = start_gateway(directory / "gateway", address)
        running += [buffered, unbuffered, gateway]
        time.sleep(1)
        results, memory = {}, {}
        for name in wanted:
            sent, per = SCENARIOS[name]
            nginx = (unbuffered, unbuffered_at) if per == "event" else (buffered, buffered_at)
            targets = {"direct": (None, address), "nginx": nginx, "sluicegate": (gateway, gateway_at)}
            rounds = {target: [] for target in targets}
            for target, (_, at) in targets.items():
                load(at, sent, 0.3)
            for _ in range(arguments.rounds):
                for target, (process, at) in targets.items():
                    rounds[target].append(measure(process, at, sent, arguments.seconds))
            results[name] = {target: summary(seen, per) for target, seen in rounds.items()}
            ours, theirs = results[name]["sluicegate"]["cpu_us"], results[name]["nginx"]["cpu_us"]
            print(f"{name}: nginx {theirs:.2f} µs, sluicegate {ours:.2f} µs = {ours / theirs:.2f}", flush=True)
        if not arguments.only or "memory" in arguments.only:
            # Fresh processes: what a burst left behind is another question, which soak.py answers.
            fresh = start_nginx(directory / "nginx-fresh", address, "off")
            gate = start_gateway(directory / "gateway-fresh", address)
            running += [fresh[0], gate[0]]
            time.sleep(1)
            memory = memory_per_stream({"nginx": fresh, "sluicegate": gate})
    finally:
        for process in running:
            process.stop()
    text = table(results, memory)
    print("\n" + text)
    if arguments.no_save or arguments.only:
        return
    target = ROOT / "benches/results" / datetime.date.today().isoformat()
    target.mkdir(parents=True, exist_ok=True)
    command = "make bench" + (f" ARGS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else "")
    version = subprocess.run([shutil.which("nginx") or "/usr/sbin/nginx", "-v"], stderr=subprocess.PIPE, text=True).stderr
    about = f"{os.cpu_count()} cores, {platform.machine()}, {version.strip()}, {arguments.rounds} rounds of {arguments.seconds} s"
    note = f"\n\n{arguments.note}" if arguments.note else ""
    (target / "table.md").write_text(f"# {target.name}\n\n`{command}`: {about}.\n\n{text}{note}\n")
    (target / "raw.json").write_text(json.dumps({"results": results, "memory_kib": memory}, indent=1) + "\n")


if __name__ == "__main__":
    main()
