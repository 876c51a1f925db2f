//! The task that connects, joins, shows signs of life and probes, so that no request has to.

#[cfg(test)]
mod tests;

use super::{
    failure::Failure,
    line::send,
    link::{Link, State, Wires},
    script,
    tenant::Renewals,
};
use crate::StoreChange;
use redis::{AsyncConnectionConfig, Cmd, Value};
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
    /// A name that no other instance has.
    pub(super) name: String,
}

/// Connects, and keeps connected for as long as it is let run.
pub(super) async fn keep(link: Arc<Link>, member: Member) {
    let mut pause = Pause::new(link.timing.backoff);
    loop {
        match restore(&link, &member).await {
            Ok((wires, instances)) => {
                pause.reset();
                link.numbers.joined(instances);
                link.numbers.came_back();
                link.enter(State::Up(wires.clone()));
                link.tell(StoreChange::Joined { instances });
                live(&link, &wires, &member).await;
            }
            Err(failure) => {
                refuse(&link, failure);
                sleep(pause.next()).await;
            }
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
        (Failure::OtherSecret { .. }, State::Barred(_)) => return,
        (Failure::OtherSecret { .. }, _) => link.tell(StoreChange::Barred { error: &error }),
        (_, State::Down(known)) if *known == error => return,
        _ => link.tell(StoreChange::Unreachable { error: &error }),
    }
    link.enter(match failure {
        Failure::OtherSecret { .. } => State::Barred(failure),
        _ => State::Down(error.into()),
    });
}

/// Connections through which a probe was answered within the deadline: those that there are, or new ones.
async fn restore(link: &Link, member: &Member) -> Result<(Arc<Wires>, u32), Failure> {
    let open = match &*link.state().borrow() {
        State::Open(wires) => Some(wires.clone()),
        _ => None,
    };
    if let Some(wires) = open {
        match beat(link, &wires, member, link.timing.deadline).await {
            Ok(instances) => return Ok((wires, instances)),
            Err(barred @ Failure::OtherSecret { .. }) => return Err(barred),
            // What broke without a word may never come back, and another server may have taken over.
            Err(_) => {}
        }
    }
    let connecting = timeout(link.timing.connect, connect(link)).await;
    let wires = Arc::new(connecting.map_err(|_| Failure::Late(link.timing.connect))??);
    // The first call may have to wait for what others have sent before; the second shows how fast Redis is.
    beat(link, &wires, member, link.timing.connect).await?;
    let instances = beat(link, &wires, member, link.timing.deadline).await?;
    advise(link, &wires).await;
    Ok((wires, instances))
}

async fn connect(link: &Link) -> Result<Wires, Failure> {
    // Deadlines are ours, for a command and what is sent again after it together.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = link.servers.primary(link.timing.connect).await?;
    let mut lines = Vec::new();
    for _ in 0..link.connections {
        lines.push(client.get_multiplexed_async_connection_with_config(&config).await?);
    }
    link.servers.check(lines.first().cloned()).await?;
    let mut load = Cmd::new();
    load.arg("SCRIPT").arg("LOAD").arg(script::SOURCE);
    match send(lines.first().cloned(), load).await? {
        Value::BulkString(hash) => Ok(Wires { lines, script: String::from_utf8_lossy(&hash).into_owned() }),
        _ => Err(Failure::Odd("it answered SCRIPT LOAD with no hash".into())),
    }
}

/// Warns of a server that may drop what clients owe. One that keeps its settings to itself is not asked twice.
async fn advise(link: &Link, wires: &Wires) {
    let mut info = Cmd::new();
    info.arg("INFO").arg("memory");
    let answer = timeout(link.timing.deadline, send(wires.lines.last().cloned(), info)).await;
    let Ok(Ok(Value::BulkString(text))) = answer else { return };
    let text = String::from_utf8_lossy(&text);
    let setting = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let (Some(most), Some(policy)) = (setting("maxmemory"), setting("maxmemory_policy")) else { return };
    if most != "0" && policy != "noeviction" {
        let advice = &format!(
            "Redis forgets what clients owe when its memory is full, because its maxmemory-policy is {policy}; set it to noeviction"
        );
        link.tell(StoreChange::Advice { advice });
    }
}

/// Shows signs of life until the connections are given up.
async fn live(link: &Arc<Link>, wires: &Arc<Wires>, member: &Member) {
    let (mut state, mut renewals) = (link.state(), Renewals::due());
    while matches!(&*state.borrow_and_update(), State::Up(_)) {
        if let Err(failure) = renewals.go_on(link, wires).await {
            link.note(wires, Some(&failure));
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
            Err(failure @ Failure::OtherSecret { .. }) => return refuse(link, failure),
            Err(failure) => link.note(wires, Some(&failure)),
        }
    }
}

/// Joins, or says that it still lives, through the last connection; answers with how many instances live.
async fn beat(link: &Link, wires: &Wires, member: &Member, deadline: Duration) -> Result<u32, Failure> {
    let mut join = Cmd::new();
    join.arg("EVAL")
        .arg(include_str!("join.lua"))
        .arg(2)
        .arg(link.names.secret())
        .arg(link.names.instances());
    join.arg(&member.fingerprint).arg(&member.name).arg(LIFE.as_millis() as u64);
    let answer = timeout(deadline, send(wires.lines.last().cloned(), join)).await;
    let Value::Array(answer) = answer.map_err(|_| Failure::Late(deadline))?? else {
        return Err(Failure::Odd("it answered a sign of life with no list".into()));
    };
    match &answer[..] {
        [Value::BulkString(found), Value::Int(instances)] if *found == member.fingerprint.as_bytes() => {
            Ok(u32::try_from(*instances).unwrap_or(u32::MAX).max(1))
        }
        [Value::BulkString(found), _] => Err(Failure::OtherSecret {
            ours: member.fingerprint.clone(),
            theirs: String::from_utf8_lossy(found).into_owned(),
            prefix: link.names.prefix().to_owned(),
        }),
        _ => Err(Failure::Odd("it answered a sign of life with something else".into())),
    }
}

/// The pauses between tries, each twice the one before and cut short at random, so that instances that have lost Redis
/// at the same moment do not come back at the same moment.
struct Pause {
    range: (Duration, Duration),
    next: Duration,
}

impl Pause {
    const fn new(range: (Duration, Duration)) -> Self {
        Self { range, next: range.0 }
    }

    const fn reset(&mut self) {
        self.next = self.range.0;
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.range.1);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
