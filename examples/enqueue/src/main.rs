//! Tasks into a Redis queue of apalis, no faster than the queue bears: limits per service, per task type and per priority; three
//! ways to handle what is too much; a runaway producer beside a calm one; a backlog that is bounded by a signal. It starts a
//! `redis-server` of its own, and fails if anything is not as it says.
//!
//! ```sh
//! cargo run --manifest-path examples/enqueue/Cargo.toml
//! ```

mod queue;
mod server;

use futures_util::future::{join_all, try_join_all};
use queue::{Queue, Task, work};
use std::{
    error::Error,
    time::{Duration, Instant},
};
use tidegate::{Feedback, Identity, Limit, PaceError, PaceLayer, Pacer, Priority, Quota, SendError, Signals};
use tokio::time::{interval, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt};

type Outcome = Result<(), Box<dyn Error>>;

fn task(service: &str, kind: &str, urgent: bool) -> Task {
    Task { service: service.to_owned(), kind: kind.to_owned(), urgent }
}

fn ensure(holds: bool, claim: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("not so: {claim}").into()) }
}

/// So many a second for each key, evenly.
fn each(amount: u64) -> Result<Pacer, Box<dyn Error>> {
    Ok(Pacer::new([Limit::per_client("tasks", Quota::per_second(amount))])?)
}

fn by_service(pacer: &Pacer) -> PaceLayer<Task> {
    PaceLayer::new(pacer.clone(), |task: &Task| Identity::name(task.service.as_str()))
}

#[tokio::main]
async fn main() -> Outcome {
    let server = server::Server::start()?;
    let url = server.url();
    three_ways(&url).await?;
    three_limits(&url).await?;
    runaway(&url).await?;
    backlog(&url).await
}

/// 20 tasks come at once, where 20 a second may.
async fn three_ways(url: &str) -> Outcome {
    let pacer = each(20)?;
    let tasks = |service: &'static str| (0..20).map(move |_| task(service, "mail", false));

    let queue = Queue::open(url, "wait").await?;
    let (start, paced) = (Instant::now(), by_service(&pacer).layer(queue.service()));
    try_join_all(tasks("waits").map(|task| paced.clone().oneshot(task))).await?;
    let (took, queued) = (start.elapsed(), queue.len().await?);
    println!("wait: {queued} of 20 queued, after {} ms", took.as_millis());
    ensure(
        queued == 20 && took >= Duration::from_millis(950),
        "all are queued, a twentieth of a second apart",
    )?;

    let queue = Queue::open(url, "reject").await?;
    let paced = by_service(&pacer).reject().layer(queue.service());
    let answers = join_all(tasks("rejects").map(|task| paced.clone().oneshot(task))).await;
    let told = answers.iter().filter_map(|answer| match answer {
        Err(SendError::Paced(error @ PaceError::Limited(_))) => error.retry_after(),
        _ => None,
    });
    let (told, queued): (Vec<Duration>, _) = (told.collect(), queue.len().await?);
    println!("reject: {queued} of 20 queued, {} told when to come back", told.len());
    ensure(queued >= 1 && queued + told.len() == 20, "who is not queued is told when to come back")?;

    let (queue, spill) = (Queue::open(url, "divert").await?, Queue::open(url, "spill").await?);
    let later = spill.service();
    let divert = move |task: Task, _: PaceError| {
        let later = later.clone();
        async move { later.oneshot(task).await.map_err(SendError::Inner) }
    };
    let paced = by_service(&pacer).reject().divert(divert).layer(queue.service());
    try_join_all(tasks("diverts").map(|task| paced.clone().oneshot(task))).await?;
    let (queued, spilled) = (queue.len().await?, spill.len().await?);
    println!("divert: {queued} of 20 queued, {spilled} in another queue");
    ensure(queued >= 1 && queued + spilled == 20, "none is lost")
}

