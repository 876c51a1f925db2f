//! What feature `metrics` does, without it: nothing, and nothing is read or made for it.

use super::Said;
use crate::Event;
use std::time::Duration;

pub(crate) const fn count(_: &Event<'_>, _: Option<&str>) {}

#[derive(Debug)]
pub(crate) struct Meters;

#[allow(clippy::unused_self, reason = "with the feature it is another one")]
impl Meters {
    pub(crate) fn new<'a>(_: impl Iterator<Item = &'a str>) -> Self {
        Self
    }

    pub(crate) const fn is_on(&self) -> bool {
        false
    }

    pub(crate) const fn is_timed(&self) -> bool {
        false
    }

    pub(crate) const fn took(&self, _: Duration) {}

    pub(crate) const fn said(&self, _: usize, _: Said) {}
}

#[cfg(feature = "pace")]
#[allow(clippy::unused_self, reason = "with the feature it is another one")]
impl Meters {
    pub(crate) const fn attempted(&self, _: usize) {}

    pub(crate) const fn sent(&self, _: usize, _: Option<Duration>) {}

    pub(crate) const fn rejected(&self, _: usize, _: &'static str) {}

    pub(crate) const fn watched(&self, _: usize, _: &'static str) {}
}
