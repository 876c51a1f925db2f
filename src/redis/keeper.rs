//! The task that connects, joins, shows signs of life and probes, so that no request has to.

#[cfg(test)]
mod tests;

use super::{
    dial,
    failure::Failure,
    line::send,
    link::{Link, State},
    pause::Pause,
    tenant::Renewals,
    wires::{Node, Wires},
};
use crate::StoreChange;
use redis::{Cmd, Value};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// How often an instance shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// An instance that was silent for so long is gone.
const LIFE: Duration = Duration::from_secs(3);

/// What an instance joins as.
pub(super) struct Member {
    /// The fingerprint of its secret.
    pub(super) fingerprint: String,
    /// The fingerprint of its former secret, or nothing.
    pub(super) former: String,
    /// The longest time that anything is owed.
    pub(super) window: Duration,
    /// A name that no other instance has.
    pub(super) name: String,
}

/// Connects, and keeps connected for as long as it is let run.
pub(super) async fn keep(link: Arc<Link>, member: Member) {
    let (mut pause, mut renewals) = (Pause::new(link.timing.backoff), Renewals::of(&link.holdings));
    loop {
        match restore(&link, &member).await {
            Ok((wires, instances)) => {
                if !is_up(&link) {
                    renewals = Renewals::of(&link.holdings);
                }
                link.numbers.joined(instances);
                enter(&link, wires.clone(), instances);
                if wires.is_whole() {
                    pause.reset();
                    live(&link, &wires, &member, &mut renewals).await;
                } else {
                    // The others do not wait for the one that is away, and neither do signs of life and permits.
                    if let Err((node, failure)) = renewals.go_on(&link, &wires).await {
                        link.note(&wires, &node, Some(&failure));
                    }
                    link.give_units(link.leases.idle());
                    sleep(pause.next().min(BEAT)).await;
                }
            }
            Err(failure) => {
                refuse(&link, failure);
                sleep(pause.next()).await;
            }
        }
    }
}

/// Has calls sent. It is told when everything can be, or something after nothing could; and what cannot.
fn enter(link: &Link, wires: Arc<Wires>, instances: u32) {
    let before = match &*link.state().borrow() {
        State::Up(before) => Some(before.clone()),
        _ => None,
    };
    link.enter(State::Up(wires.clone()));
    let known = before.as_ref().and_then(|before| before.gap());
    match wires.gap() {
        Some(gap) if before.is_some() && known == Some(gap) => {}
        Some((address, why)) => {
            let error = &format!("node {address} of the cluster: {why}");
            link.tell(StoreChange::Unreachable { error });
        }
        // Keys have moved, and nothing was amiss.
        None if before.is_some() && known.is_none() => {}
        None => {
            link.numbers.came_back();
            link.tell(StoreChange::Joined { instances });
        }
    }
}

/// Writes down why there is no connection; that is told when the reason is a new one.
fn refuse(link: &Link, failure: Failure) {
    let error = failure.to_string();
    // A copy, because whoever is told may take long or ask for the state itself.
    let state = link.state().borrow().clone();
    match (&failure, &state) {
        // A probe that failed; the connections may yet come back.
        (Failure::Late(_), State::Open(_)) => return,
        (failure, State::Barred(_)) if failure.bars() => return,
        (failure, _) if failure.bars() => link.tell(StoreChange::Barred { error: &error }),
        (_, State::Down(known)) if *known == error => return,
        _ => link.tell(StoreChange::Unreachable { error: &error }),
    }
    link.enter(match failure {
        failure if failure.bars() => State::Barred(failure),
        _ => State::Down(error.into()),
    });
}

