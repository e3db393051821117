#!/usr/bin/env python3
"""Resident memory over a million requests and 100,000 streams whose clients leave."""

import argparse
import pathlib
import subprocess
import tempfile
import time

from run import LOAD, ROOT, Process, load, start_gateway, wait_for


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--aborts", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=10)
    arguments = parser.parse_args()
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--workspace"],
        cwd=ROOT,
        check=True,
    )
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-soak-"))
    upstream = Process([str(LOAD), "upstream"], directory / "upstream.log")
    gateway = None
    try:
        address = wait_for(directory / "upstream.log", r"http://([0-9.:]+)")
        gateway, at = start_gateway(directory / "gateway", address)
        time.sleep(1)
        for name, total, more in [
            ("requests", arguments.requests, []),
            ("aborted streams", arguments.aborts, ["--events", "1000", "--pace", "5", "--abort"]),
        ]:
            share = total // arguments.parts
            for part in range(arguments.parts):
                seen = load(at, ["--connections", "64", "--requests", str(share), *more], 600)
                if seen["errors"]:
                    raise SystemExit(f"{seen['errors']} errors")
                time.sleep(1.5)
                print(f"{(part + 1) * share} {name}: RSS {gateway.rss()} KiB", flush=True)
    finally:
        upstream.stop()
        if gateway:
            gateway.stop()


if __name__ == "__main__":
    main()
