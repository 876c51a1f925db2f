#!/usr/bin/env python3
"""Measures the proxy beside nginx, haproxy and axum-reverse-proxy: `scripts/bench proxy` and `scripts/bench slow` run it.

One worker thread each, the same origin behind all, kept connections, wrk in front. A line of JSON for each case, then a table.
"""
import asyncio
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

QUICK = "--quick" in sys.argv
SLOW = "slow" in sys.argv[1:2]
ROUNDS, SECONDS = (1, 2) if QUICK else (5, 10)
IDLE = 1000 if QUICK else 10000
SLOW_CLIENTS = 200 if QUICK else 2000
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "benches/proxy/target"))
PEERS = str(TARGET / "release" / "proxy-peers")

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  limit_req_zone $binary_remote_addr zone=all:10m rate={rate};
  limit_req_status 429;
  keepalive_requests 1000000000;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      limit_req zone=all{burst};
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend in
  bind 127.0.0.1:{port}
  stick-table type ip size 100k expire 1h store http_req_rate(1h),http_req_cnt
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_cnt(0) gt {most} }}
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(name, port):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"{name} does not listen at {port}")


class Running:
    """A server while it is measured; it is ended by its id."""

    def __init__(self, name, case, origin=0):
        self.port, self.dir = free_port(), tempfile.mkdtemp(prefix="tidegate-bench-")
        if name == "nginx":
            allowed = ("1000000r/s", " burst=1000000 nodelay")
            rate, burst = allowed if case != "refused" else ("1r/m", "")
            conf = NGINX.format(dir=self.dir, rate=rate, burst=burst, origin=origin, port=self.port)
            command = ["nginx", "-e", "/dev/null", "-p", self.dir, "-c", self.write("nginx.conf", conf)]
        elif name == "haproxy":
            most = 1 if case == "refused" else 4_000_000_000
            conf = HAPROXY.format(origin=origin, port=self.port, most=most)
            command = ["haproxy", "-db", "-f", self.write("haproxy.cfg", conf)]
        else:
            command = [PEERS, name, str(self.port), str(origin), case]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(name, self.port)

    def write(self, name, text):
        path = pathlib.Path(self.dir, name)
        path.write_text(text)
        return str(path)

    def rss(self):
        """Of the process and its children, in kB."""
        pids = [self.process.pid]
        children = pathlib.Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
        status = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in pids + children]
        return sum(int(re.search(r"VmRSS:\s+(\d+)", text)[1]) for text in status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT if "proxy-peers" in self.process.args[0] else signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


UNITS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}


