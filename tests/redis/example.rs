//! The example with three servers, started as users start it.

use crate::stage::Server;
use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

/// Ends with this.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn three_servers_admit_one_limit_together() {
    let redis = Server::start();
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/cluster");
    let mut command = Command::new(path.with_extension(env::consts::EXE_EXTENSION));
    command.env("ADDR", "127.0.0.1:0").env("REDIS", redis.url()).stdout(Stdio::piped());
    let mut example = Example(
        command.spawn().unwrap_or_else(|error| panic!("{error}; `cargo build --examples` makes {path:?}")),
    );
    let lines = BufReader::new(example.0.stdout.take().unwrap()).lines();
    let addresses: Vec<_> = lines
        .take(3)
        .map(|line| line.unwrap().strip_prefix("curl -i http://").unwrap().trim_end_matches('/').to_owned())
        .collect();
    // Until it has joined, each of them counts for itself.
    let charges =
        || redis.say("INFO commandstats").lines().find(|line| line.contains("evalsha")).map(str::to_owned);
    for address in &addresses {
        let before = charges();
        while charges() == before {
            status(address);
        }
    }
    for key in redis.counts() {
        redis.say(&format!("DEL {key}"));
    }
    let statuses: Vec<_> = (0..13).map(|number| status(&addresses[number % 3])).collect();
    let admitted = statuses.iter().filter(|status| *status == "200").count();
    // A unit comes back each second.
    assert!((10..=12).contains(&admitted) && statuses.contains(&"429".to_owned()), "{statuses:?}");
}
