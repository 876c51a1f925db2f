//! A connection through which Redis tells what others have done.

use super::{failure::Failure, servers::Servers};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use std::time::Duration;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// What is told in one channel, in order, from when it was opened until the connection is lost.
pub(super) struct Ear {
    /// What is asked through it is answered after all that was told before.
    pub(super) line: MultiplexedConnection,
    told: UnboundedReceiver<PushInfo>,
}

impl Ear {
    /// `servers` must be entered by the third version of the protocol.
    pub(super) async fn open(servers: &Servers, channel: &str, patience: Duration) -> Result<Self, Failure> {
        let opening = async {
            let (sender, told) = unbounded_channel();
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let client = servers.primary(patience).await?;
            let config = config.set_push_sender(sender);
            let mut line = client.get_multiplexed_async_connection_with_config(&config).await?;
            servers.check(Some(line.clone())).await?;
            line.subscribe(channel).await?;
            Ok(Self { line, told })
        };
        timeout(patience, opening).await.map_err(|_| Failure::Late(patience))?
    }

    /// What is told next; nothing once the connection is lost.
    pub(super) async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = message(self.told.recv().await?)? {
                return Some(message);
            }
        }
    }

    /// What has been told already.
    pub(super) fn heard(&mut self) -> Option<Vec<u8>> {
        while let Ok(push) = self.told.try_recv() {
            if let Some(message) = message(push).flatten() {
                return Some(message);
            }
        }
        None
    }
}

/// The text of a message, if it is one; nothing where the connection is lost.
fn message(PushInfo { kind, mut data }: PushInfo) -> Option<Option<Vec<u8>>> {
    match (kind, data.pop()) {
        (PushKind::Disconnection, _) => None,
        (PushKind::Message, Some(Value::BulkString(text))) => Some(Some(text)),
        _ => Some(None),
    }
}
