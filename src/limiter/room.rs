//! What a policy needs: memory to count in, room for permits, and a registry where clients are looked up.

use crate::{
    Mistake,
    clock::Timeline,
    permit::{Capacity, Permits},
    policy::Compiled,
    store::Memory,
};

/// So many clients that are registered where a store elsewhere counts.
pub(super) const DEFAULT_CLIENTS: usize = 1 << 17;

/// More would be gigabytes.
const MOST_PERMITS: usize = 1 << 24;

/// That bodies wait, and nothing tells when they have waited long enough.
pub(super) fn missing_timer(policy: &Compiled, has_timer: bool) -> Option<Mistake> {
    let limit = policy.limits.iter().find(|limit| limit.paced().is_some() && !has_timer)?;
    let reason = format!(
        "bodies wait under {:?}, and nothing tells when they have waited long enough; build with `.timer(tokio::time::sleep)` or that of another runtime",
        limit.words.name
    );
    Some(Mistake::Setting { setting: "timer", reason })
}

/// That clients are looked up, and there is nowhere to look.
pub(super) fn missing_registry(policy: &Compiled, has_registry: bool) -> Option<Mistake> {
    let reason = "a source is registered, and there is no registry; set one with `.clients(..)`".to_owned();
    let mistake = Mistake::Setting { setting: "Source::registered", reason };
    (policy.has_registered && !has_registry).then_some(mistake)
}

/// Whether so many bytes are enough for a policy.
pub(super) fn enough(bytes: usize, policy: &Compiled) -> Result<(), Mistake> {
    let least = Memory::min_bytes(policy.limits.len(), policy.shared_limits());
    if bytes >= least {
        return Ok(());
    }
    let reason = format!("{bytes} bytes are too few for this policy; set {least} at least");
    Err(Mistake::Setting { setting: "memory_bytes", reason })
}

/// Memory for the limits of a policy.
pub(super) fn memory(bytes: usize, timeline: Timeline, policy: &Compiled) -> Result<Memory, Mistake> {
    enough(bytes, policy)?;
    Memory::new(timeline, bytes, policy.shared_limits()).map_err(|error| {
        let reason = format!("{bytes} bytes are not to be had ({error}); set fewer");
        Mistake::Setting { setting: "memory_bytes", reason }
    })
}

/// Room for the permits of a policy, if it has limits on concurrency; `former` is that of the policy which it follows.
pub(super) fn permits(
    policy: &Compiled,
    former: Option<&Permits>,
    has_timer: bool,
    (holders, waiters): (usize, usize),
) -> Result<Option<Permits>, Mistake> {
    let mistake = |setting, reason: String| Err(Mistake::Setting { setting, reason });
    if let Some(limit) = policy.concurrency.iter().find(|limit| limit.queue > 0 && !has_timer) {
        return mistake(
            "timer",
            format!(
                "requests wait under {:?}, and nothing tells when they have waited long enough; build with `.timer(tokio::time::sleep)` or that of another runtime",
                limit.name
            ),
        );
    }
    for (setting, number) in [("max_in_flight", holders), ("max_waiting", waiters)] {
        if number > MOST_PERMITS {
            return mistake(setting, format!("{number} are too many; set {MOST_PERMITS} at most"));
        }
    }
    if former.is_some() {
        return Ok(former.cloned());
    }
    let limits = policy.concurrency.len();
    // Where there is a timer, a policy that follows may let requests wait.
    let waiters = if has_timer { waiters } else { 0 };
    let maxima = policy.concurrency.iter().map(|limit| limit.max).collect();
    Ok((limits > 0).then(|| Permits::new(Capacity { keys: holders, waiters, limits }, maxima)))
}
