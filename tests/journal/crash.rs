//! A process that is killed while it writes, which no code of its own survives: all that was answered is there.

use crate::stage::*;
use futures_util::future::join_all;
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tidegate::*;

const FILE: &str = "TIDEGATE_TEST_JOURNAL";
/// How many resources each record lists, which makes records longer.
const RESOURCES: &str = "TIDEGATE_TEST_RESOURCES";
const CLIENTS: u32 = 50;

/// The child of the tests below: writes until it is killed, and tells what was answered.
#[test]
#[ignore = "is started by the tests below"]
fn child_that_writes() {
    let (Some(path), Ok(resources)) = (env::var_os(FILE), env::var(RESOURCES)) else { return };
    let clients = open(Path::new(&path));
    let queues: Vec<_> = (0..resources.parse().unwrap()).map(|i| format!("queue-{i:04}")).collect();
    block(async {
        for turn in 1..u32::MAX {
            let set = (0..CLIENTS).map(|i| {
                let (clients, queues) = (clients.clone(), &queues);
                async move {
                    let patch = ClientPatch::new().rate_limit(Grant::new().requests_per_min(turn));
                    clients.set(&format!("client-{i}"), patch.allowed_queues(queues)).await.unwrap();
                    println!("\nkept {i} {turn}");
                    // One of them comes and goes.
                    if i == 0 && turn % 2 == 0 {
                        clients.delete("client-0").await.unwrap();
                        println!("\ngone {i} {turn}");
                    }
                }
            });
            join_all(set).await;
        }
    });
}

fn start(scratch: &Scratch, resources: u32) -> (Child, ChildStdout) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_writes", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FILE, scratch.file())
        .env(RESOURCES, resources.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    (child, stdout)
}

/// What the child was answered until it was killed: of each client the last turn, and whether it was deleted then. `each` is
/// told the number of each answer.
fn answers(stdout: ChildStdout, mut each: impl FnMut(usize)) -> BTreeMap<u32, (u32, bool)> {
    let (mut number, mut last) = (0, BTreeMap::new());
    let mut text = BufReader::new(stdout);
    let mut line = String::new();
    // A line that was cut short says nothing.
    while text.read_line(&mut line).unwrap_or(0) > 0 && line.ends_with('\n') {
        let mut words = line.split_ascii_whitespace();
        let (what, numbers) = (words.next(), words.flat_map(str::parse).collect::<Vec<u32>>());
        if let (Some("kept" | "gone"), [client, turn]) = (what, &numbers[..]) {
            last.insert(*client, (*turn, what == Some("gone")));
            number += 1;
            each(number);
        }
        line.clear();
    }
    assert!(number >= 1_000, "only {number} changes were answered");
    last
}

/// Each client is as it was answered last, or as it was to be next.
fn check(scratch: &Scratch, answered: &BTreeMap<u32, (u32, bool)>) {
    let (records, _) = all(&open(&scratch.file()));
    for (client, (turn, gone)) in answered {
        let least = turn + u32::from(*gone);
        match records.get(&format!("client-{client}")) {
            Some(record) => {
                let there = record.own().requests_quota().unwrap().amount();
                assert!(there >= least.into(), "client {client}: {there} is there, not {least}");
            }
            None => assert!(*client == 0 && turn % 2 == 0, "client {client} is missing since turn {turn}"),
        }
    }
}

#[test]
fn killed_while_it_writes_it_keeps_all_that_was_answered() {
    for round in 0..4 {
        let scratch = Scratch::new();
        let (mut child, stdout) = start(&scratch, 0);
        let answered = answers(stdout, |number| {
            if number == 1_000 + 37 * round {
                child.kill().unwrap();
            }
        });
        child.wait().unwrap();
        check(&scratch, &answered);
    }
}

/// It does so every few thousand changes, because these are long.
#[test]
fn killed_while_it_writes_the_file_anew_it_keeps_all_that_was_answered() {
    for _ in 0..3 {
        let scratch = Scratch::new();
        let (mut child, stdout) = start(&scratch, 100);
        let new = scratch.0.join("clients.new");
        let warm = Arc::new(AtomicBool::new(false));
        let watch = warm.clone();
        let killer = thread::spawn(move || {
            while !(watch.load(Relaxed) && new.exists()) && child.try_wait().unwrap().is_none() {
                thread::yield_now();
            }
            let _ = child.kill();
            child.wait().unwrap();
        });
        // The first time that it is written is none of these.
        let answered = answers(stdout, |number| warm.store(number >= 1_000, Relaxed));
        killer.join().unwrap();
        check(&scratch, &answered);
    }
}
