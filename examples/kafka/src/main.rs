//! Records into a Kafka cluster and out of it, no faster than the cluster bears: paced by records and by bytes, tried again
//! with backoffs of their own, and slowed while the brokers are slow. The cluster is librdkafka's mock, which speaks the real
//! protocol. It fails if anything is not as it says. With a path, it draws how the producer adapts.
//!
//! ```sh
//! cargo run --manifest-path examples/kafka/Cargo.toml -- docs/kafka-adapts.svg
//! ```

mod chart;
mod consumer;
mod producer;
mod statistics;

use chart::Point;
use consumer::{Tally, consume};
use futures_util::future::{join_all, try_join_all};
use producer::Producer;
use rdkafka::{
    Statistics,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    statistics::{Broker, Window},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use statistics::{obey, signals};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tidegate::{Aimd, Breaker, Event, Feedback, Limit, Limiter, Pacer, Policy, Quota, Rule, Signals};
use tokio::time::{interval, sleep, sleep_until};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;
type Cluster = MockCluster<'static, DefaultProducerContext>;

/// What the producers may: so many records and bytes a second.
const RECORDS: u32 = 400;
const BYTES: u32 = 200_000;
/// What the consumers may read together.
const READS: u32 = 400;

fn ensure(holds: bool, claim: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("not so: {claim}").into()) }
}

fn limits() -> [Limit; 2] {
    let each = |amount: u32| Quota::per_second(amount.into());
    [Limit::per_client("records", each(RECORDS)), Limit::per_client("bytes", each(BYTES))]
}

#[tokio::main]
async fn main() -> Outcome {
    let cluster = MockCluster::new(3)?;
    for topic in ["records", "adapts"] {
        cluster.create_topic(topic, 6, 3)?;
    }
    let servers = cluster.bootstrap_servers();
    throttled().await?;
    let sent = rates(&servers).await?;
    let sent = outage(&servers, &cluster, sent).await?;
    read(&servers, &cluster, sent).await?;
    let points = adapt(&servers, &cluster).await?;
    match std::env::args().nth(1) {
        Some(path) => Ok(std::fs::write(path, chart::svg(&points, RECORDS.into()))?),
        None => Ok(()),
    }
}

/// The mock never throttles, so these statistics are made up: nothing goes for 300 ms.
async fn throttled() -> Outcome {
    let pacer = Pacer::new(limits())?.feedback(signals())?;
    let window = |max| Some(Window { max, avg: max, cnt: 1, ..Window::default() });
    let broker = Broker { throttle: window(300), rtt: window(70_000), ..Broker::default() };
    let brokers = [("broker".to_owned(), broker)].into();
    obey(&pacer, &Statistics { brokers, ..Statistics::default() })?;
    let start = Instant::now();
    pacer.until_ready("records", 1).await?;
    println!("throttled: sent after {} ms", start.elapsed().as_millis());
    ensure(start.elapsed() >= Duration::from_millis(295), "a throttle time is obeyed")?;
    ensure(pacer.signals().get("broker_ms") == Some(70.0), "statistics set signals")
}

/// Small records go by their number, large ones by their bytes.
async fn rates(servers: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
    let pacer = Pacer::new(limits())?.feedback(signals())?;
    let producer = Producer::new(servers, "records", &pacer)?;
    // The first record finds the brokers.
    producer.send(0, 1).await?;
    let mut sent = 1;
    for (count, bytes, rate) in [(800, 100, 400.0), (200, 2_000, 100.0)] {
        let start = Instant::now();
        try_join_all((sent..sent + count).map(|id| producer.send(id, bytes))).await?;
        sent += count;
        let reached = f64::from(count) / start.elapsed().as_secs_f64();
        println!("rates: {count} records of {bytes} bytes at {reached:.0} a second, of {rate}");
        ensure(reached <= rate * 1.02 && reached >= rate * 0.75, "the rate is kept, and used")?;
    }
    Ok(sent)
}

