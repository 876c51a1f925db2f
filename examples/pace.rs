//! Sends to a queue in three ways: what may not go yet waits, is rejected, or is diverted. A runaway producer beside a calm
//! one shares the queue's limit with it and gets no more than half.
//!
//! ```sh
//! cargo run --example pace --features pace
//! ```
#![allow(clippy::print_stdout)]

use futures_util::future::{join_all, ready};
use std::{convert::Infallible, error::Error, time::Instant};
use tidegate::{Costs, Identity, Limit, PaceError, PaceLayer, Pacer, Quota, SendError};
use tower::{Layer, ServiceExt, service_fn};

/// Who enqueues it, and how many records it has.
type Task = (&'static str, u32);

/// A queue that takes everything.
async fn enqueue(_: Task) -> Result<&'static str, Infallible> {
    Ok("queued")
}

fn layer(pacer: &Pacer) -> PaceLayer<Task> {
    let layer = PaceLayer::new(pacer.clone(), |(service, _): &Task| Identity::name(*service));
    layer.cost(|(_, records)| Costs::from(*records))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pacer = Pacer::new([Limit::per_client("records", Quota::per_second(100))])?;
    let start = Instant::now();
    let waiting = layer(&pacer).layer(service_fn(enqueue));
    join_all((0..6).map(|_| waiting.clone().oneshot(("mailer", 5)))).await;
    println!("wait: 6 tasks of 5 records took {} ms", start.elapsed().as_millis());

    let rejecting = layer(&pacer).reject().layer(service_fn(enqueue));
    rejecting.clone().oneshot(("reports", 100)).await?;
    match rejecting.oneshot(("reports", 1)).await {
        Err(SendError::Paced(error)) => println!("reject: {} {error}", error.status()),
        answer => println!("reject: {answer:?}"),
    }

    let spill = |_: Task, _: PaceError| ready(Ok("spilled"));
    let diverting = layer(&pacer).reject().divert(spill).layer(service_fn(enqueue));
    println!("divert: {}", diverting.oneshot(("reports", 1)).await?);

    let pacer = Pacer::new([Limit::shared("queue", Quota::per_second(200))])?;
    let paced = layer(&pacer).layer(service_fn(enqueue));
    let runaway = tokio::spawn(join_all((0..1_000).map(|_| paced.clone().oneshot(("runaway", 1)))));
    tokio::task::yield_now().await;
    let start = Instant::now();
    for _ in 0..20 {
        paced.clone().oneshot(("calm", 1)).await?;
    }
    println!("beside a runaway: 20 tasks took {} ms", start.elapsed().as_millis());
    runaway.abort();
    Ok(())
}
