//! What count and interval of batches make of 1,000 items a second, to a broker that answers a request in 2 ms and takes 200 requests
//! a second: a table of requests, throughput and latency.
//!
//! ```sh
//! cargo run --release --example batches --features pace
//! ```
#![allow(clippy::print_stdout)]

use futures_util::future::try_join_all;
use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{Batch, BatchPlan, Batches, Limit, Pacer, Quota};
use tokio::time::{Instant, interval, sleep};

/// The most items in a batch, and the longest time that the first of them waits, in milliseconds.
const PLANS: [(usize, u64); 8] =
    [(1, 5), (10, 5), (100, 5), (10, 50), (100, 50), (1_000, 50), (100, 250), (1_000, 250)];
const TIME: Duration = Duration::from_secs(3);

/// Requests and items a second, and the longest time of 99 of 100 items from when they came to when they were sent.
async fn measure(items: usize, millis: u64) -> Result<(f64, f64, Duration), Box<dyn Error>> {
    let pacer = Pacer::new([Limit::shared("requests", Quota::per_second(200))])?;
    let sent = Arc::new(Mutex::new((0u32, Vec::new())));
    let log = sent.clone();
    let plan = BatchPlan::new(items, Duration::from_millis(millis));
    let batches = Batches::new(pacer, plan, move |batch: Batch<Instant>| {
        let log = log.clone();
        async move {
            sleep(Duration::from_millis(2)).await;
            let mut log = log.lock().unwrap_or_else(|error| error.into_inner());
            log.0 += 1;
            log.1.extend(batch.items.iter().map(Instant::elapsed));
        }
    });
    // Who has to wait for others to be sent makes up for it, and its items' times begin when they should have come.
    let (start, mut ticks) = (Instant::now(), interval(Duration::from_millis(1)));
    while start.elapsed() < TIME {
        batches.push("orders", ticks.tick().await, 100).await?;
    }
    let (requests, mut times) = std::mem::take(&mut *sent.lock().unwrap_or_else(|error| error.into_inner()));
    let seconds = start.elapsed().as_secs_f64();
    times.sort();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Ok((f64::from(requests) / seconds, times.len() as f64 / seconds, p99))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("| count | interval | requests a second | items a second | p99 |\n|--:|--:|--:|--:|--:|");
    let rows = try_join_all(PLANS.map(|(items, millis)| measure(items, millis))).await?;
    for ((items, millis), (requests, throughput, p99)) in PLANS.into_iter().zip(rows) {
        println!("| {items} | {millis} ms | {requests:.0} | {throughput:.0} | {} ms |", p99.as_millis());
    }
    Ok(())
}
