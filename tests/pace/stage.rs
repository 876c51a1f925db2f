//! A pacer on a clock, and a log of what it lets through.

use futures_util::FutureExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::{
    Event, Identity, Limit, Limiter, LimiterBuilder, ManualClock, PaceFuture, Pacer, Policy, Quota, Rule,
};
use tokio::{task::JoinHandle, time};

/// A pacer, and a clock that moves with tokio's.
pub(crate) struct Stage {
    pub(crate) clock: ManualClock,
    pub(crate) limiter: Limiter,
    pub(crate) pacer: Pacer,
    /// Who was let through, and at which millisecond; `!` marks who was rejected.
    pub(crate) log: Arc<Mutex<Vec<(String, u64)>>>,
    pub(crate) start: time::Instant,
}

pub(crate) fn stage(limits: impl IntoIterator<Item = Limit>) -> Stage {
    staged(limits.into_iter().fold(Rule::new("send").by_hand(), Rule::limit))
}

pub(crate) fn staged(rule: Rule) -> Stage {
    staged_by(Policy::new().rule(rule), |builder| builder)
}

/// With a policy that has a rule `send`.
pub(crate) fn staged_by(policy: Policy, set: impl FnOnce(LimiterBuilder) -> LimiterBuilder) -> Stage {
    let clock = ManualClock::new();
    let limiter = set(Limiter::builder(policy).clock(clock.clone())).build().unwrap();
    let pacer = Pacer::on(&limiter, "send").unwrap();
    Stage { clock, limiter, pacer, log: Arc::default(), start: time::Instant::now() }
}

/// A pacer with these limits, and a log of what is told.
pub(crate) fn told(
    limits: impl IntoIterator<Item = Limit>,
    note: impl Fn(&Event<'_>) -> Option<String> + Send + Sync + 'static,
) -> (Stage, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let out = told.clone();
    let rule = limits.into_iter().fold(Rule::new("send").by_hand(), Rule::limit);
    let stage = staged_by(Policy::new().rule(rule), |builder| {
        builder.observe(move |event: &Event<'_>| out.lock().unwrap().extend(note(event)))
    });
    (stage, told)
}

pub(crate) fn own(quota: Quota) -> Limit {
    Limit::per_client("own", quota)
}

pub(crate) fn all(quota: Quota) -> Limit {
    Limit::shared("all", quota)
}

impl Stage {
    pub(crate) fn with(mut self, set: impl FnOnce(Pacer) -> Pacer) -> Self {
        self.pacer = set(self.pacer);
        self
    }

    /// Starts a send, which has taken its place when this returns.
    pub(crate) async fn send(&self, key: &str, cost: u32) -> JoinHandle<()> {
        self.watch(key, self.pacer.until_ready(key, cost)).await
    }

    /// The same for a send that is logged under a name.
    pub(crate) async fn watch(&self, name: &str, future: PaceFuture) -> JoinHandle<()> {
        let (log, name, start) = (self.log.clone(), name.to_owned(), self.start);
        let task = tokio::spawn(async move {
            let mark = if future.await.is_ok() { "" } else { "!" };
            let at = u64::try_from(start.elapsed().as_millis()).unwrap();
            log.lock().unwrap().push((format!("{mark}{name}"), at));
        });
        settle().await;
        task
    }

    /// Moves both clocks together, a millisecond at a time.
    pub(crate) async fn advance(&self, millis: u64) {
        for _ in 0..millis {
            self.clock.advance(Duration::from_millis(1));
            time::advance(Duration::from_millis(1)).await;
            settle().await;
        }
    }

    pub(crate) fn log(&self) -> Vec<(String, u64)> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn times(&self) -> Vec<u64> {
        self.log().into_iter().map(|(_, at)| at).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.log().into_iter().map(|(key, _)| key).collect()
    }

    /// What a key may still spend of each limit.
    pub(crate) fn left(&self, key: &str) -> Vec<u32> {
        let client = self.limiter.client(&Identity::name(key.to_owned()));
        let peek = client.peek("send").into_future().now_or_never().unwrap().unwrap();
        peek.limits().map(|limit| limit.remaining()).collect()
    }
}

/// Lets all tasks do what they can.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
