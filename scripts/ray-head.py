"""What `scripts/ray` does: starts a Ray head and the proxy, tries all that the file limits, and ends both."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ.pop(name, None)

import requests
from ray.job_submission import JobStatus, JobSubmissionClient

# Apps have their port in the script that deploys them.
SERVE = """
import sys
from fastapi import FastAPI
from ray import serve

api = FastAPI()

@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress(api)
class App:
    @api.get("/hello")
    def hello(self):
        return "hello from serve"

serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(App.bind(), name="app", route_prefix="/")
print("app is there")
"""

CLIENT = """
import sys, ray
ray.init(sys.argv[1])

@ray.remote(num_cpus=0)
def double(number):
    return 2 * number

print(ray.get([double.remote(number) for number in range(20)])[-1])
print(len(ray.get(ray.put(b"x" * 3_000_000))))
ray.shutdown()
"""


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def say(what, seen):
    print(f"{what:<44} {seen}", flush=True)


class Head:
    """A Ray head, in a process group of its own."""

    def __init__(self, binaries, scratch):
        self.gcs, self.dashboard, self.agent, self.client, self.app = free_ports(5)
        self.log = open(os.path.join(scratch, "head.log"), "w+")
        command = [
            os.path.join(binaries, "ray"), "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
            f"--port={self.gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}",
            f"--dashboard-agent-listen-port={self.agent}", f"--ray-client-server-port={self.client}",
            "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000", f"--temp-dir={scratch}",
        ]
        # Jobs call `python`, and mean this one.
        env = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def wait(self):
        for _ in range(120):
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.dashboard}/api/version", timeout=2).read()
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.5)
        self.log.seek(0)
        raise SystemExit("Ray does not start:\n" + self.log.read())

    def stop(self):
        end_group(self.process)
        self.log.close()


def end_group(process):
    """Ends what we started, and what that has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(15)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def wait_for(client, job, seconds=90):
    for _ in range(seconds):
        status = client.get_job_status(job)
        if status.is_terminal():
            return status
        time.sleep(1)
    raise AssertionError(f"{job} does not end")


