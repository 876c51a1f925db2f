//! The examples of the sending side do what they say.
#![cfg(feature = "pace")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{env, process::Command};

/// What an example says that serves nothing, and so is run to its end.
fn told(name: &str) -> String {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let output = Command::new(path.with_extension(env::consts::EXE_EXTENSION)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Times are at least what the quotas ask for; how much longer is the machine's.
#[test]
fn pace() {
    let text = told("pace");
    let lines: Vec<&str> = text.lines().collect();
    let millis = |line: &str| line.split(' ').rev().nth(1).unwrap().parse::<u64>().unwrap();
    // The last of six goes after five times 50 ms; 1,000 others would have taken 5 s alone.
    assert!((250..2_500).contains(&millis(lines[0])), "{text}");
    assert!(
        lines[1].starts_with("reject: 429 Too Many Requests it may not go now: records (100/second);"),
        "{text}"
    );
    assert_eq!(lines[2], "divert: spilled");
    assert!((150..4_000).contains(&millis(lines[3])), "{text}");
}

#[test]
fn polite_client() {
    let text = told("polite_client");
    let (_, seconds) = text.split_once("in the seconds [").unwrap_or_else(|| panic!("{text}"));
    let seconds = seconds.trim_end().trim_end_matches(']');
    let late = seconds.split(", ").filter(|second| !second.is_empty() && second.parse::<u64>().unwrap() >= 2);
    assert_eq!(late.count(), 0, "{text}");
}

/// A smaller batch makes more requests, and a longer interval later items, whatever the machine does.
#[test]
fn batches() {
    let text = told("batches");
    let number = |cell: &str| cell.trim().split(' ').next().unwrap().parse::<u64>().unwrap();
    let rows =
        text.lines().skip(2).map(|line| line.trim_matches('|').split('|').map(number).collect::<Vec<_>>());
    for row in rows {
        let [count, interval, requests, items, p99] = row[..] else { panic!("{text}") };
        assert!(requests <= 202 && items <= requests * count + count, "{text}");
        assert!(count == 1 || p99 + 10 >= interval.min(count), "{text}");
        assert!(count > 1 || items <= 210, "{text}");
    }
}