def wrk(port, connections, path="/", fields=(), seconds=SECONDS):
    args = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    args += [part for field in fields for part in ("-H", field)]
    out = subprocess.run(args + [f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", out).groups()
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    total = int(re.search(r"(\d+) requests in", out)[1])
    errors = re.search(r"Socket errors: (.*)", out)
    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p99_ms": round(float(number) * UNITS[unit], 3),
        "refused_share": round(int(other[1]) / max(total, 1), 4) if other else 0.0,
        "errors": errors[1] if errors else None,
    }


def tell(**row):
    print(json.dumps(row), flush=True)
    return row


def speeds(origin):
    cases = [
        ("allowed", ["tidegate", "nginx", "haproxy", "axum"], 64, "/", ()),
        ("refused", ["tidegate", "nginx", "haproxy", "axum"], 64, "/", ()),
        ("1 MiB", ["tidegate", "nginx", "haproxy", "axum"], 16, "/big", ()),
        ("full", ["tidegate"], 64, "/", ("X-API-Key: 0123456789abcdef",)),
    ]
    measured = {}
    for _ in range(ROUNDS):
        for case, subjects, connections, path, fields in cases:
            for subject in subjects:
                setting = case if case in ("refused", "full") else "allowed"
                with Running(subject, setting, origin.port) as server:
                    wrk(server.port, connections, path, fields, seconds=1)
                    result = wrk(server.port, connections, path, fields)
                    result["rss_kb"] = server.rss()
                share = result["refused_share"]
                if result["errors"] or (share < 0.99 if case == "refused" else share > 0):
                    sys.exit(f"{subject}, {case}: not what was to be measured: {result}")
                measured.setdefault((case, subject), []).append(result)
    rows = {}
    for (case, subject), results in measured.items():
        middle = {key: statistics.median(r[key] for r in results) for key in ("rate", "p99_ms", "rss_kb")}
        rows[case, subject] = tell(bench="proxy", case=case, subject=subject, **middle)
    return rows


def idle_memory(origin):
    """What a connection takes that was used once and is kept."""
    with Running("tidegate", "allowed", origin.port) as server:
        before, open_ones = server.rss(), []
        for _ in range(IDLE):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                sys.exit("a connection got no answer")
            open_ones.append(client)
        after = server.rss()
        for client in open_ones:
            client.close()
    return tell(bench="proxy", case="idle", connections=IDLE, kb_each=round((after - before) / IDLE, 2), rss_kb=after)


def table(rows, idle):
    rate = lambda case, subject: rows[case, subject]["rate"]
    p99 = lambda subject: rows["allowed", subject]["p99_ms"]
    own = rows["allowed", "tidegate"]
    goals = [
        ("allowed / nginx", rate("allowed", "tidegate") / rate("allowed", "nginx"), ">=", 0.9),
        ("allowed / haproxy", rate("allowed", "tidegate") / rate("allowed", "haproxy"), ">=", 1.0),
        ("allowed p99 / nginx's", p99("tidegate") / p99("nginx"), "<=", 1.0),
        ("refused / nginx", rate("refused", "tidegate") / rate("refused", "nginx"), ">=", 1.0),
        ("refused / axum-reverse-proxy", rate("refused", "tidegate") / rate("refused", "axum"), ">=", 8.0),
        ("1 MiB / nginx", rate("1 MiB", "tidegate") / rate("1 MiB", "nginx"), ">=", 1.5),
        ("full / allowed", rate("full", "tidegate") / rate("allowed", "tidegate"), ">=", 0.85),
        ("resident at 64 connections, MB, the limiter's 4 included", own["rss_kb"] / 1000, "<=", 14),
        (f"kB a connection, {IDLE} idle", idle["kb_each"], "<=", 12),
    ]
    print(f"\n{'case':<10}{'subject':<12}{'requests/s':>12}{'p99 ms':>10}{'MB':>8}")
    for (case, subject), row in rows.items():
        print(f"{case:<10}{subject:<12}{row['rate']:>12.0f}{row['p99_ms']:>10.2f}{row['rss_kb'] / 1000:>8.1f}")
    print()
    for name, value, relation, goal in goals:
        met = value >= goal if relation == ">=" else value <= goal
        print(f"{'met ' if met else 'MISS'} {name}: {value:.2f} (goal {relation} {goal})")


async def slow_client(kind, port, stop):
    """One that takes its time until it is told to stop, and comes again when it is thrown out."""
    requests = {
        "head": b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        "body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        "reader": b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
    }
    while not stop.is_set():
        try:
            connection = socket.socket()
            connection.setblocking(False)
            if kind == "reader":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(connection, requests[kind])
            while not stop.is_set():
                await asyncio.sleep(1)
                try:
                    if kind == "reader" and not connection.recv(1):
                        break
                    if kind != "reader":
                        connection.send(b"a")
                except BlockingIOError:
                    pass
        except OSError:
            await asyncio.sleep(0.1)
        finally:
            connection.close()


async def slow_kind(kind, origin):
    with Running("tidegate", "allowed", origin.port) as server:
        quiet = wrk(server.port, 64)
        before, stop = server.rss(), asyncio.Event()
        clients = [asyncio.create_task(slow_client(kind, server.port, stop)) for _ in range(SLOW_CLIENTS)]
        await asyncio.sleep(2)
        measuring = asyncio.get_running_loop().run_in_executor(None, wrk, server.port, 64)
        loud, most = None, before
        while loud is None:
            done, _ = await asyncio.wait([measuring], timeout=0.2)
            most = max(most, server.rss())
            loud = measuring.result() if done else None
        stop.set()
        await asyncio.gather(*clients)
    return tell(
        bench="slow", case=kind, clients=SLOW_CLIENTS, p99_ms=quiet["p99_ms"], p99_among_slow_ms=loud["p99_ms"],
        ratio=round(loud["p99_ms"] / quiet["p99_ms"], 2), rate=quiet["rate"], rate_among_slow=loud["rate"],
        not_2xx=loud["refused_share"], errors=loud["errors"], kb_each=round((most - before) / SLOW_CLIENTS, 1),
    )


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with Running("origin", "-") as origin:
        if SLOW:
            rows = [asyncio.run(slow_kind(kind, origin)) for kind in ("head", "body", "reader")]
            print(f"\n{'slow':<8}{'p99 ms':>8}{'among slow':>12}{'ratio':>7}{'kB each':>9}  goal: ratio <= 2")
            for r in rows:
                print(f"{r['case']:<8}{r['p99_ms']:>8}{r['p99_among_slow_ms']:>12}{r['ratio']:>7}{r['kb_each']:>9}")
        else:
            rows = speeds(origin)
            table(rows, idle_memory(origin))


main()
