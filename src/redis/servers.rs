//! Which server to connect to.

use super::{access::Access, failure::Failure, line::send};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, Value, aio::MultiplexedConnection};
use std::time::Duration;
use tokio::time::timeout;

/// How the server is found.
#[derive(Clone)]
pub(super) enum Servers {
    /// It is always the same.
    One(Client),
    /// Sentinels know the primary, by its name.
    Named { name: String, sentinels: Vec<Client>, access: Access },
    /// Nodes of a cluster know all others.
    Cluster { seeds: Vec<Client>, access: Access },
}

impl Servers {
    /// The server that decides now, or any node of a cluster. Each sentinel is given a part of the time to connect.
    pub(super) async fn primary(&self, patience: Duration) -> Result<Client, Failure> {
        let (name, sentinels, access) = match self {
            Self::One(client) => return Ok(client.clone()),
            // Any node tells what is told to any other.
            Self::Cluster { seeds, .. } => {
                let seed = seeds.get(fastrand::usize(..seeds.len().max(1))).cloned();
                return seed.ok_or(Failure::Odd("a cluster without nodes".into()));
            }
            Self::Named { name, sentinels, access } => (name, sentinels, access),
        };
        let share = patience / u32::try_from(sentinels.len()).unwrap_or(u32::MAX).max(1);
        let mut last = None;
        for sentinel in sentinels {
            match timeout(share, ask(sentinel, name)).await {
                Ok(Ok(Some((host, port)))) => {
                    return Ok(access.told(sentinel, host, port)?);
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => last = Some(Failure::from(error)),
                Err(_) => last = Some(Failure::Late(share)),
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::NotSent(format!("no sentinel knows a primary named {name:?}").into())
        }))
    }

    pub(super) const fn are_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// A node that another one has told of.
    pub(super) fn told(&self, by: &Client, host: String, port: u16) -> RedisResult<Client> {
        match self {
            Self::Named { access, .. } | Self::Cluster { access, .. } => access.told(by, host, port),
            Self::One(client) => Ok(client.clone()),
        }
    }

    /// Whether a connection leads to one that decides. Sentinels may name a primary that has just been replaced.
    pub(super) async fn check(&self, line: Option<MultiplexedConnection>) -> Result<(), Failure> {
        if !matches!(self, Self::Named { .. }) {
            return Ok(());
        }
        let mut role = Cmd::new();
        role.arg("ROLE");
        match send(line, role).await? {
            Value::Array(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => Ok(()),
            _ => Err(Failure::Odd("a sentinel named a server that is no primary".into())),
        }
    }
}

/// Where a sentinel says that the primary of this name is, if it knows one.
async fn ask(sentinel: &Client, name: &str) -> RedisResult<Option<(String, u16)>> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let line = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
    let mut command = Cmd::new();
    command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let Value::Array(address) = send(Some(line), command).await? else { return Ok(None) };
    let [Value::BulkString(host), Value::BulkString(port)] = &address[..] else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(text(port).parse().ok().map(|port| (text(host), port)))
}
