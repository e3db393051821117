#!/usr/bin/env python3
"""What the cache costs and what it saves: hits against nginx, misses against no cache, memory by entry.

Interleaved in one run, as run.py does: every target has its turn in every round, and figures are
medians of the rounds. CPU is user and system time of the one process named, per request it served.
Answers are those of `sluicegate-load upstream`: 531 bytes of JSON, or a stream of 16 events. The upstream
is of `kind: openai`, since answers of an Ollama whose models have no digest are not kept.

- **Hits**: equal requests of 1 KB on 64 connections or 1: *whole* from `sluicegate-load`; *stream* from
  a client in this file; both with a temperature of 0. nginx says `return 200` with the same body and
  content type. *memory* is the cache in process, *copies* is a real Redis on a Unix socket whose answers
  the gateway has copies of, *unix* and *tcp* are one that is asked for every answer (`memory: 0B`), on a
  Unix socket and on loopback. "ratio" is CPU over nginx's. "Redis CPU" is the time of redis-server per request. With 1 connection everything
  runs on one core, as one thing happens at a time: whether two processes share a core by chance would
  else change times severalfold. So an exchange takes what all who have a part in it compute.
- **Round trips**: p50 on one connection. "added" is a hit with Redis less a hit in process. "GET"
  is `redis-benchmark -c 1` with a GET of the very entry: a client in C, since a loop in Python would
  take longer than Redis. A hit that asks Redis asks a GET and a HMGET in one round trip.
- **Misses**: other prompts each time, `"temperature":0`, from a client in this file (64 connections)
  in front of the same upstream; nginx is a plain reverse proxy. "added" is CPU over that of `policy:
  off`. *room*: 2 GiB, nothing is evicted. *full*: the 64 MiB of the default, filled before, so that
  each answer kept makes others leave. *no-cache*: nothing is looked up, the answer is kept. *hot*:
  a temperature of 0.7, so that the cache has nothing to do with it. *unix*: kept in Redis.
- **Entries**: a gateway each for 1,000, 10,000 and 100,000 answers (2 GiB, one hour). RSS is read after
  2,000 answers that are not kept (before), after the fill, after each was given once as JSON, and once
  as a stream: replays are rendered when first wanted and stay. "counted" is what the gateway thinks
  they take (`sluicegate_cache_bytes`). Hits are of random entries, from the client in this file.

Usage: cache.py [--rounds N] [--seconds S] [--only hits,misses,entries] [--note TEXT] [--no-save];
results go to benches/results/<date>/cache.md.
"""

import argparse
import csv
import datetime
import itertools
import os
import pathlib
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import run

PARTS = ["hits", "misses", "entries"]
# Makes the request one to keep.
KEPT = ["--temperature", "0"]
STREAM = '"stream":true,"events":16,'
CONNECTIONS = [64, 1]
SIZES = [1_000, 10_000, 100_000]
ROOMY = "ttl: 1h, exact: { memory: 2GiB }"
FILLED = 64_000

STATIC = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
worker_processes 1; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  keepalive_requests 100000000;
{servers}}}
"""
SERVER = """  server {{
    listen 127.0.0.1:{port}; default_type {type};
    location / {{ return 200 "{body}"; }}
  }}
