//! Clients in a file: what was answered is there after a crash, and a damaged file is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use futures_util::future::join_all;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tidegate::*;

/// A file of its own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let directory = env::temp_dir().join(format!("tidegate-journal-{}-{number}", process::id()));
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

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn open(path: &Path) -> Clients {
    Clients::new(MemoryRegistry::open(path).unwrap())
}

/// Everything that is there.
fn all(clients: &Clients) -> (BTreeMap<String, ClientRecord>, Tiers) {
    let page = block(clients.page(None, 1_000)).unwrap();
    assert!(page.next.is_none());
    let records = page.clients.into_iter().map(|record| (record.client_id().to_owned(), (*record).clone()));
    (records.collect(), (*block(clients.tiers()).unwrap()).clone())
}

#[test]
fn what_was_answered_is_there_when_it_is_opened_again() {
    let scratch = Scratch::new();
    let clients = open(&scratch.file());
    let before = block(async {
        let grant = Grant::new().requests_per_min(9).limit("exports", Quota::per_hour(3));
        let patch = ClientPatch::new().tier("premium").rate_limit(grant.clone()).allowed_queues(["a"]);
        clients.set("ann", patch.webhook_url(Some("https://a.example/".into()))).await.unwrap();
        clients.grant("ann", grant, Duration::from_secs(3600)).await.unwrap();
        let key = clients.issue_key("ann").await.unwrap();
        clients.rotate_key("ann", key.key().prefix(), Duration::from_secs(60)).await.unwrap();
        clients.set("bob", ClientPatch::new()).await.unwrap();
        clients.delete("bob").await.unwrap();
        clients.set_tier("partner", Grant::new().max_concurrent(8)).await.unwrap();
        clients.remove_tier("free").await.unwrap();
        key
    });
    let kept = all(&clients);
    drop(clients);
    let again = open(&scratch.file());
    assert_eq!(all(&again), kept);
    let owner = block(again.owner(before.secret())).unwrap().unwrap();
    assert_eq!(owner.client_id(), "ann", "keys find their client again");
    let text = String::from_utf8_lossy(&fs::read(scratch.file()).unwrap()).into_owned();
    assert!(!text.contains(before.secret()));
}

#[test]
fn tiers_that_were_not_set_are_those_of_the_configuration() {
    let scratch = Scratch::new();
    let tiers = |requests| Tiers::new().with("free", Grant::new().requests_per_min(requests)).unwrap();
    let free = |registry: MemoryRegistry| {
        let clients = Clients::new(registry);
        block(clients.set("ann", ClientPatch::new())).unwrap();
        block(clients.tiers()).unwrap().get("free").unwrap().clone()
    };
    for requests in [1, 2] {
        let registry = MemoryRegistry::open_with_tiers(scratch.file(), tiers(requests)).unwrap();
        assert_eq!(free(registry), Grant::new().requests_per_min(requests));
    }
    let clients = open(&scratch.file());
    block(clients.set_tier("free", Grant::new().requests_per_min(3))).unwrap();
    drop(clients);
    let registry = MemoryRegistry::open_with_tiers(scratch.file(), tiers(4)).unwrap();
    assert_eq!(free(registry), Grant::new().requests_per_min(3));
}

/// A journal of a few changes, and what there was after each of them.
fn example(path: &Path) -> Vec<usize> {
    let clients = open(path);
    let mut ends = vec![fs::metadata(path).unwrap().len() as usize];
    for id in ["ann", "bob", "cid"] {
        block(clients.set(id, ClientPatch::new())).unwrap();
        ends.push(fs::metadata(path).unwrap().len() as usize);
    }
    ends
}

#[test]
fn a_byte_that_is_damaged_is_found_wherever_it_is() {
    let scratch = Scratch::new();
    let ends = example(&scratch.file());
    let whole = fs::read(scratch.file()).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(scratch.file(), &damaged).unwrap();
        let error = MemoryRegistry::open(scratch.file()).unwrap_err();
        let intact = ends.iter().filter(|end| **end <= at).count();
        match &error {
            JournalError::Damaged { intact_bytes, bytes, changes, clients, .. } => {
                assert_eq!(*intact_bytes as usize, ends[intact - 1], "{at}");
                assert_eq!(
                    (*bytes as usize, *changes as usize, *clients),
                    (whole.len(), intact - 1, intact - 1)
                );
                assert!(error.to_string().contains("is damaged after byte"), "{error}");
            }
            JournalError::Foreign { .. } => assert_eq!(intact, 0, "{at}"),
            other => panic!("{other}"),
        }
        assert_eq!(fs::read(scratch.file()).unwrap(), damaged, "nothing was changed");
    }
}

#[test]
fn a_change_that_was_not_written_to_its_end_is_cut_off() {
    let scratch = Scratch::new();
    let ends = example(&scratch.file());
    let whole = fs::read(scratch.file()).unwrap();
    for length in 0..whole.len() {
        for zeros in [0, 9] {
            let mut torn = whole[..length].to_vec();
            if zeros > 0 && ends.contains(&length) {
                torn.resize(length + zeros, 0);
            }
            fs::write(scratch.file(), &torn).unwrap();
            let clients = open(&scratch.file());
            let there = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
            assert_eq!(all(&clients).0.len(), there, "{length}");
            block(clients.set("dan", ClientPatch::new())).unwrap();
            drop(clients);
            assert_eq!(all(&open(&scratch.file())).0.len(), there + 1, "and it goes on from there");
        }
    }
}

