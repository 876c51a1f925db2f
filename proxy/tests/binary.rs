//! The program itself: its command line, its signals, what it prints.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Client, PATIENCE, Upstream};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};
use tokio::io::AsyncWriteExt;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Program {
    child: Child,
    address: SocketAddr,
    errors: BufReader<std::process::ChildStderr>,
}

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn serve(upstream: &Upstream, more: &[&str]) -> Program {
    let upstream = format!("http://{}", upstream.address);
    let mut args = vec!["serve", "--upstream", &upstream, "--listen", "127.0.0.1:0"];
    args.extend(more);
    let mut child = tidegate(&args).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}"));
    Program { address: address.trim().parse().unwrap(), child, errors }
}

impl Program {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn ends(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command says that is to end by itself.
fn output(args: &[&str]) -> (Output, String) {
    let mut child = tidegate(args).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{args:?} goes on");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    (output, errors)
}

#[tokio::test]
async fn it_limits_without_any_file() {
    let upstream = Upstream::ok().await;
    let program = serve(&upstream, &["--limit", "2/minute"]);
    let mut client = Client::connect(program.address).await;
    for status in [200, 200, 429] {
        client.send(GET).await;
        assert_eq!(client.answer().await.status, status);
    }
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_told_apart() {
    let upstream = Upstream::ok().await;
    let program = serve(&upstream, &["--limit", "1/minute", "--trust-proxy", "127.0.0.1"]);
    let mut client = Client::connect(program.address).await;
    for (from, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
    assert!(upstream.seen().contains("x-forwarded-for: 192.0.2.2, 127.0.0.1\r\n"), "{}", upstream.seen());
}

#[tokio::test]
async fn sigterm_ends_it_once_what_runs_is_answered() {
    let upstream = Upstream::ok().await;
    let mut program = serve(&upstream, &["--limit", "100/second"]);
    let mut client = Client::connect(program.address).await;
    client.send(GET).await;
    client.answer().await;
    program.signal("-TERM");
    let mut line = String::new();
    program.errors.read_line(&mut line).unwrap();
    assert!(line.contains("stopping"), "{line}");
    // It is said before it is done.
    loop {
        client.send(GET).await;
        if client.answer().await.field("connection") == Some("close") {
            break;
        }
    }
    drop(client);
    assert!(program.ends().success());
}

#[tokio::test]
async fn under_load_sigterm_leaves_no_request_without_its_answer() {
    let upstream = Upstream::ok().await;
    let mut program = serve(&upstream, &["--limit", "1000000/second", "--threads", "2"]);
    let address = program.address;
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..40)
        .map(|number| {
            let answered = answered.clone();
            tokio::spawn(async move {
                // Until nobody listens any more.
                while let Ok(mut client) = Client::try_connect(address).await {
                    for request in 0..1 + number % 7 {
                        let sent = client.stream.write_all(GET.as_bytes()).await;
                        // The kernel resets connections that were made but not accepted when the socket is closed.
                        if request == 0 && (sent.is_err() || client.is_reset().await) {
                            return;
                        }
                        let answer = client.answer().await;
                        assert_eq!(answer.text(), "ok");
                        answered.fetch_add(1, SeqCst);
                        if answer.field("connection") == Some("close") {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    common::eventually("there is load", || answered.load(SeqCst) > 500).await;
    program.signal("-TERM");
    for client in clients {
        client.await.unwrap();
    }
    assert!(program.ends().success());
}

#[tokio::test]
async fn operators_see_that_it_is_ready_and_then_that_it_stops() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let token = std::env::temp_dir().join(format!("tidegate-token-{}", std::process::id()));
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let file = token.to_str().unwrap();
    let mut program =
        serve(&upstream, &["--limit", "9/second", "--admin", "127.0.0.1:0", "--admin-token-file", file]);
    std::fs::remove_file(&token).unwrap();
    let mut line = String::new();
    program.errors.read_line(&mut line).unwrap();
    let admin: SocketAddr = line.split("operators at http://").nth(1).unwrap().trim().parse().unwrap();
    let get = |path: &'static str, fields: &'static str| async move {
        let mut client = Client::connect(admin).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        client.answer().await
    };
    assert_eq!(get("/readyz", "").await.status, 200);
    assert_eq!(get("/metrics", "").await.status, 401);
    let metrics = get("/metrics", "Authorization: Bearer 0123456789abcdef\r\n").await;
    assert!(metrics.text().contains("tidegate_tracked"), "{}", metrics.text());
    let mut client = Client::connect(program.address).await;
    client.send(GET).await;
    common::eventually("the request runs", || upstream.seen().contains("GET")).await;
    program.signal("-TERM");
    while get("/readyz", "").await.status != 503 {}
    drop(client);
    assert!(program.ends().success());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::new(|mut exchange| async move { exchange.closed().await }).await;
    let mut program = serve(&upstream, &["--limit", "100/second"]);
    let mut client = Client::connect(program.address).await;
    client.send(GET).await;
    common::eventually("the request runs", || upstream.seen().contains("GET")).await;
    program.signal("-INT");
    let mut line = String::new();
    program.errors.read_line(&mut line).unwrap();
    program.signal("-INT");
    assert!(!program.ends().success());
}

#[tokio::test]
async fn no_request_waits_for_an_access_log_that_nobody_reads() {
    let upstream = Upstream::ok().await;
    let mut program = serve(&upstream, &["--limit", "1000000/second", "--access-log", "stdout"]);
    let mut stdout = program.child.stdout.take().unwrap();
    let mut client = Client::connect(program.address).await;
    let long = "a".repeat(4000);
    let request = format!("GET /{long} HTTP/1.1\r\nHost: a\r\nReferer: {long}\r\nUser-Agent: {long}\r\n\r\n");
    // Twice what may wait, and what is on its way then.
    for _ in 0..2000 {
        client.send(&request).await;
        assert_eq!(client.answer().await.status, 200);
    }
    drop(client);
    let reading = std::thread::spawn(move || {
        let mut lines = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut lines).unwrap();
        lines
    });
    program.signal("-TERM");
    assert!(program.ends().success());
    let lines = reading.join().unwrap();
    assert!(lines.lines().all(|line| line.starts_with("{\"time\"") && line.ends_with('}')));
    let written = lines.lines().count();
    assert!((500..2000).contains(&written), "{written}");
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut program.errors, &mut errors).unwrap();
    let lost = errors.lines().find(|line| line.contains("lines of the access log are lost"));
    assert!(lost.is_some_and(|line| line.contains(&(2000 - written).to_string())), "{written}: {errors}");
}

#[test]
fn mistakes_say_how_to_mend_them() {
    let serve = |upstream, limit| output(&["serve", "--upstream", upstream, "--limit", limit]);
    for (upstream, limit, mend) in [
        ("127.0.0.1:8265", "1/second", "http://"),
        ("ftp://127.0.0.1", "1/second", "begin it with http://"),
        ("http://127.0.0.1/path", "1/second", "leave out the path"),
        ("http://user@127.0.0.1", "1/second", "leave out user and password"),
        ("http://127.0.0.1:0", "1/second", "from 1 to 65535"),
        ("http://127.0.0.1:99999", "1/second", "from 1 to 65535"),
        ("http://127.0.0.1:1", "1/fortnight", "fortnight"),
        ("http://127.0.0.1:1", "0/second", "0"),
    ] {
        let (output, errors) = serve(upstream, limit);
        assert!(!output.status.success() && errors.contains(mend), "{upstream} {limit}: {errors}");
    }
    let (output, errors) = output(&[
        "serve",
        "--upstream",
        "http://127.0.0.1:1",
        "--limit",
        "1/second",
        "--trust-proxy",
        "0.0.0.0/0",
    ]);
    assert!(!output.status.success() && errors.contains("every address"), "{errors}");
}

#[test]
fn help_and_version_are_there() {
    let (output, _) = output(&["--version"]);
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(version.trim(), format!("tidegate {}", env!("CARGO_PKG_VERSION")));
    assert!(output.status.success());
}
