//! The groups that are timed: layers, decisions alone, and what a request allocates.

use crate::{
    alloc, floor, goals,
    measure::{Law, Plan, median, sequence, visit},
    report::Row,
    subjects::{self, FLOOR, FLOOR_HEADERS, GOVERNOR_STRING, Mode, Named},
    work::{self, BATCH, Drive, Identity, Subject},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::{hint::black_box, time::Duration};

/// Our cases, and whom each is measured beside.
const PAIRS: &[(&str, &[&str])] = &[
    ("allowed", &["tower_governor", "axum_gcra", "tower-rate-limiter", GOVERNOR_STRING]),
    (
        "allowed, headers",
        &["tower_governor, headers", "axum-governor, headers", "tower-rate-limiter, headers"],
    ),
    // What goes on around a decision, which is none of the limiter's doing but for the moves.
    ("no rule", &["allowed"]),
    // What no layer that counts exactly can save.
    (FLOOR, &["allowed", "tower_governor"]),
    (FLOOR_HEADERS, &["allowed, headers", "tower_governor, headers"]),
    ("two limits", &["allowed", "tower_governor"]),
    ("two limits, headers", &["axum_gcra"]),
    ("decision exposed", &["allowed"]),
    (
        "refused",
        &[
            "tower_governor, refused",
            "allowed, headers",
            "axum_gcra, refused",
            "axum-governor, refused",
            "tower-rate-limiter, refused",
        ],
    ),
];

fn settings(identity: Identity, keys: u32, quick: bool) -> Vec<goals::Setting> {
    let laws: &[Law] = if keys == 1 || quick { &[Law::Uniform] } else { &[Law::Uniform, Law::Zipf] };
    let drives: &[Drive] = if quick { &[Drive::Call] } else { &[Drive::Call, Drive::Oneshot] };
    let mut all = Vec::new();
    for law in laws {
        for threads in [1, 2] {
            all.extend(drives.iter().map(|drive| goals::Setting {
                identity,
                keys,
                law: *law,
                threads,
                drive: *drive,
            }));
        }
    }
    all
}

fn plan(quick: bool, drive: Drive, threads: usize, sequence: &[u32]) -> Plan<'_> {
    let turn = Duration::from_millis(if quick { 8 } else { 30 });
    Plan { drive, threads, sequence, turn, rounds: if quick { 7 } else { 9 } }
}

/// Every layer with every setting, for clients of one kind and so many of them.
pub(crate) fn layers(identity: Identity, keys: u32, quick: bool) {
    let named = subjects::layers(identity, keys);
    named.iter().for_each(|named| check(named, keys));
    let allocs: Vec<f64> = named.iter().map(|named| allocations(&*named.subject)).collect();
    let all: Vec<&dyn Subject> = named.iter().map(|named| &*named.subject).collect();
    for setting in settings(identity, keys, quick) {
        let sequence = sequence(keys, setting.law);
        let times = plan(quick, setting.drive, setting.threads, &sequence).measure(&all);
        let overhead = |number: usize| match named[number].bare() {
            None => median(&times[number]),
            Some(bare) => {
                let rounds = times[number].iter().zip(&times[bare]).map(|(time, bare)| time - bare);
                median(&rounds.collect::<Vec<_>>())
            }
        };
        let find = |name: &str| named.iter().position(|named| named.name == name);
        for (bare, times) in named.iter().zip(&times).take(2) {
            row(bare.name, setting).time(median(times)).print();
        }
        for (case, peers) in PAIRS {
            let Some(ours) = find(case) else { continue };
            for (peer, number) in peers.iter().filter_map(|peer| Some((*peer, find(peer)?))) {
                let row = row(case, setting).time(overhead(ours)).beside(peer, overhead(number));
                let row = Row { allocs: Some(allocs[ours]), peer_allocs: Some(allocs[number]), ..row };
                row.goal(goals::layer(setting, case, peer)).print();
            }
        }
    }
}

/// Two layers alone, with many short turns: what to look at while working on one.
pub(crate) fn compare(ours: &str, theirs: &str, keys: &str, threads: &str) -> Result<(), String> {
    let keys = keys.parse().map_err(|_| format!("{keys:?} is no number of keys"))?;
    let threads = threads.parse().map_err(|_| format!("{threads:?} is no number of threads"))?;
    let mut named = subjects::layers(Identity::Address, keys);
    let bare = named.iter().find(|named| named.name == ours).and_then(Named::bare).unwrap_or_default();
    let bare = named[bare].name;
    named.retain(|named| [bare, ours, theirs].contains(&named.name));
    named.iter().for_each(|named| check(named, keys));
    let all: Vec<&dyn Subject> = named.iter().map(|named| &*named.subject).collect();
    let sequence = sequence(keys, Law::Uniform);
    let turn = Duration::from_millis(8);
    let times = Plan { drive: Drive::Call, threads, sequence: &sequence, turn, rounds: 101 }.measure(&all);
    for (named, own) in named.iter().zip(&times) {
        let less: Vec<f64> = own.iter().zip(&times[0]).map(|(time, bare)| time - bare).collect();
        println!("{:40} {:8.1} ns, {:8.1} less the bare service", named.name, median(own), median(&less));
    }
    Ok(())
}