/// Connections through which a probe was answered within the deadline: those that there are, or new ones.
async fn restore(link: &Arc<Link>, member: &Member) -> Result<(Arc<Wires>, u32), Failure> {
    let open = match &*link.state().borrow() {
        State::Open(wires) => Some(wires.clone()),
        _ => None,
    };
    if let Some(wires) = open {
        match beat(link, &wires, member, link.timing.deadline).await {
            Ok(instances) => return Ok((wires, instances)),
            Err(barred) if barred.bars() => return Err(barred),
            // What broke without a word may never come back, and another server may have taken over.
            Err(_) => {}
        }
    }
    let wires = Arc::new(dial::connect(link).await?);
    match join(link, &wires, member).await {
        Err(barred) if barred.bars() => Err(barred),
        // In a cluster it is one node that cannot tell; the others go on with whoever had joined.
        Err(failure) if wires.shards.is_some() && is_up(link) => {
            if let Ok(node) = home(link, &wires) {
                node.shut(failure.to_string().into());
            }
            Ok((wires, link.numbers.instances()))
        }
        joined => joined.map(|instances| (wires, instances)),
    }
}

fn is_up(link: &Link) -> bool {
    matches!(&*link.state().borrow(), State::Up(_))
}

/// The first call may have to wait for what others have sent before; the second shows how fast Redis is.
async fn join(link: &Link, wires: &Wires, member: &Member) -> Result<u32, Failure> {
    beat(link, wires, member, link.timing.connect).await?;
    beat(link, wires, member, link.timing.deadline).await
}

/// Where instances say that they live.
fn home<'w>(link: &Link, wires: &'w Wires) -> Result<&'w Arc<Node>, Failure> {
    wires.node(|| link.names.secret().into_bytes())
}

/// Shows signs of life until the connections are given up.
async fn live(link: &Arc<Link>, wires: &Arc<Wires>, member: &Member, renewals: &mut Renewals) {
    let mut state = link.state();
    while matches!(&*state.borrow_and_update(), State::Up(up) if up.is_whole()) {
        if let Err((node, failure)) = renewals.go_on(link, wires).await {
            link.note(wires, &node, Some(&failure));
            continue;
        }
        if timeout(BEAT, state.changed()).await.is_ok() {
            continue;
        }
        match beat(link, wires, member, link.timing.deadline).await {
            Ok(instances) => {
                link.numbers.joined(instances);
                link.give_units(link.leases.idle());
            }
            Err(failure) if failure.bars() => return refuse(link, failure),
            Err(failure) => match home(link, wires) {
                Ok(node) => link.note(wires, node, Some(&failure)),
                Err(_) => return,
            },
        }
    }
}

/// Joins, or says that it still lives, through the last connection; answers with how many instances live.
async fn beat(link: &Link, wires: &Wires, member: &Member, deadline: Duration) -> Result<u32, Failure> {
    let mut join = Cmd::new();
    join.arg("EVAL")
        .arg(include_str!("join.lua"))
        .arg(3)
        .arg(link.names.secret())
        .arg(link.names.instances())
        .arg(link.names.former_secret());
    join.arg(&member.fingerprint).arg(&member.name).arg(LIFE.as_millis() as u64);
    // Nothing lives for no time, and a second longer than what is owed.
    let window = member.window.as_millis().saturating_add(1_000).min(1 << 52) as u64;
    join.arg(&member.former).arg(window);
    let line = home(link, wires)?.lines.last().cloned();
    let answer = timeout(deadline, send(line, join)).await;
    let Value::Array(answer) = answer.map_err(|_| Failure::Late(deadline))?? else {
        return Err(Failure::Odd("it answered a sign of life with no list".into()));
    };
    match &answer[..] {
        [Value::BulkString(found), Value::Int(instances)] if *found == member.fingerprint.as_bytes() => {
            Ok(u32::try_from(*instances).unwrap_or(u32::MAX).max(1))
        }
        [Value::BulkString(former), Value::Int(left @ 1..)] => Err(Failure::SecretChanges {
            former: String::from_utf8_lossy(former).into_owned(),
            left: Duration::from_millis(left.unsigned_abs()),
        }),
        [Value::BulkString(found), _] => Err(Failure::OtherSecret {
            ours: member.fingerprint.clone(),
            theirs: String::from_utf8_lossy(found).into_owned(),
            prefix: link.names.prefix().to_owned(),
        }),
        _ => Err(Failure::Odd("it answered a sign of life with something else".into())),
    }
}
