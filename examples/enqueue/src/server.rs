//! A server of Redis on a free port of this machine, which ends with this.

use std::{
    error::Error,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// # Errors
    ///
    /// If `redis-server` is missing or does not start.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        // Another program may take a port before Redis does; then another one is tried.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let process = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
                .arg(port.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| {
                    format!("redis-server: {error}; on Debian `apt-get install redis-server` brings it")
                })?;
            let mut server = Self { process, port };
            let lines = server.process.stdout.take().ok_or("redis-server says nothing")?;
            let mut lines = BufReader::new(lines).lines().map_while(Result::ok);
            let is_ready = lines.any(|line| line.contains("eady to accept connections"));
            // It stops when nobody reads what it says.
            std::thread::spawn(move || lines.for_each(drop));
            if is_ready {
                return Ok(server);
            }
        }
        Err("redis-server started on none of 20 ports".into())
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