/// A limit each for services, task types and priorities, one around the other. A task waits for all three.
async fn three_limits(url: &str) -> Outcome {
    let queue = Queue::open(url, "limits").await?;
    let (services, kinds, priorities) = (each(100)?, each(40)?, each(200)?);
    let urgency = |task: &Task| if task.urgent { Priority::High } else { Priority::Low };
    // What is not urgent has a tenth of the rate, so it costs ten times as much.
    let by_priority = PaceLayer::new(priorities, |task: &Task| {
        Identity::name(if task.urgent { "urgent" } else { "other" })
    })
    .cost(|task: &Task| if task.urgent { 1 } else { 10 }.into());
    let paced = ServiceBuilder::new()
        .map_err(|_: SendError<SendError<SendError<_>>>| ())
        .layer(by_priority)
        .layer(PaceLayer::new(kinds, |task: &Task| Identity::name(task.kind.as_str())).priority(urgency))
        .layer(by_service(&services).priority(urgency))
        .service(queue.service());
    let all = [("shop", "mail", true), ("shop", "report", true), ("shop", "mail", false)];
    let start = Instant::now();
    let producers =
        all.into_iter().flat_map(|(service, kind, urgent)| (0..20).map(move |_| task(service, kind, urgent)));
    let producers: Vec<_> = producers
        .map(|task| {
            let paced = paced.clone();
            tokio::spawn(async move { while paced.clone().oneshot(task.clone()).await.is_ok() {} })
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    producers.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(producers).await;
    let (seconds, queued) = (start.elapsed().as_secs_f64(), queue.tasks().await?);
    let count = |kind: &str| queued.iter().filter(|task| task.kind == kind).count();
    let (mails, reports) = (count("mail"), count("report"));
    let calm = queued.iter().filter(|task| !task.urgent).count();
    println!("limits: {mails} mails, {reports} reports, {calm} of them not urgent, in {seconds:.1} s");
    let most = |rate: f64| (rate * seconds) as usize + 2;
    ensure(mails <= most(40.0) && reports <= most(40.0), "no type goes faster than 40 a second")?;
    ensure(calm <= most(20.0), "what is not urgent goes no faster than 20 a second")?;
    ensure(mails + reports <= most(100.0) && mails >= 40 && reports >= 40 && calm >= 2, "all get their share")
}

/// One queue takes 200 a second. A loop that enqueues as fast as it can leaves a calm producer what that needs.
async fn runaway(url: &str) -> Outcome {
    let queue = Queue::open(url, "shared").await?;
    let pacer = Pacer::new([Limit::shared("queue", Quota::per_second(200))])?;
    let paced = by_service(&pacer).layer(queue.service());
    let producer = paced.clone();
    let runaway = tokio::spawn(async move {
        loop {
            join_all((0..500).map(|_| producer.clone().oneshot(task("runaway", "mail", false)))).await;
        }
    });
    sleep(Duration::from_millis(200)).await;
    let (start, mut ticks) = (Instant::now(), interval(Duration::from_millis(20)));
    for _ in 0..100 {
        ticks.tick().await;
        paced.clone().oneshot(task("calm", "mail", false)).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    runaway.abort();
    let queued = queue.tasks().await?;
    let calm = queued.iter().filter(|task| task.service == "calm").count();
    let rate = 100.0 / seconds;
    println!(
        "runaway: the calm one queued {calm} at {rate:.0} a second, the runaway {}",
        queued.len() - calm
    );
    ensure(calm == 100 && rate > 40.0, "the calm one keeps at least 40 of its 50 a second")?;
    ensure(queued.len() <= (200.0 * (seconds + 0.5)) as usize, "both together get 200 a second")
}

/// Workers do some 100 a second, and the producer could do 400: the length of the queue slows it.
async fn backlog(url: &str) -> Outcome {
    let queue = Queue::open(url, "backlog").await?;
    let feedback =
        Feedback::new().signal("backlog", 0.0, Duration::from_secs(5)).rule(|signals: &Signals| {
            // Nothing is held back below 20; at 60 and more, a fiftieth of the rate is left.
            let above = (signals.get("backlog").unwrap_or(0.0) - 20.0).max(0.0);
            (1.0 - above / 40.0).max(0.02)
        });
    let pacer = Pacer::new([Limit::shared("queue", Quota::per_second(400))])?.feedback(feedback)?;
    let worker = tokio::spawn(work(queue.clone(), Duration::from_millis(10)));
    let paced = by_service(&pacer).layer(queue.service());
    let producer = tokio::spawn(async move {
        let mut sent = 0u32;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end && paced.clone().oneshot(task("shop", "mail", false)).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let (mut longest, mut ticks) = (0, interval(Duration::from_millis(20)));
    while !producer.is_finished() {
        ticks.tick().await;
        let length = queue.len().await?;
        pacer.signal("backlog", length as f64)?;
        longest = longest.max(length);
    }
    let sent = producer.await?;
    worker.abort();
    println!("backlog: {sent} queued in 3 s, never more than {longest} of them waiting");
    ensure(longest <= 80, "the backlog stays below 80")?;
    ensure((50..900).contains(&sent), "the producer goes as fast as the worker, not as fast as it may")
}
