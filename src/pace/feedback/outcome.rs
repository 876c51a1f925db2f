use super::{
    spread::{Limits, Remaining},
    told,
};
use http::{Response, StatusCode};
use std::{borrow::Cow, time::Duration};

/// What became of something that was sent, for [`Pacer::report`](crate::Pacer::report).
///
/// ```
/// use std::time::Duration;
/// use tidegate::Outcome;
///
/// let sent = Outcome::done().took(Duration::from_millis(12));
/// let throttled = Outcome::refused().pause(Duration::from_secs(2));
/// let lost = Outcome::failed("timeout");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it does nothing before it is reported"]
pub struct Outcome {
    pub(in super::super) refused: bool,
    pub(in super::super) error: Option<Cow<'static, str>>,
    pub(in super::super) took: Option<Duration>,
    pub(super) pause: Option<Duration>,
    pub(super) limits: Limits,
}

impl Outcome {
    /// The other side did it.
    pub fn done() -> Self {
        Self::default()
    }

    /// The other side was too busy for it, or a limit of its own did not admit it.
    pub fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }

    /// It failed with an error of a class, such as `timeout`. Classes are names of few sorts of errors, never messages.
    pub fn failed(class: impl Into<Cow<'static, str>>) -> Self {
        Self { error: Some(class.into()), ..Self::default() }
    }

    /// What an answer over HTTP says: 429 is refused, 503 is refused and failed, other statuses from 500 on are failed, each
    /// with its status as the class, such as `500`. `Retry-After` asks for a pause, and the fields `RateLimit` and
    /// `RateLimit-Policy` of draft 10 tell what remains of which quota.
    pub fn answer<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let refused = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let error = status.is_server_error().then(|| Cow::Owned(status.as_str().to_owned()));
        Self {
            refused,
            error,
            took: None,
            pause: told::pause(response.headers()),
            limits: told::remaining(response.headers()),
        }
    }

    /// How long it took until it was known.
    pub fn took(self, time: Duration) -> Self {
        Self { took: Some(time), ..self }
    }

    /// For how long the other side asks to be left alone: a throttle time.
    pub fn pause(self, time: Duration) -> Self {
        Self { pause: Some(time), ..self }
    }

    /// What a limit of the other side still admits, in units of the pacer's first limit, and how long until it admits more.
    pub fn remaining(mut self, units: u64, reset: Duration) -> Self {
        self.limits.push(Remaining { limit: self.limits.len() as u64, units, reset, quota: None });
        self
    }

    /// The quota of the limit of which something [remains](Self::remaining): so many units in so much time.
    pub fn quota(mut self, units: u64, time: Duration) -> Self {
        if let Some(limit) = self.limits.last_mut() {
            limit.quota = Some((units, time));
        }
        self
    }
}
