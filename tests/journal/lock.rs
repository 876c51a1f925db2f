//! Only one process writes a journal.

use crate::stage::*;
use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};
use tidegate::*;

const FILE: &str = "TIDEGATE_TEST_LOCKED";

/// The child of the test below: has a journal open until its input ends.
#[test]
#[ignore = "is started by the test below"]
fn child_that_has_it_open() {
    let Some(path) = env::var_os(FILE) else { return };
    let _clients = open(Path::new(&path));
    println!("\nopen");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[track_caller]
fn is_in_use(path: &Path) {
    let error = MemoryRegistry::open(path).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("is open already"), "{error}");
}

#[test]
fn what_another_process_has_open_is_left_alone_until_that_ends() {
    let scratch = Scratch::new();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "lock::child_that_has_it_open", "--ignored", "--nocapture"])
        .env(FILE, scratch.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "open"));
    let before = fs::read(scratch.file()).unwrap();
    is_in_use(&scratch.file());
    assert_eq!(fs::read(scratch.file()).unwrap(), before);
    // However it ends.
    child.kill().unwrap();
    child.wait().unwrap();
    block(open(&scratch.file()).set("ann", ClientPatch::new())).unwrap();
}

#[test]
fn it_is_open_once_until_the_last_handle_is_gone() {
    let scratch = Scratch::new();
    let first = open(&scratch.file());
    is_in_use(&scratch.file());
    let limiter = Limiter::builder(Policy::new()).clients(first.clone()).build().unwrap();
    drop(first);
    is_in_use(&scratch.file());
    drop(limiter);
    drop(open(&scratch.file()));
}

/// The file that was locked at first is not there any more then.
#[test]
fn it_stays_locked_when_it_was_written_anew() {
    let scratch = Scratch::new();
    let clients = open(&scratch.file());
    let queues: Vec<_> = (0..1_000).map(|i| format!("{i:0250}")).collect();
    let (mut size, mut turns) = (0, 0);
    while fs::metadata(scratch.file()).unwrap().len() >= size {
        size = fs::metadata(scratch.file()).unwrap().len();
        block(clients.set("ann", ClientPatch::new().allowed_queues(&queues).enabled(turns % 2 == 0)))
            .unwrap();
        turns += 1;
        assert!(turns < 100, "it only grows");
    }
    is_in_use(&scratch.file());
}

#[cfg(unix)]
#[test]
fn links_to_it_lead_to_the_same_lock() {
    let scratch = Scratch::new();
    let link = scratch.0.join("link");
    drop(open(&scratch.file()));
    std::os::unix::fs::symlink(scratch.file(), &link).unwrap();
    let first = open(&link);
    is_in_use(&scratch.file());
    block(first.set("ann", ClientPatch::new())).unwrap();
    drop(first);
    assert_eq!(all(&open(&scratch.file())).0.len(), 1);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_lock_that_cannot_be_had_is_no_other_s_doing() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.0.join("clients.lock")).unwrap();
    let error = MemoryRegistry::open(scratch.file()).unwrap_err();
    assert!(matches!(&error, JournalError::Io { path, .. } if path.ends_with("clients.lock")), "{error}");
    for path in ["", ".."] {
        assert!(matches!(MemoryRegistry::open(path).unwrap_err(), JournalError::Io { .. }), "{path:?}");
    }
    // What a process that has ended left behind is no obstacle.
    fs::remove_dir(scratch.0.join("clients.lock")).unwrap();
    File::create(scratch.0.join("clients.lock")).unwrap();
    drop(open(&scratch.file()));
}
