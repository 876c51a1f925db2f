//! Connecting: to one server, or to all that share the keys of a cluster.

use super::{
    failure::Failure,
    line::send,
    link::{Link, State},
    script,
    servers::Servers,
    shards::{self, Map, Shards},
    wires::{Node, Wires},
};
use crate::StoreChange;
use redis::{AsyncConnectionConfig, Client, Cmd, Value};
use std::{collections::HashMap, sync::Arc};
use tokio::{task::JoinSet, time::timeout};

/// Connections to whoever decides now.
pub(super) async fn connect(link: &Arc<Link>) -> Result<Wires, Failure> {
    match &link.servers {
        Servers::Cluster { .. } => connect_all(link).await,
        servers => {
            let connecting = async {
                let node = dial(link, &servers.primary(link.timing.connect).await?).await?;
                servers.check(node.lines.first().cloned()).await?;
                Ok(node)
            };
            let node: Result<_, Failure> = within(link, connecting).await;
            Ok(Wires::new(vec![Arc::new(node?)], None))
        }
    }
}

/// Gives up when the time to connect is over.
async fn within<T>(link: &Link, connecting: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let connecting = timeout(link.timing.connect, connecting).await;
    connecting.unwrap_or(Err(Failure::Late(link.timing.connect)))
}

/// Connects to one server, and has it know our script.
async fn dial(link: &Link, client: &Client) -> Result<Node, Failure> {
    // Deadlines are ours, for a command and what is sent again after it together.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut node = Node::default();
    for _ in 0..link.connections {
        node.lines.push(client.get_multiplexed_async_connection_with_config(&config).await?);
    }
    let mut load = Cmd::new();
    load.arg("SCRIPT").arg("LOAD").arg(script::SOURCE);
    match send(node.lines.first().cloned(), load).await? {
        Value::BulkString(hash) => node.script = String::from_utf8_lossy(&hash).into_owned(),
        _ => return Err(Failure::Odd("it answered SCRIPT LOAD with no hash".into())),
    }
    advise(link, &node).await;
    Ok(node)
}

/// Connections to all nodes of a cluster: those that there are, and new ones. Who cannot be reached holds up none of the others.
async fn connect_all(link: &Arc<Link>) -> Result<Wires, Failure> {
    let known = match &*link.state().borrow() {
        State::Up(wires) => wires.nodes.clone(),
        _ => Vec::new(),
    };
    let (map, by) = find(link, &known).await?;
    let mut dialing = JoinSet::new();
    let mut nodes = HashMap::new();
    for (number, (host, port)) in map.nodes.iter().enumerate() {
        let address = format!("{host}:{port}");
        let good = known.iter().find(|node| node.address == address && node.why_shut().is_none());
        if let Some(node) = good {
            nodes.insert(number, node.clone());
            continue;
        }
        let (link, client) = (link.clone(), link.servers.told(&by, host.clone(), *port));
        dialing.spawn(async move {
            let node = match client {
                Ok(client) => within(&link, dial(&link, &client)).await,
                Err(error) => Err(Failure::from(error)),
            };
            (
                number,
                match node {
                    Ok(node) => node.at(address),
                    Err(failure) => Node::lost(address, failure.to_string()),
                },
            )
        });
    }
    while let Some(dialed) = dialing.join_next().await {
        if let Ok((number, node)) = dialed {
            nodes.insert(number, Arc::new(node));
        }
    }
    let lost = |(host, port): &(String, u16)| Node::lost(format!("{host}:{port}"), "not dialed".to_owned());
    let node = |(number, address)| nodes.remove(&number).unwrap_or_else(|| Arc::new(lost(address)));
    let all: Vec<_> = map.nodes.iter().enumerate().map(node).collect();
    if all.iter().all(|node| node.why_shut().is_some()) {
        let why = all.first().and_then(|node| node.why_shut()).unwrap_or_default();
        return Err(Failure::NotSent(format!("no node of the cluster is reached: {why}").into()));
    }
    Ok(Wires::new(all, Some(Shards::new(&map))))
}

/// Which nodes have which keys, by the first node that answers, and how that one was reached.
async fn find(link: &Link, known: &[Arc<Node>]) -> Result<(Map, Client), Failure> {
    let Servers::Cluster { seeds, .. } = &link.servers else {
        return Err(Failure::Odd("this is no cluster".into()));
    };
    let mut last = Failure::NotSent("no node of the cluster is named".into());
    for node in known.iter().filter(|node| node.why_shut().is_none()) {
        let asking = async { Ok(send(node.lines.last().cloned(), shards::question()).await?) };
        let host = node.address.rsplit_once(':').map_or("", |(host, _)| host);
        match (within(link, asking).await, seeds.first()) {
            (Ok(answer), Some(seed)) => {
                if let Some(map) = Map::read(&answer, host) {
                    return Ok((map, seed.clone()));
                }
            }
            (Err(failure), _) => last = failure,
            _ => {}
        }
    }
    for seed in seeds {
        let asking = async {
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let line = seed.get_multiplexed_async_connection_with_config(&config).await?;
            Ok(send(Some(line), shards::question()).await?)
        };
        let host = seed.get_connection_info().addr().to_string();
        match within(link, asking).await {
            Ok(answer) => match Map::read(&answer, host.rsplit_once(':').map_or("", |(host, _)| host)) {
                Some(map) => return Ok((map, seed.clone())),
                None => last = Failure::Odd("it does not know who has which keys of the cluster".into()),
            },
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Warns of a server that may drop what clients owe. One that keeps its settings to itself is not asked twice.
async fn advise(link: &Link, node: &Node) {
    let mut info = Cmd::new();
    info.arg("INFO").arg("memory");
    let answer = timeout(link.timing.deadline, send(node.lines.last().cloned(), info)).await;
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
