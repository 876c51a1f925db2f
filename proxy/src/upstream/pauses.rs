//! Clients whom an upstream asked to come back later.

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tidegate::Key;
use tokio::time::Instant;

/// So many clients are remembered at most; others are sent on and asked again.
const MOST: usize = 10_000;

/// Who is not to be sent on for a while, because the upstream would only refuse. All workers share it.
#[derive(Debug)]
pub(crate) struct Pauses {
    longest: Duration,
    is_empty: AtomicBool,
    paused: Mutex<HashMap<Key, Pause>>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    status: StatusCode,
}

impl Pauses {
    /// No pause is longer than that.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, is_empty: AtomicBool::new(true), paused: Mutex::default() }
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<Key, Pause>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the upstream answered to a client that is to wait, and for how many seconds it still is.
    pub(crate) fn find(&self, client: Key) -> Option<(StatusCode, u64)> {
        if self.is_empty.load(Relaxed) {
            return None;
        }
        let mut paused = self.paused();
        let Pause { until, status } = *paused.get(&client)?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            paused.remove(&client);
            self.is_empty.store(paused.is_empty(), Relaxed);
            return None;
        }
        Some((status, left.as_secs() + u64::from(left.subsec_nanos() > 0)))
    }

    /// Notes an answer that asks its client to wait.
    pub(crate) fn note(&self, client: Key, status: StatusCode, headers: &HeaderMap) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let Some(wait) = retry_after(headers).filter(|wait| !wait.is_zero()) else { return };
        let until = Instant::now() + wait.min(self.longest);
        let mut paused = self.paused();
        if paused.len() >= MOST {
            let now = Instant::now();
            paused.retain(|_, pause| pause.until > now);
        }
        if paused.len() < MOST {
            paused.insert(client, Pause { until, status });
            self.is_empty.store(false, Relaxed);
        }
    }
}

/// How long an answer asks to wait: seconds, or until a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}
