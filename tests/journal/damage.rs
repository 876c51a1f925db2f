//! Files that are damaged, cut short or something else.

use crate::stage::*;
use std::{fs, path::Path};
use tidegate::*;

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
