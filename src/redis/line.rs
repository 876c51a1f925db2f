//! One connection, and what is sent through it.

use redis::{Cmd, ErrorKind, Pipeline, RedisResult, Value, aio::MultiplexedConnection};

/// Sends one command and waits for its answer.
pub(super) async fn send(line: Option<MultiplexedConnection>, command: Cmd) -> RedisResult<Value> {
    match line {
        // An error of the server is a value among others until it is taken out.
        Some(mut line) => line.send_packed_command(&command).await?.extract_error(),
        None => Err((ErrorKind::Client, "there is no connection").into()),
    }
}

/// The same, for keys that are on their way to where it is sent.
pub(super) async fn send_asking(line: Option<MultiplexedConnection>, command: Cmd) -> RedisResult<Value> {
    let Some(mut line) = line else { return send(None, command).await };
    let mut both = Pipeline::new();
    both.cmd("ASKING").add_command(command);
    let answer = line.send_packed_commands(&both, 1, 1).await?.pop();
    answer.unwrap_or(Value::Nil).extract_error()
}