/// What happened to a pacer.
#[derive(Default)]
struct Told {
    retried: AtomicU32,
    opened: AtomicU32,
    closed: AtomicU32,
}

/// Requests fail, and all brokers go down for a while and return. Every record arrives.
async fn outage(servers: &str, cluster: &Cluster, first: u32) -> Result<u32, Box<dyn Error + Send + Sync>> {
    let told = Arc::new(Told::default());
    let count = told.clone();
    let rule = limits().into_iter().fold(Rule::new("produce").by_hand(), Rule::limit);
    let observe = move |event: &Event<'_>| match event {
        Event::Retried { .. } => _ = count.retried.fetch_add(1, Relaxed),
        Event::BreakerOpened { .. } => _ = count.opened.fetch_add(1, Relaxed),
        Event::BreakerClosed { .. } => _ = count.closed.fetch_add(1, Relaxed),
        _ => {}
    };
    let limiter = Limiter::builder(Policy::new().rule(rule)).observe(observe).build()?;
    let breaker = Breaker::new().budget(20).stay_open(Duration::from_millis(300), Duration::from_secs(1));
    let pacer = Pacer::on(&limiter, "produce")?.feedback(signals().breaker(breaker))?;
    let producer = Producer::new(servers, "records", &pacer)?;
    let failing = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &failing);
    let (start, count) = (Instant::now(), 900);
    let all = try_join_all((first..first + count).map(|id| producer.send(id, 100)));
    let broken = async {
        sleep(Duration::from_secs(1)).await;
        let before = told.retried.load(Relaxed);
        cluster.broker_down(-1)?;
        sleep(Duration::from_secs(2)).await;
        cluster.broker_up(-1)?;
        Ok(before)
    };
    let (_, before) = futures_util::future::try_join(all, broken).await?;
    let (tries, seconds) = (producer.tries.load(Relaxed), start.elapsed().as_secs_f64());
    let Told { retried, opened, closed } = &*told;
    let [retried, opened, closed] = [retried, opened, closed].map(|number| number.load(Relaxed));
    println!(
        "outage: {count} records arrived in {seconds:.1} s and {tries} tries; {retried} backoffs, {before} of them before the brokers went down; the breaker opened {opened} times"
    );
    ensure(before > 0, "what the brokers refuse is tried again")?;
    ensure(tries == count + retried, "no try comes without its backoff")?;
    ensure(opened > 0 && opened == closed, "the breaker opens, and closes again")?;
    ensure(f64::from(tries) <= f64::from(RECORDS) * seconds * 1.02, "tries keep the rate too")?;
    Ok(first + count)
}

