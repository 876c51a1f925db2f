//! What the clones of a pacer, and all that goes through them, share.

use super::{
    feedback::Control,
    priority::Shares,
    queue::{Bounds, Queues},
    spacing::Spacing,
};
use crate::Limiter;
use std::{sync::Arc, time::Duration};

/// What a pacer is.
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) rule: usize,
    /// Whether heads of queues have to take turns.
    pub(super) takes_turns: bool,
    pub(super) settings: Settings,
    pub(super) queues: Arc<Queues>,
    /// What is known of the other side, if that matters.
    pub(super) control: Option<Arc<Control>>,
}

/// How a pacer was set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) spacing: Spacing,
    pub(super) max_wait: Option<Duration>,
    pub(super) shadow: bool,
    pub(super) bounds: Bounds,
    pub(super) shares: Shares,
}