fn row(case: &str, setting: goals::Setting) -> Row {
    let identity = if setting.identity == Identity::ApiKey { ", API key" } else { "" };
    let law = if setting.law == Law::Zipf { ", Zipf" } else { "" };
    let drive = if setting.drive == Drive::Oneshot { ", clone" } else { "" };
    Row::new(format!("{case}{identity}{law}{drive}"), setting.threads, setting.keys)
}

/// Makes all clients known, and makes sure that what is measured does what it is measured for.
fn check(named: &Named, keys: u32) {
    visit(&*named.subject, keys);
    let mut worker = named.subject.worker(Drive::Call);
    worker.prepare(&[0]);
    worker.run();
    let expected = if named.mode == Mode::Refuse { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
    assert_eq!(worker.status(), expected, "{} does not do what it should", named.name);
}

fn allocations(subject: &dyn Subject) -> f64 {
    let mut worker = subject.worker(Drive::Call);
    let mut counts = Vec::new();
    for _ in 0..9 {
        worker.prepare(&[0; BATCH]);
        let before = alloc::taken();
        worker.run();
        counts.push((alloc::taken() - before) as f64 / BATCH as f64);
    }
    // Now and then a peer tidies up.
    median(&counts)
}

/// What each of our cases allocates, and the peers.
pub(crate) fn allocation_counts() {
    let map = header_map_allocations();
    Row { allocs: Some(map), ..Row::new("allocations: a header map with two fields", 1, 1) }.print();
    let all: Vec<_> = subjects::layers(Identity::Address, 1)
        .into_iter()
        .map(|named| {
            check(&named, 1);
            (named.name, allocations(&*named.subject))
        })
        .collect();
    let find = |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, allocs)| *allocs);
    for (case, peers) in PAIRS {
        let ours = Row { allocs: find(case), ..Row::new(format!("allocations: {case}"), 1, 1) };
        for (number, peer) in peers.iter().filter(|peer| find(peer).is_some()).enumerate() {
            let row = Row { peer: Some((*peer).to_owned()), peer_allocs: find(peer), ..ours.clone() };
            // The goal is about our count alone, so it stands once.
            row.goal(if number == 0 { goals::allocations(case, map) } else { None }).print();
        }
    }
}

fn header_map_allocations() -> f64 {
    static NAMES: [HeaderName; 2] =
        [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];
    let before = alloc::taken();
    let mut map = HeaderMap::new();
    map.append(&NAMES[0], HeaderValue::from_static("\"client\";q=100;w=60"));
    map.append(&NAMES[1], HeaderValue::from_static("\"client\";r=99;t=1"));
    drop(black_box(map));
    (alloc::taken() - before) as f64
}

/// The keyed decision alone.
pub(crate) fn decisions(keys: u32, quick: bool) {
    let named: Vec<(&str, Box<dyn Subject>)> = vec![
        (subjects::DECISION_ALONE, Box::new(subjects::handle(keys))),
        ("governor check_key, address", Box::new(subjects::governor(work::address))),
        (GOVERNOR_STRING, Box::new(subjects::governor(work::api_key))),
        ("array, compare-and-swap, clock", Box::new(floor::decision(keys))),
    ];
    named.iter().for_each(|(_, subject)| visit(&**subject, keys));
    let all: Vec<&dyn Subject> = named.iter().map(|(_, subject)| &**subject).collect();
    for setting in settings(Identity::Address, keys, quick).into_iter().filter(|s| s.drive == Drive::Call) {
        let sequence = sequence(keys, setting.law);
        let times = plan(quick, Drive::Call, setting.threads, &sequence).measure(&all);
        for (peer, (name, _)) in named.iter().enumerate().skip(1) {
            let goal = if peer == 1 { goals::decision(keys, setting.law) } else { None };
            let row = row(subjects::DECISION_ALONE, setting).time(median(&times[0]));
            row.beside(name, median(&times[peer])).goal(goal).print();
        }
    }
}
