#![allow(clippy::unwrap_used)]

use super::*;
use std::{env, process};

/// On a full disk it would take the room that the old one needs to be written on.
#[test]
fn a_new_file_that_cannot_be_put_in_place_is_taken_away() {
    let scratch = env::temp_dir().join(format!("tidegate-journal-file-{}", process::id()));
    let path = scratch.join("clients");
    // No file can take the place of a directory.
    fs::create_dir_all(&path).unwrap();
    let result = rewrite(&path, &State::default(), 0);
    let there: Vec<_> = fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::remove_dir_all(&scratch).unwrap();
    assert!(result.is_err());
    assert_eq!(there, [path]);
}