"""


# Requests and the client that sends them


def request(text, temperature=0, more="", headers=""):
    """A chat request of 1 KB whose prompt begins with `text`."""
    body = f'{{{more}"messages":[{{"role":"user","content":"{text:x<900}"}}],"temperature":{temperature},"model":"m"}}'
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        "Accept: application/json\r\nUser-Agent: OpenAI/Python 2.54.0\r\nAuthorization: Bearer unused\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def numbered(numbers, **options):
    """A request for each number, the same one for the same number."""
    before, after = request("NUMBER--", **options).split(b"NUMBER--")
    return (b"%b%08d%b" % (before, number, after) for number in numbers)


LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def is_whole(answer):
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = LENGTH.search(answer, 0, head)
    return len(answer) >= head + 4 + int(length.group(1)) if length else answer.endswith(b"\r\n0\r\n\r\n")


def connect(at, count):
    host, port = at.rsplit(":", 1)
    found = {}
    for _ in range(count):
        one = socket.create_connection((host, int(port)))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found[one.fileno()] = one
    return found


def drive(at, requests, seconds=600.0, connections=64):
    """Sends `requests`, one at a time on each connection, until they or the seconds are at an end."""
    requests, links, poll = iter(requests), connect(at, connections), select.epoll()
    began, answers, hits, errors, times = {}, dict.fromkeys(links, b""), 0, 0, []
    start = time.monotonic()
    until = start + seconds

    def send(link):
        following = next(requests, None) if time.monotonic() < until else None
        if following:
            began[link] = time.monotonic()
            links[link].sendall(following)

    for link in links:
        poll.register(link, select.EPOLLIN)
        send(link)
    while began:
        for link, _ in poll.poll():
            part = links[link].recv(65536)
            if not part:
                sys.exit(f"{at} closed a connection")
            answer = answers[link] + part
            if not is_whole(answer):
                answers[link] = answer
                continue
            answers[link] = b""
            times.append(time.monotonic() - began.pop(link))
            hits += b"x-cache: hit" in answer
            errors += not answer.startswith(b"HTTP/1.1 200")
            send(link)
    took = time.monotonic() - start
    for link in links.values():
        link.close()
    if errors:
        sys.exit(f"{at}: {errors} errors")
    times.sort()
    return {
        "requests": len(times), "seconds": took, "hits": hits, "rss_kib": 0, "gap_p99_us": 0,
        "p50_us": times[len(times) // 2] * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6,
    }


def driven(process, at, requests, seconds=600.0, connections=64):
    """As `drive`, with the CPU time of `process`."""
    before = process.cpu()
    seen = drive(at, requests, seconds, connections)
    seen["cpu"] = process.cpu() - before
    return seen


def answer_of(at, wanted):
    """Head and body of the answer to one request, as they are on the wire."""
    (link,) = connect(at, 1).values()
    with link:
        link.sendall(wanted)
        answer = b""
        while not is_whole(answer):
            answer += link.recv(65536)
    return answer.split(b"\r\n\r\n", 1)


def content_type(head):
    return re.search(rb"\r\ncontent-type: *([^\r]+)", head, re.IGNORECASE).group(1).decode()


# Processes


class Bench:
    """What was started, and the upstream of all."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
        self.running = []
        log = self.directory / "upstream.log"
        self.start([str(run.LOAD), "upstream"], log)
        self.upstream = run.wait_for(log, r"http://([0-9.:]+)")

    def start(self, arguments, log):
        self.running.append(run.Process(arguments, log))
        return self.running[-1]

    def gateway(self, name, cache):
        """A gateway with `cache` in its configuration, its address and the one of its metrics."""
        directory = self.directory / name
        directory.mkdir()
        (directory / "config.yaml").write_text(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
            f"upstreams: {{ host: {{ url: 'http://{self.upstream}', kind: openai }} }}\n"
            f"cache: {{ {cache} }}\n"
        )
        log = directory / "log"
        process = self.start([str(run.GATEWAY), "serve", "--config", str(directory / "config.yaml")], log)
        process.metrics = "http://" + run.wait_for(log, r"admin +http://([0-9.:]+)") + "/metrics"
        return process, run.wait_for(log, r"data +http://([0-9.:]+)")

    def proxy(self, name):
        """nginx as a plain reverse proxy."""
        process, at = run.start_nginx(self.directory / name, self.upstream, "on")
        self.running.append(process)
        return process, at

    def static(self, name, bodies):
        """nginx that says each of `bodies`, (content type, bytes), at an address of its own."""
        directory = self.directory / name
        directory.mkdir()
        ports = [run.free_port() for _ in bodies]
        servers = "".join(
            SERVER.format(port=port, type=kind, body=quoted(body)) for port, (kind, body) in zip(ports, bodies)
        )
        config = directory / "nginx.conf"
        config.write_text(STATIC.format(dir=directory, servers=servers))
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        process = self.start([nginx, "-c", str(config), "-p", str(directory)], directory / "log")
        for port in ports:
            self.wait_for(("127.0.0.1", port), socket.AF_INET)
        return process, [f"127.0.0.1:{port}" for port in ports]

    def redis(self):
        """A Redis that keeps nothing on disk, on a Unix socket and on loopback."""
        path, port = self.directory / "redis.sock", run.free_port()
        arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path)]
        arguments += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        process = self.start(arguments, self.directory / "redis.log")
        self.wait_for(str(path), socket.AF_UNIX)
        return process, path, port

    def wait_for(self, address, family):
        for _ in range(200):
            with socket.socket(family) as probe:
                if probe.connect_ex(address) == 0:
                    return
            time.sleep(0.02)
        sys.exit(f"nothing at {address}")

    def pin(self, cores):
        """Lets everything here run on `cores` only, this program and the clients it starts included."""
        os.sched_setaffinity(0, cores)
        for process in self.running:
            for thread in os.listdir(f"/proc/{process.child.pid}/task"):
                os.sched_setaffinity(int(thread), cores)

    def stop(self):
        for process in self.running:
            process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def quoted(body):
    """`body` within quotes of nginx's configuration."""
    text = body.decode().replace("\\", "\\\\").replace('"', '\\"')
    if "$" in text or len(text) > 4000:
        sys.exit("nginx cannot say this: " + text)
    return text.replace("\r", "\\r").replace("\n", "\\n")


