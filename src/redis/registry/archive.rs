//! Records in Redis, and the connection to them.

use super::keys::Keys;
use crate::{
    Changed, RegistryError, Tiers, Watcher,
    redis::{ear::Ear, failure::Failure, line::send, pause::Pause, servers::Servers, timing::Timing},
};
use redis::{Cmd, Value, aio::MultiplexedConnection};
use std::{
    borrow::Cow,
    str,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

/// How often it is looked whether all changes were told.
const BEAT: Duration = Duration::from_secs(1);

/// What all clones of a registry share.
pub(super) struct Archive {
    pub(super) keys: Keys,
    /// Those that are in force as long as none were set.
    pub(super) first: Arc<Tiers>,
    servers: Servers,
    timing: Timing,
    runtime: Handle,
    state: watch::Sender<State>,
    /// Calls in a row that failed.
    failures: AtomicU32,
    watchers: RwLock<Vec<Watcher>>,
    tiers: Mutex<Known>,
}

/// The connection, or why there is none.
type State = Result<MultiplexedConnection, Cow<'static, str>>;

/// The tiers, if they are known, and how many changes were told.
#[derive(Default)]
struct Known {
    tiers: Option<Arc<Tiers>>,
    changes: u64,
}

impl Archive {
    pub(super) fn new(servers: Servers, prefix: &str, timing: Timing, first: Tiers, runtime: Handle) -> Self {
        Self {
            keys: Keys::new(prefix),
            first: Arc::new(first),
            servers,
            timing,
            runtime,
            state: watch::Sender::new(Err("not connected yet".into())),
            failures: AtomicU32::new(0),
            watchers: RwLock::default(),
            tiers: Mutex::default(),
        }
    }

    /// Asks for something; an error at once where there is no connection.
    pub(super) async fn ask(&self, command: Cmd) -> Result<Value, RegistryError> {
        let line = self.state.borrow().clone().map_err(|why| {
            RegistryError::unavailable(format!("the registry in Redis is not asked: {why}"))
        })?;
        let asking = {
            // Whoever waits may do so in another runtime, or in none.
            let _runtime = self.runtime.enter();
            timeout(self.timing.deadline, send(Some(line), command))
        };
        let failure = match asking.await {
            Ok(Ok(value)) => {
                self.failures.store(0, Relaxed);
                return Ok(value);
            }
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::Late(self.timing.deadline),
        };
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failure.is_of_store() && failures >= self.timing.failures {
            self.lose(&failure);
        }
        Err(RegistryError::unavailable(failure))
    }

    fn lose(&self, failure: &Failure) {
        let _former = self.state.send_replace(Err(failure.to_string().into()));
    }

    /// Waits until there is a connection.
    pub(super) async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.state.subscribe().wait_for(Result::is_ok).await;
    }

    pub(super) fn watch(&self, watcher: Watcher) {
        self.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    /// Tells what has changed; before, what is known of it is forgotten.
    pub(super) fn tell(&self, changed: &Changed<'_>) {
        {
            let mut known = self.known();
            known.changes += 1;
            if !matches!(changed, Changed::Client(_)) {
                known.tiers = None;
            }
        }
        for watcher in self.watchers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(changed);
        }
    }

    /// The tiers, if they are known; and otherwise as of which change they are asked for.
    pub(super) fn known_tiers(&self) -> Result<Arc<Tiers>, u64> {
        let known = self.known();
        known.tiers.clone().ok_or(known.changes)
    }

    /// Keeps tiers that were asked for, unless something has changed since.
    pub(super) fn keep_tiers(&self, tiers: &Arc<Tiers>, changes: u64) {
        let mut known = self.known();
        if known.changes == changes && self.state.borrow().is_ok() {
            known.tiers = Some(tiers.clone());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.tiers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, hears what others change, and looks whether it has heard all.
pub(super) async fn keep(archive: Arc<Archive>) {
    let mut pause = Pause::new(archive.timing.backoff);
    // The last change that was heard of, and when it was last known that there was no other.
    let (mut seen, mut sure) = (None, Some(Instant::now()));
    loop {
        let Archive { servers, keys, timing, .. } = &*archive;
        match Ear::open(servers, &keys.channel, timing.connect).await {
            Ok(ear) => {
                pause.reset();
                let failure = listen(&archive, ear, &mut seen, &mut sure).await;
                archive.lose(&failure);
            }
            Err(failure) => archive.lose(&failure),
        }
        if sure.is_some_and(|sure| sure.elapsed() >= archive.timing.keep) {
            // Once: then nothing is known any more.
            sure = None;
            archive.tell(&Changed::Anything);
        }
        sleep(pause.next()).await;
    }
}

/// Hears what others change until the connection is lost.
async fn listen(
    archive: &Archive,
    mut ear: Ear,
    seen: &mut Option<u64>,
    sure: &mut Option<Instant>,
) -> Failure {
    loop {
        let version = match version(archive, &ear).await {
            Ok(version) => version,
            Err(failure) => return failure,
        };
        while let Some(message) = ear.heard() {
            hear(archive, &message, seen);
        }
        // What was changed before the answer was told before it.
        if seen.replace(version) != Some(version) {
            archive.tell(&Changed::Anything);
        }
        *sure = Some(Instant::now());
        if archive.state.borrow().is_err() {
            archive.failures.store(0, Relaxed);
            let _former = archive.state.send_replace(Ok(ear.line.clone()));
        }
        let next = Instant::now() + BEAT;
        while let Ok(heard) = timeout_at(next, ear.hear()).await {
            match heard {
                Some(message) => hear(archive, &message, seen),
                None => return Failure::NotSent("the connection was lost".into()),
            }
        }
    }
}

/// The number of the last change.
async fn version(archive: &Archive, ear: &Ear) -> Result<u64, Failure> {
    let mut get = Cmd::new();
    get.arg("GET").arg(&archive.keys.version);
    let deadline = archive.timing.deadline;
    match timeout(deadline, send(Some(ear.line.clone()), get))
        .await
        .map_err(|_| Failure::Late(deadline))??
    {
        Value::Nil => Ok(0),
        Value::BulkString(text) => str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::Odd("the number of its last change is none".into())),
        _ => Err(Failure::Odd("the number of its last change is none".into())),
    }
}

/// Tells of a change: its number, and what was changed.
fn hear(archive: &Archive, message: &[u8], seen: &mut Option<u64>) {
    let text = str::from_utf8(message).unwrap_or_default();
    let Some((number, what)) = text.split_once(' ') else { return archive.tell(&Changed::Anything) };
    let number = number.parse::<u64>().ok();
    // One that was missed may have been anything.
    let follows = number.zip(*seen).is_some_and(|(number, seen)| number == seen.saturating_add(1));
    *seen = number;
    archive.tell(&match what.split_once(' ') {
        Some(("client", id)) if follows => Changed::Client(id),
        None if follows && what == "tiers" => Changed::Tiers,
        _ => Changed::Anything,
    });
}