def submissions(url, scratch, head):
    """A job with its state and its logs, and as many more as are refused."""
    client = JobSubmissionClient(url)
    command = "python -c \"import time\nfor n in range(3): print('line', n, flush=True); time.sleep(1)\""
    job = client.submit_job(entrypoint=command)
    lines = "".join(asyncio.run(collect(client.tail_job_logs(job))))
    assert "line 0" in lines and "line 2" in lines, lines
    say("job's log, tailed over WebSocket", re.findall("line .", lines)[-3:])
    status = wait_for(client, job)
    assert status == JobStatus.SUCCEEDED, status
    assert "line 2" in client.get_job_logs(job)
    say("job", status.value)

    package = os.path.join(scratch, "package")
    os.makedirs(package)
    with open(os.path.join(package, "main.py"), "w") as file:
        file.write("print('from a package')")
    job = client.submit_job(entrypoint="python main.py", runtime_env={"working_dir": package})
    assert wait_for(client, job) == JobStatus.SUCCEEDED
    assert "from a package" in client.get_job_logs(job)
    say("job with an uploaded package", "SUCCEEDED")

    serve = os.path.join(scratch, "serve")
    os.makedirs(serve)
    with open(os.path.join(serve, "main.py"), "w") as file:
        file.write(SERVE)
    job = client.submit_job(entrypoint=f"python main.py {head.app}", runtime_env={"working_dir": serve})
    assert wait_for(client, job) == JobStatus.SUCCEEDED, client.get_job_logs(job)

    for number in range(1, 10):
        try:
            client.submit_job(entrypoint="true")
        except RuntimeError as error:
            assert "429" in str(error), error
            say(f"submission {number + 3}, as Ray's client tells it", str(error)[:200])
            break
    else:
        raise AssertionError("nothing was refused")
    answer = requests.post(f"{url}/api/jobs/", json={"entrypoint": "true"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1, answer
    say("the same, raw", f"429, Retry-After: {answer.headers['retry-after']}, {answer.headers['ratelimit']}")
    # Others are not concerned, nor is what is not a submission.
    answer = requests.post(f"{url}/api/jobs/", json={"entrypoint": "true"}, headers={"x-api-key": "another"})
    assert answer.status_code == 200, answer.text
    assert client.list_jobs()
    say("another client, and other requests", "pass")


async def collect(lines):
    return [line async for line in lines]


def tails(url):
    """No more log tails at once than there may be, though each is upgraded to a WebSocket."""
    import aiohttp

    async def run():
        headers = {"x-api-key": "tailer"}
        async with aiohttp.ClientSession(headers=headers) as session:
            submitted = await session.post(f"{url}/api/jobs/", json={"entrypoint": "sleep 60"})
            job = (await submitted.json())["submission_id"]
            open_tails = []
            while True:
                try:
                    open_tails.append(await session.ws_connect(f"{url}/api/jobs/{job}/logs/tail"))
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 429, error
                    break
                assert len(open_tails) < 20
            await open_tails.pop().close()
            for _ in range(50):
                try:
                    again = await session.ws_connect(f"{url}/api/jobs/{job}/logs/tail")
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.2)
            else:
                raise AssertionError("a tail that is closed frees no place")
            for tail in [*open_tails, again]:
                await tail.close()
            await session.post(f"{url}/api/jobs/{job}/stop")
            return len(open_tails) + 1

    say("log tails at once", asyncio.run(run()))


def dashboard(url):
    page = requests.get(url + "/")
    assert page.status_code == 200 and "<div id=\"root\">" in page.text, page.text[:500]
    assets = re.findall(r"(?:src|href)=\"\.?(/?static/[^\"]+)", page.text)
    assert assets
    for asset in assets:
        answer = requests.get(f"{url}/{asset.lstrip('/')}")
        assert answer.status_code == 200, (asset, answer.status_code)
    polled = {}
    for path in ("/nodes?view=summary", "/api/v0/actors", "/api/v0/tasks", "/api/v0/nodes", "/api/cluster_status"):
        polled[path] = requests.get(url + path).status_code
    assert set(polled.values()) == {200}, polled
    say("dashboard", f"page, {len(assets)} assets, {len(polled)} of its requests")
    answers = [requests.get(url + "/api/v0/actors").status_code for _ in range(30)]
    assert 429 in answers, answers
    say("state API, 30 requests in a row", {code: answers.count(code) for code in sorted(set(answers))})


def ray_client(url):
    address = url.replace("http://", "ray://")
    run = subprocess.run([sys.executable, "-c", CLIENT, address], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["38", "3000000"], run.stdout + run.stderr[-3000:]
    say("Ray Client through gRPC", "20 tasks, an object of 3 MB")


def serve_app(url):
    answers = [requests.get(url + "/hello", headers={"host": "app.example.com"}) for _ in range(3)]
    assert all(answer.status_code == 200 and "hello" in answer.text for answer in answers), answers[0].text
    say("app of Ray Serve", answers[0].text)


def main():
    directory, proxy_binary = sys.argv[1:]
    # Ray's sockets are files whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
        head, proxy = Head(os.path.join(directory, "bin"), scratch), None
        try:
            head.wait()
            upstreams = [f"http://127.0.0.1:{port}" for port in (head.dashboard, head.client, head.app)]
            (port,) = free_ports(1)
            url = f"http://127.0.0.1:{port}"
            command = [proxy_binary, f"127.0.0.1:{port}", "examples/config/ray.toml", *upstreams]
            proxy = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
            assert proxy.stdout.readline().startswith(b"listening")
            submissions(url, scratch, head)
            serve_app(url)
            dashboard(url)
            tails(url)
            ray_client(url)
            print("all is well")
        finally:
            if proxy is not None:
                end_group(proxy)
            head.stop()


main()