def metric(process, name):
    with urllib.request.urlopen(process.metrics) as page:
        found = re.search(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", page.read().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def interleaved(rounds, targets, measure):
    """The summary for each of `targets`, which `measure` was asked about in turn."""
    seen = {name: [] for name in targets}
    for _ in range(rounds):
        for name, target in targets.items():
            seen[name].append(measure(name, target))
    found = {name: run.summary(all_, "request") for name, all_ in seen.items()}
    for name, all_ in seen.items():
        found[name]["redis_us"] = sum(one.get("redis", 0) for one in all_) / sum(one["requests"] for one in all_) * 1e6
    return found


def table(heads, rows):
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *("| " + " | ".join(row) + " |" for row in rows), ""]


def rate_and_tail(seen):
    return [f"{seen['rate']:.0f}", f"{seen['p50_us'] / 1000:.3f} / {seen['p99_us'] / 1000:.2f}"]


# Hits


def whole(process, at, connections, seconds):
    return run.measure(process, at, [*KEPT, "--connections", str(connections)], seconds)


def stream(process, at, connections, seconds):
    # Replays have a Content-Length; `sluicegate-load` knows streams in chunks alone.
    return driven(process, at, itertools.repeat(request("a hit", more=STREAM)), seconds, connections)


SHAPES = {"whole": (whole, ""), "stream": (stream, STREAM)}


def replay(at, more):
    """Content type and body of a hit, once all that is asked for later is kept."""
    run.load(at, [*KEPT, "--connections", "1", "--requests", "2"], 5)
    ask = request("a hit", more=more)
    answer_of(at, ask)
    time.sleep(0.2)
    head, body = answer_of(at, ask)
    if b"x-cache: hit" not in head:
        sys.exit(f"no hit at {at}: {head}")
    return content_type(head), body


def get_p50(path, where, count):
    """p50 of a GET of an entry by `redis-benchmark`, in µs."""
    scan = ["redis-cli", "-s", str(path), "--scan", "--pattern", "sluicegate:cache:1:*"]
    key = subprocess.run(scan, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0]
    command = ["redis-benchmark", *where, "-c", "1", "-n", str(count), "--csv", "GET", key]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    (row,) = csv.DictReader(lines[-2:])
    return float(row["p50_latency_ms"]) * 1000