/// Consumers of a group, which share a limit; a second one joins, and some reads fail. Every record is read.
async fn read(servers: &str, cluster: &Cluster, sent: u32) -> Outcome {
    let reads = Limit::shared("reads", Quota::per_second(READS.into()));
    let limiter = Limiter::new(Policy::new().rule(Rule::new("read").by_hand().limit(reads)))?;
    let (tally, mut consumers) = (Arc::new(Tally::default()), Vec::new());
    // Each has a pacer of its own, because each has statistics of its own.
    let join = || -> Result<_, Box<dyn Error + Send + Sync>> {
        let pacer = Pacer::on(&limiter, "read")?.feedback(signals())?;
        let (servers, own, tally) = (servers.to_owned(), pacer.clone(), tally.clone());
        Ok((pacer, tokio::spawn(async move { consume(&servers, "records", own, tally).await })))
    };
    consumers.push(join()?);
    let (start, mut ticks) = (Instant::now(), interval(Duration::from_secs(1)));
    let (mut before, mut fastest, mut longest_lag, mut is_failing) = ((0, start), 0.0f64, 0.0f64, false);
    while tally.read().0 < sent as usize && start.elapsed() < Duration::from_secs(25) {
        ticks.tick().await;
        let ((read, again), now) = (tally.read(), Instant::now());
        let rate = f64::from(read as u32 + again - before.0) / (now - before.1).as_secs_f64().max(0.5);
        before = (read as u32 + again, now);
        let lag: f64 = consumers.iter().filter_map(|(pacer, _)| pacer.signals().get("lag")).sum();
        (fastest, longest_lag) = (fastest.max(rate), longest_lag.max(lag));
        let seconds = start.elapsed().as_secs_f64();
        println!("read: {read} of {sent} after {seconds:.0} s, {rate:.0} a second, lag {lag:.0}");
        if read > 0 && consumers.len() == 1 {
            consumers.push(join()?);
        }
        if read > sent as usize / 3 && !is_failing {
            is_failing = true;
            let failing = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 6];
            cluster.request_errors(RDKafkaApiKey::Fetch, &failing);
        }
    }
    let (read, again) = tally.read();
    let (failed, rebalances) = (tally.failed.load(Relaxed), tally.rebalances.load(Relaxed));
    println!("read: {again} records again; {failed} reads failed, {rebalances} rebalances");
    for (_, consumer) in &consumers {
        ensure(!consumer.is_finished(), "consumers survive what fails")?;
        consumer.abort();
    }
    join_all(consumers.into_iter().map(|(_, consumer)| consumer)).await;
    ensure(read == sent as usize, "no record is lost")?;
    ensure(failed > 0 && rebalances > 1, "reads fail, and partitions come and go")?;
    ensure(fastest <= f64::from(READS) * 1.05 && longest_lag > 0.0, "reads keep their rate, and lag is seen")
}

/// For a while the brokers take 250 ms longer to answer. The producer slows down, and goes back to its rate.
async fn adapt(servers: &str, cluster: &Cluster) -> Result<Vec<Point>, Box<dyn Error + Send + Sync>> {
    let (millis, added) = (Duration::from_millis, 250.0);
    let aimd = Aimd::new().start(0.3).step(0.1).every(millis(500)).slow_after(millis(100)).tolerate(0.1);
    let slow = |signals: &Signals| if signals.get("broker_ms") > Some(150.0) { 0.5 } else { 1.0 };
    let feedback: Feedback = signals().adapt(aimd).rule(slow).bounds(0.05, 1.0);
    let pacer = Pacer::new(limits())?.feedback(feedback)?;
    let producer = Producer::new(servers, "adapts", &pacer)?;
    let sending = producer.clone();
    let sender = tokio::spawn(async move {
        for id in 0.. {
            // So many wait at most.
            while sending.waiting() >= 20 {
                sleep(Duration::from_millis(5)).await;
            }
            let sending = sending.clone();
            tokio::spawn(async move { sending.send(id, 100).await });
        }
    });
    let (start, mut points, mut before) = (Instant::now(), Vec::new(), 0);
    let mut took = 0.0;
    for number in 1..=64u32 {
        sleep_until((start + millis(250) * number).into()).await;
        let is_slow = (17..=32).contains(&number);
        if matches!(number, 17 | 33) {
            cluster.broker_round_trip_time(-1, if is_slow { millis(250) } else { millis(0) })?;
        }
        let tries = producer.tries.load(Relaxed);
        took = producer.mean().map_or(took, |mean| mean.as_secs_f64() * 1_000.0);
        points.push(Point {
            at: start.elapsed().as_secs_f64(),
            added: if is_slow { added } else { 0.0 },
            took,
            rate: f64::from(tries - before) * 4.0,
            factor: pacer.factor(),
        });
        before = tries;
    }
    sender.abort();
    chart::print(&points);
    let factor = |number: usize| points.get(number).map_or(0.0, |point| point.factor);
    ensure(factor(15) > 0.5, "the factor grows while answers are fast")?;
    ensure(factor(31) < 0.5, "slow answers make it less than a half")?;
    ensure(factor(63) > 0.5, "and it comes back")?;
    Ok(points)
}