#[test]
fn another_file_is_left_alone() {
    let scratch = Scratch::new();
    let text = "these are the operator's own notes, and no journal at all".repeat(3);
    for text in [&text, "short"] {
        fs::write(scratch.file(), text).unwrap();
        assert!(matches!(MemoryRegistry::open(scratch.file()), Err(JournalError::Foreign { .. })));
        assert_eq!(fs::read_to_string(scratch.file()).unwrap(), text);
    }
    let error = MemoryRegistry::open(&scratch.0).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "a directory is no file: {error}");
}

#[test]
fn a_file_that_has_grown_is_written_anew() {
    let scratch = Scratch::new();
    let clients = open(&scratch.file());
    block(async {
        clients.set_tier("partner", Grant::new().max_concurrent(8)).await.unwrap();
        let queues: Vec<_> = (0..100).map(|i| format!("queue-{i:04}")).collect();
        for turn in 0..60u32 {
            let set = (0..200).map(|i| {
                let patch = ClientPatch::new().allowed_queues(&queues);
                let patch = patch.rate_limit(Grant::new().requests_per_min(1 + turn));
                let clients = clients.clone();
                async move { clients.set(&format!("client-{i}"), patch).await.unwrap() }
            });
            join_all(set).await;
        }
    });
    let kept = all(&clients);
    drop(clients);
    let size = fs::metadata(scratch.file()).unwrap().len();
    assert!(size < 9 << 20, "{size} bytes, of some 17 MB that were written");
    assert_eq!(all(&open(&scratch.file())), kept);
    assert_eq!(kept.0.len(), 200);
}

const CHILD: &str = "TIDEGATE_TEST_JOURNAL";

/// The child of the test below: writes until it is killed, and tells what was answered.
#[test]
#[ignore = "is started by the test below"]
fn child_that_writes() {
    let Some(path) = env::var_os(CHILD) else { return };
    let clients = open(Path::new(&path));
    block(async {
        for turn in 1..u32::MAX {
            let set = (0..50).map(|i| {
                let clients = clients.clone();
                async move {
                    let patch = ClientPatch::new().rate_limit(Grant::new().requests_per_min(turn));
                    clients.set(&format!("client-{i}"), patch).await.unwrap();
                    println!("\nkept {i} {turn}");
                }
            });
            join_all(set).await;
        }
    });
}

#[test]
fn killed_while_it_writes_it_keeps_all_that_was_answered() {
    let scratch = Scratch::new();
    for round in 0..4 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD, scratch.file())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut kept = BTreeMap::new();
        let mut lines = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some((client, turn)) = line.strip_prefix("kept ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            // The last line may be cut short, which makes its number smaller.
            kept.insert(client.to_owned(), turn.parse::<u32>().unwrap_or(0));
            lines += 1;
            if lines == 1_000 + 37 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(lines >= 1_000);
        let clients = open(&scratch.file());
        let (records, _) = all(&clients);
        for (client, turn) in kept {
            let own = records[&format!("client-{client}")].own().requests_quota().unwrap().amount();
            assert!(own >= turn.into(), "client {client}: {own} is there, {turn} was answered");
        }
        block(async {
            for id in records.keys() {
                clients.delete(id).await.unwrap();
            }
        });
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u32),
    Delete(u8),
    Tier(u8, u32),
    Key(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u8, 1..100u32).prop_map(|(id, n)| Step::Set(id, n)),
        2 => (0..6u8).prop_map(Step::Delete),
        1 => (0..3u8, 1..100u32).prop_map(|(id, n)| Step::Tier(id, n)),
        1 => (0..6u8).prop_map(Step::Key),
        2 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a registry that is only in memory.
    #[test]
    fn any_changes_are_kept(steps in steps()) {
        let scratch = Scratch::new();
        let mut clients = open(&scratch.file());
        for step in steps {
            let before = all(&clients);
            match step {
                Step::Set(id, n) => {
                    let patch = ClientPatch::new().rate_limit(Grant::new().requests_per_min(n));
                    block(clients.set(&format!("client-{id}"), patch)).unwrap();
                }
                Step::Delete(id) => {
                    let gone = block(clients.delete(&format!("client-{id}"))).unwrap();
                    prop_assert_eq!(gone, before.0.contains_key(&format!("client-{id}")));
                }
                Step::Tier(id, n) => {
                    block(clients.set_tier(&format!("tier-{id}"), Grant::new().requests_per_min(n))).unwrap();
                }
                Step::Key(id) => {
                    let issued = block(clients.issue_key(&format!("client-{id}")));
                    prop_assert_eq!(issued.is_ok(), before.0.contains_key(&format!("client-{id}")));
                }
                Step::Reopen => {
                    drop(clients);
                    clients = open(&scratch.file());
                    prop_assert_eq!(all(&clients), before);
                }
            }
        }
    }
}