def hits(bench, arguments):
    all_cores = os.sched_getaffinity(0)
    redis, path, port = bench.redis()
    gateways = {
        "memory": bench.gateway("memory", "policy: deterministic"),
        "copies": bench.gateway("copies", f"exact: {{ redis: 'redis+unix://{path}' }}"),
        "unix": bench.gateway("unix", f"exact: {{ redis: 'redis+unix://{path}', memory: 0B }}"),
        "tcp": bench.gateway("tcp", f"exact: {{ redis: 'redis://127.0.0.1:{port}', memory: 0B }}"),
    }
    time.sleep(1)
    bodies = {shape: [replay(at, more) for _, at in gateways.values()][0] for shape, (_, more) in SHAPES.items()}
    nginx, ports = bench.static("static", list(bodies.values()))
    rows, singles, gets = [], {}, {"copies": [], "unix": [], "tcp": []}
    wheres = {"copies": ["-s", str(path)], "unix": ["-s", str(path)], "tcp": ["-p", str(port)]}
    for (shape, (send, _)), nginx_at in zip(SHAPES.items(), ports):
        targets = {"nginx": (nginx, nginx_at), **gateways}
        for connections in CONNECTIONS:
            bench.pin(all_cores if connections > 1 else {max(all_cores)})

            def measure(name, target, seconds=arguments.seconds):
                before = redis.cpu()
                seen = send(*target, connections, seconds)
                seen["redis"] = redis.cpu() - before
                if name in gets and shape == "whole" and connections == 1:
                    gets[name].append(get_p50(path, wheres[name], int(seconds * 5_000)))
                return seen

            for name, target in targets.items():
                measure(name, target, 0.3)
            found = interleaved(arguments.rounds, targets, measure)
            if connections == 1 and shape == "whole":
                singles = found
            base = found["nginx"]["cpu_us"]
            for name, seen in found.items():
                over = f"{seen['redis_us']:.1f}" if name in gets else ""
                rows.append([f"{shape}, {connections}", name, f"{seen['cpu_us']:.1f}", f"**{seen['cpu_us'] / base:.2f}**", over, *rate_and_tail(seen)])
            print(f"hits, {shape}, {connections}: " + ", ".join(f"{name} {seen['cpu_us']:.1f} µs" for name, seen in found.items()), flush=True)
    bench.pin(all_cores)
    looked_up(gateways["memory"][0])
    sizes = ", ".join(f"{shape} {len(body)} bytes" for shape, (_, body) in bodies.items())
    lines = [f"Bodies on the wire: {sizes}.", ""]
    lines += table(["hits, connections", "target", "CPU µs", "ratio", "Redis CPU µs", "req/s", "p50 / p99 ms"], rows)
    trips = []
    for name, all_ in gets.items():
        get, hit, added = sorted(all_)[len(all_) // 2], singles[name]["p50_us"], singles[name]["p50_us"] - singles["memory"]["p50_us"]
        trips.append([name, f"{singles['memory']['p50_us']:.0f}", f"{hit:.0f}", f"{added:.0f}", f"{get:.0f}", f"**{hit / get:.2f}**", f"{added / get:.2f}"])
    heads = ["one connection, p50 µs", "hit in process", "hit with Redis", "added", "GET", "hit / GET", "added / GET"]
    return lines + table(heads, trips)


def looked_up(process):
    """Stops unless nearly all of what a gateway was asked were hits."""
    with urllib.request.urlopen(process.metrics) as page:
        counts = re.findall(r"^sluicegate_cache_lookups_total{(.*)} ([0-9.e+]+)$", page.read().decode(), re.MULTILINE)
    hit = sum(float(count) for labels, count in counts if '"hit' in labels)
    if hit < 0.999 * sum(float(count) for _, count in counts):
        sys.exit(f"not all hits: {counts}")


# Misses


def misses(bench, arguments):
    redis, path, _ = bench.redis()
    targets = {
        "nginx": bench.proxy("proxy"),
        "policy: off": bench.gateway("off", "policy: 'off'"),
        "hot": bench.gateway("hot", "policy: deterministic"),
        "room": bench.gateway("room", ROOMY),
        "full": bench.gateway("full", "policy: deterministic"),
        "no-cache": bench.gateway("no-cache", ROOMY),
        "unix": bench.gateway("miss-unix", f"ttl: 1h, exact: {{ redis: 'redis+unix://{path}' }}"),
    }
    options = {"hot": {"temperature": 0.7}, "no-cache": {"headers": "Cache-Control: no-cache\r\n"}}
    counters = {name: itertools.count() for name in targets}
    time.sleep(1)

    def measure(name, target, seconds=arguments.seconds):
        before = redis.cpu()
        seen = driven(*target, numbered(counters[name], **options.get(name, {})), seconds)
        if seen["hits"]:
            sys.exit(f"{name}: {seen['hits']} hits")
        return {**seen, "redis": redis.cpu() - before}

    for name, target in targets.items():
        measure(name, target, 0.5)
    drive(targets["full"][1], numbered(itertools.islice(counters["full"], FILLED)))
    time.sleep(1)
    if not metric(targets["full"][0], "sluicegate_cache_evictions_total"):
        sys.exit("the full cache is not full")
    found = interleaved(arguments.rounds, targets, measure)
    off, nginx = found["policy: off"]["cpu_us"], found["nginx"]["cpu_us"]
    rows = []
    for name, seen in found.items():
        cpu = seen["cpu_us"]
        added = f"{cpu - off:.1f}" if name != "nginx" else ""
        over = f"{seen['redis_us']:.1f}" if name == "unix" else ""
        rows.append([name, f"{cpu:.1f}", added, f"{cpu / off:.2f}", f"**{cpu / nginx:.2f}**", over, *rate_and_tail(seen)])
    print("misses: " + ", ".join(f"{name} {seen['cpu_us']:.1f} µs" for name, seen in found.items()), flush=True)
    entries = {name: (metric(targets[name][0], "sluicegate_cache_entries"), next(counters[name])) for name in ["room", "full", "no-cache", "hot"]}
    kept = ", ".join(f"{name} {have:.0f} of {asked}" for name, (have, asked) in entries.items())
    heads = ["misses", "CPU µs", "added", "against off", "against nginx", "Redis CPU µs", "req/s", "p50 / p99 ms"]
    return [*table(heads, rows), f"Entries held at the end, of answers given: {kept}.", ""]


# Entries


def grown(process):
    """RSS in KiB, once the gateway has come to rest."""
    time.sleep(1.5)
    return process.rss()


def filled(bench, count):
    """A gateway that holds `count` answers, and what it took on the way."""
    process, at = bench.gateway(f"entries-{count}", ROOMY)
    time.sleep(1)
    drive(at, numbered(range(2_000), temperature=0.7))
    rss = [grown(process)]
    drive(at, numbered(range(count)))
    rss.append(grown(process))
    held = metric(process, "sluicegate_cache_entries")
    if held < 0.99 * count:
        sys.exit(f"{held} entries of {count}")
    first = driven(process, at, numbered(range(count)))
    rss.append(grown(process))
    stream = driven(process, at, numbered(range(count), more='"stream":true,'))
    rss.append(grown(process))
    if first["hits"] < count or stream["hits"] < count:
        sys.exit(f"{first['hits']} and {stream['hits']} hits of {count}")
    return {
        "target": (process, at),
        "rss": rss,
        "counted": metric(process, "sluicegate_cache_bytes"),
        # Of fewer the clock's steps of 10 ms say nothing.
        "first": f"{first['cpu'] / count * 1e6:.1f}" if count >= 10_000 else "",
    }


def entries(bench, arguments):
    sizes = {f"{count:,}": (count, filled(bench, count)) for count in SIZES}
    _, one = sizes[f"{SIZES[0]:,}"]
    head, body = answer_of(one["target"][1], next(numbered([0])))
    nginx, (nginx_at,) = bench.static("static-entries", [(content_type(head), body)])
    targets = {"nginx": (nginx, nginx_at), **{name: taken["target"] for name, (_, taken) in sizes.items()}}
    chance = random.Random(1)

    def measure(name, target):
        count = sizes[name][0] if name in sizes else SIZES[0]
        seen = driven(*target, numbered(iter(lambda: chance.randrange(count), None)), arguments.seconds)
        if name in sizes and seen["hits"] < seen["requests"]:
            sys.exit(f"{name}: {seen['hits']} hits of {seen['requests']}")
        return seen

    for name, target in targets.items():
        measure(name, target)
    found = interleaved(arguments.rounds, targets, measure)
    nginx_us = found["nginx"]["cpu_us"]
    rows = []
    for name, (count, taken) in sizes.items():
        before, *after = taken["rss"]
        each = [f"{kib / 1024:.1f} ({(kib - before) / count:.2f})" for kib in after]
        rows.append([name, f"{before / 1024:.1f}", *each, f"{taken['counted'] / count / 1024:.2f}"])
    print("entries: " + ", ".join(f"{name} {seen['cpu_us']:.1f} µs" for name, seen in found.items()), flush=True)
    lines = table(["entries", "RSS before, MiB", "filled (KiB each)", "given as JSON", "and as streams", "counted, KiB each"], rows)
    rows = [["nginx", f"{nginx_us:.1f}", "**1.00**", "", *rate_and_tail(found["nginx"])]]
    for name, (_, taken) in sizes.items():
        seen = found[name]
        rows.append([name, f"{seen['cpu_us']:.1f}", f"**{seen['cpu_us'] / nginx_us:.2f}**", taken["first"], *rate_and_tail(seen)])
    return lines + table(["hits of random entries", "CPU µs", "ratio", "first time, CPU µs", "req/s", "p50 / p99 ms"], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    subprocess.run(run.BUILD, cwd=run.ROOT, check=True)
    wanted = arguments.only.split(",") if arguments.only else PARTS
    lines, before = [], os.getloadavg()[0]
    for name, measured in {"hits": hits, "misses": misses, "entries": entries}.items():
        if name not in wanted:
            continue
        bench = Bench()
        try:
            lines += measured(bench, arguments)
        finally:
            bench.stop()
    about = f"{os.cpu_count()} cores, load {before:.2f} before, {arguments.rounds} rounds of {arguments.seconds} s"
    text = "\n".join([*lines, *([arguments.note] if arguments.note else [])]).strip()
    print("\n" + text)
    if arguments.no_save or arguments.only:
        return
    target = run.ROOT / "benches/results" / datetime.date.today().isoformat()
    target.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python3 benches/harness/cache.py", *sys.argv[1:]])
    (target / "cache.md").write_text(f"# Cache, {target.name}\n\n`{command}`: {about}.\n\n{text}\n")


if __name__ == "__main__":
    main()
