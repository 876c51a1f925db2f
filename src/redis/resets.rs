//! Whom other instances have forgiven: told, so that what is known of it here is forgotten.

use super::{
    call::Call, ear::Ear, failure::Failure, line::send, link::Link, names::Names, pause::Pause,
    servers::Servers, wires::Wires,
};
use crate::{Key, Op, Place, StoreChange};
use redis::Cmd;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// How often it is looked whether the connection is still there.
const BEAT: Duration = Duration::from_secs(1);

/// Hears of resets for as long as it is let run.
pub(super) async fn listen(link: Arc<Link>, servers: Servers) {
    let (mut pause, mut is_told) = (Pause::new(link.timing.backoff), false);
    loop {
        match Ear::open(&servers, &channel(&link.names), link.timing.connect).await {
            Ok(ear) => {
                pause.reset();
                follow(&link, ear).await;
            }
            // That Redis is away is told of the calls that fail.
            Err(failure @ Failure::Refused(_)) if !is_told => {
                is_told = true;
                let advice = &format!(
                    "what other instances reset is seen here when known refusals end, because it cannot be heard ({failure}); allow hello and subscribe, and the channel"
                );
                link.tell(StoreChange::Advice { advice });
            }
            Err(_) => {}
        }
        sleep(pause.next()).await;
    }
}

/// Forgets what others reset, until the connection is lost.
async fn follow(link: &Link, mut ear: Ear) {
    // What was told before was missed, and so is what will be told after.
    link.refusals.clear();
    loop {
        match timeout(BEAT, ear.hear()).await {
            Ok(Some(message)) => match read(&message) {
                Some((place, limit)) => {
                    link.refusals.reset(place, limit);
                    link.leases.forget(place, limit);
                }
                None => link.refusals.clear(),
            },
            Ok(None) => break,
            Err(_) => {
                let mut ping = Cmd::new();
                ping.arg("PING");
                match timeout(link.timing.connect, send(Some(ear.line.clone()), ping)).await {
                    // A server that does not allow it is there all the same.
                    Ok(Err(error)) if matches!(Failure::from(error.clone()), Failure::Refused(_)) => {}
                    Ok(Ok(_)) => {}
                    _ => break,
                }
            }
        }
    }
    link.refusals.clear();
}

/// Tells all instances of what a call has reset. Nobody waits for it; who misses it goes by what it knows until that ends.
pub(super) fn tell(link: &Arc<Link>, wires: &Wires, call: &Call) {
    for charge in call.charges.iter().filter(|charge| charge.op == Op::Clear) {
        let Ok(node) = wires.node(|| link.names.at(charge.place, charge.limit)) else { continue };
        let _runtime = link.runtime.get().map(Handle::enter);
        let mut publish = Cmd::new();
        publish.arg("PUBLISH").arg(channel(&link.names)).arg(write(charge.place, charge.limit));
        let sending = timeout(link.timing.deadline, send(node.line(Some(charge.place)), publish));
        link.set_off(async move { drop(sending.await) });
    }
}

fn channel(names: &Names) -> String {
    format!("{}resets", names.prefix())
}

/// The limit, and after it the client, if it is one's own.
fn write(place: Place, limit: u64) -> Vec<u8> {
    let mut message = limit.to_be_bytes().to_vec();
    if let Place::Client(key) = place {
        message.extend(key.to_bytes());
    }
    message
}

fn read(message: &[u8]) -> Option<(Place, u64)> {
    let (limit, client) =
        message.split_first_chunk().map(|(limit, rest)| (u64::from_be_bytes(*limit), rest))?;
    let half = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    let place = match client.len() {
        // Its number is another policy's; nothing goes by it.
        0 => Place::Shared(0),
        _ => Place::Client(Key::new(half(client.get(..8)?)?, half(client.get(8..)?)?)),
    };
    Some((place, limit))
}
