//! What the caller sees: fields that tell how much is left, and the answer to a refused request.

mod answer;
mod grpc;
mod headers;
mod prose;
mod refusal;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use answer::RefusalStyle;
pub use headers::HeaderStyle;
pub(crate) use headers::{Fields, lasting_value, quoted, words, write};
pub(crate) use refusal::NO_ROOM;
pub use refusal::{Reason, Refusal};

use http::HeaderValue;
use std::time::Duration;

/// How limits and refusals are told.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerStyle {
    pub(crate) headers: HeaderStyle,
    pub(crate) refusal: RefusalStyle,
}

/// Rounded up, because a client told to come back early would be refused again.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// In one allocation; `HeaderValue::from` needs two.
fn number(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).unwrap_or_else(|_| number.into())
}
