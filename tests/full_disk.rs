//! A journal whose disk is full, and one for which there is no file handle left.
#![cfg(all(unix, feature = "journal"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{self, Command},
};
use tidegate::*;

const CHILD: &str = "TIDEGATE_TEST_FULL_DISK";

/// A directory of its own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = env::temp_dir().join(format!("tidegate-{name}-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn file(&self) -> PathBuf {
        self.0.join("clients")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Without a reactor, which would take file handles.
fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(path: &Path) -> Clients {
    Clients::new(MemoryRegistry::open(path).unwrap())
}

fn name(number: usize) -> String {
    format!("client-{number:04}")
}

/// What a child prints that runs one of the ignored tests under these limits of the shell.
fn child(test: &str, path: &Path, limits: &str) -> Vec<String> {
    let output = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| Some(line.strip_prefix("> ")?.to_owned())).collect()
}

/// Deletes clients until one cannot be deleted, and then that one once more.
#[test]
#[ignore = "is started by the test below"]
fn child_that_deletes() {
    let Some(path) = env::var_os(CHILD) else { return };
    let clients = open(Path::new(&path));
    let number = (0..).find(|number| block(clients.delete(&name(*number))).is_err()).unwrap();
    let again = block(clients.delete(&name(number)));
    println!("\n> {number}\n> {}", again.is_err());
}

#[test]
fn what_could_not_be_kept_is_not_answered_when_it_is_asked_for_again() {
    let scratch = Scratch::new("full-disk");
    let clients = open(&scratch.file());
    (0..400).for_each(|number| drop(block(clients.set(&name(number), ClientPatch::new())).unwrap()));
    drop(clients);
    let blocks = fs::metadata(scratch.file()).unwrap().len() / 512 + 3;
    let limits = format!("trap '' XFSZ; ulimit -f {blocks}");
    let [number, refused] = child("child_that_deletes", &scratch.file(), &limits).try_into().unwrap();
    assert!((1..300).contains(&number.parse::<usize>().unwrap()), "{number}");
    let there = block(open(&scratch.file()).get(&name(number.parse().unwrap()))).unwrap().is_some();
    assert_eq!((there, &*refused), (true, "true"), "it was not deleted, and nobody was told that it was");
}

/// Makes large changes until the file is written anew, while a single file handle is left.
#[test]
#[ignore = "is started by the test below"]
fn child_without_handles() {
    let Some(path) = env::var_os(CHILD) else { return };
    let clients = open(Path::new(&path));
    let queues: Vec<_> = (0..1_000).map(|number| format!("{number:0250}")).collect();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    drop(taken.pop());
    for turn in 1..=30 {
        let grant = Grant::new().requests_per_min(turn);
        let patch = ClientPatch::new().allowed_queues(&queues).rate_limit(grant);
        if block(clients.set("ann", patch)).is_ok() {
            println!("\n> {turn}");
        }
    }
    drop(clients);
    drop(taken);
}

#[test]
fn a_file_that_was_written_anew_is_the_one_that_is_written_on() {
    let scratch = Scratch::new("no-handles");
    let kept = child("child_without_handles", &scratch.file(), "ulimit -n 40");
    let size = fs::metadata(scratch.file()).unwrap().len();
    assert!((1..6 << 20).contains(&size), "{size} bytes: it was written anew");
    let ann = block(open(&scratch.file()).get("ann")).unwrap().unwrap();
    let there = ann.own().requests_quota().unwrap().amount().to_string();
    assert_eq!(Some(&there), kept.last(), "the last change that was answered");
}
