//! One connection, and what is sent through it.

use redis::{Cmd, ErrorKind, RedisResult, Value, aio::MultiplexedConnection};

/// Sends one command and waits for its answer.
pub(super) async fn send(line: Option<MultiplexedConnection>, command: Cmd) -> RedisResult<Value> {
    match line {
        // An error of the server is a value among others until it is taken out.
        Some(mut line) => line.send_packed_command(&command).await?.extract_error(),
        None => Err((ErrorKind::Client, "there is no connection").into()),
    }
}
