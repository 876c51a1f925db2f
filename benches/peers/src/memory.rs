//! What clients take, who is forgotten, and what a flood does.

use crate::{
    alloc, goals,
    report::Row,
    subjects,
    work::{self, Direct, Drive, Identity, Subject},
};
use cpu_time::ThreadTime;
use http::StatusCode;
use std::{
    fs,
    time::{Duration, Instant},
};
use tidegate::{HeaderStyle, Limiter, Policy, Quota};

const CAPACITY: u32 = 1_000_000;

/// Clients owe for hours after one request, and are refused after ten.
const QUOTA: Quota = Quota::per_day(10);

fn limiter() -> Limiter {
    subjects::limiter(Identity::Address, &[QUOTA], goals::BYTES_A_CLIENT as usize * CAPACITY as usize)
}

/// Bytes that a client and limit takes when all are there that a limiter has room for.
pub(crate) fn per_client() {
    let before = alloc::live_bytes();
    let limiter = limiter();
    for client in 0..limiter.capacity() as u32 {
        subjects::charge(&limiter, work::address(client));
    }
    let ours = (alloc::live_bytes() - before) as f64 / limiter.capacity() as f64;
    let before = alloc::live_bytes();
    let governor = subjects::governor(work::address);
    crate::measure::visit(&governor, CAPACITY);
    let theirs = (alloc::live_bytes() - before) as f64 / f64::from(CAPACITY);
    // The policy and the handles are some hundred bytes in all, which a hundredth of a byte a client hides.
    let row = Row::new("memory: a client and limit", 1, CAPACITY).value(hundredths(ours), "B");
    row.goal(Some(goals::BYTES_A_CLIENT)).beside_value("governor, address", hundredths(theirs)).print();
}

fn hundredths(value: f64) -> f64 {
    (100.0 * value).round() / 100.0
}

/// The share of owing clients that had to make room, in the worst of several tables.
pub(crate) fn forgotten(quick: bool) {
    for (filled, goal) in goals::FORGOTTEN {
        let shares = (0..if quick { 2 } else { 16 }).map(|seed| {
            let policy = Policy::per_client(QUOTA);
            let bytes = goals::BYTES_A_CLIENT as usize * CAPACITY as usize;
            let limiter = Limiter::builder(policy).memory_bytes(bytes).secret([seed; 16]).build().unwrap();
            let clients = (filled * limiter.capacity() as f64) as u32;
            (0..clients).for_each(|client| assert!(subjects::charge(&limiter, work::address(client))));
            limiter.evicted() as f64 / f64::from(clients)
        });
        let worst = shares.fold(0.0, f64::max);
        let case = format!("memory: forgotten early at {} % of the cap", 100.0 * filled);
        Row::new(case, 1, (filled * f64::from(CAPACITY)) as u32)
            .value(hundredths(1e6 * worst), "ppm")
            .goal(Some(1e6 * goal))
            .print();
    }
}

/// Ten clients for each that there is room for.
///
/// A loop that takes as long and does nothing goes through the same, to show what of the longest calls is the machine's.
pub(crate) fn flood(quick: bool) {
    let clients = 10 * CAPACITY;
    let mut times = vec![1u32; clients as usize]; // not zero, so that its pages are there before
    let before = resident();
    let limiter = limiter();
    let layer = limiter.layer().headers(HeaderStyle::Off);
    let subject = subjects::tidegate(Identity::Address, &layer);
    // One past the flood, who spends all there is.
    let offender = clients + 1;
    let mut worker = subject.worker(Drive::Call);
    worker.prepare(&[offender; 10]);
    worker.run();
    let ours = walls(&subject, &mut times);
    let grown = (resident() - before) as f64;
    worker.prepare(&[offender]);
    worker.run();
    let released = u8::from(worker.status() != StatusCode::TOO_MANY_REQUESTS);
    drop(worker);
    // What was never evicted must be there still, in slots of which there are a quarter more than stated.
    let uncounted = f64::from(clients) - limiter.evicted() as f64 - 1.25 * limiter.capacity() as f64;

    let row = |case: &str| Row::new(format!("flood: {case}"), 1, clients);
    row("resident memory").value(hundredths(grown / 1e6), "MB").print();
    let share = grown / limiter.memory_bytes() as f64;
    row("resident memory to the cap")
        .value((1_000.0 * share).round() / 1_000.0, "")
        .goal(Some(goals::FLOOD_MEMORY))
        .print();
    row("offenders released").value(released.into(), "").goal(Some(0.0)).print();
    row("evicted and not counted").value(uncounted.max(0.0), "").goal(Some(0.0)).print();

    let usual = Duration::from_nanos(ours[0] as u64);
    let idle = Direct { key: |client| client, decide: |_: &u32| wait(usual) };
    tell(&row, &ours, IDLE, &walls(&idle, &mut times));
    drop((subject, layer, limiter));
    let fresh = self::limiter().layer().headers(HeaderStyle::Off);
    // Asking for CPU time takes longer than a call.
    let clients = if quick { 2 * CAPACITY } else { clients };
    row("longest call, thread CPU time")
        .value(longest_cpu(&subjects::tidegate(Identity::Address, &fresh), clients), "ns")
        .goal(Some(goals::FLOOD_LONGEST_NS))
        .beside_value(IDLE, longest_cpu(&idle, clients))
        .print();
    if !quick {
        let before = resident();
        let peers = subjects::tower_governors(Identity::Address);
        let theirs = walls(&*peers[0].subject, &mut times);
        let grown = (resident() - before) as f64;
        row("resident memory, tower_governor").value(hundredths(grown / 1e6), "MB").print();
        tell(&row, &ours, "tower_governor", &theirs);
    }
}

const IDLE: &str = "idle loop as long";

fn wait(time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {}
    true
}

/// How long calls take, by the clock on the wall.
fn tell(row: &impl Fn(&str) -> Row, ours: &[f64; 4], peer: &str, theirs: &[f64; 4]) {
    let names = ["p50 of a call", "p99 of a call", "p99.99 of a call", "longest call"];
    for (name, (ours, theirs)) in names.into_iter().zip(ours.iter().zip(theirs)) {
        // The goal stands once.
        let goal = (name == "p99.99 of a call" && peer == IDLE).then_some(goals::FLOOD_P9999_NS);
        row(name).value(*ours, "ns").goal(goal).beside_value(peer, *theirs).print();
    }
}

/// Times each call, looking at the clock included: p50, p99, p99.99 and the longest in nanoseconds.
fn walls(subject: &dyn Subject, times: &mut [u32]) -> [f64; 4] {
    let mut worker = subject.worker(Drive::Call);
    for (client, time) in times.iter_mut().enumerate() {
        worker.prepare(&[client as u32]);
        let start = Instant::now();
        worker.run();
        *time = start.elapsed().as_nanos().min(u32::MAX.into()) as u32;
    }
    times.sort_unstable();
    [0.5, 0.99, 0.9999, 1.0].map(|share| f64::from(times[((times.len() - 1) as f64 * share) as usize]))
}

/// In a flood of its own, because asking for CPU time disturbs the wall time.
fn longest_cpu(subject: &dyn Subject, clients: u32) -> f64 {
    let mut worker = subject.worker(Drive::Call);
    let longest = (0..clients).map(|client| {
        worker.prepare(&[client]);
        let start = ThreadTime::now();
        worker.run();
        start.elapsed()
    });
    longest.max().unwrap_or_default().as_nanos() as f64
}

/// The bytes of this process that are in memory, as Linux says.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    1024 * kilobytes.unwrap_or(0i64)
}
