//! A server of Redis on a port of its own, and what it says of itself.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    thread,
};

/// It ends with this.
pub(super) struct Server {
    child: Child,
    dir: PathBuf,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn start() -> Self {
        let dir = env::temp_dir().join(format!("tidegate-bench-redis-{}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let mut command = Command::new("redis-server");
        command.args(settings).arg(port.to_string()).arg("--dir").arg(&dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.unwrap().contains("eady to accept connections"));
        // It stops when nobody reads what it says.
        thread::spawn(move || lines.for_each(drop));
        let server = Self { child, dir, port };
        assert!(is_ready, "redis-server does not start on port {port}");
        server
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Microseconds of the processor since its start, and of them those in scripts.
    pub(super) fn busy(&self) -> Busy {
        let (cpu, commands) = (self.info("cpu"), self.info("commandstats"));
        let cpu = |name: &str| 1e6 * number(&cpu, name, ':');
        let script = commands.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        Busy {
            whole: cpu("used_cpu_user") + cpu("used_cpu_sys"),
            scripts: number(script, "usec", '='),
            calls: number(script, "calls", '='),
        }
    }

    pub(super) fn used_memory(&self) -> f64 {
        number(&self.info("memory"), "used_memory", ':')
    }

    fn info(&self, section: &str) -> String {
        let mut line = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        redis::cmd("INFO").arg(section).query(&mut line).unwrap()
    }

    /// Nanoseconds a call of a command by Redis's own load generator, through one connection, so many on their way.
    pub(super) fn benchmark(&self, calls: u32, pipelined: usize, keys: u32, command: &[&str]) -> f64 {
        let mut generator = Command::new("redis-benchmark");
        generator.args(["--csv", "-c", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        generator.args(["-P", &pipelined.to_string(), "-n", &calls.to_string(), "-r", &keys.to_string()]);
        let told = generator.args(command).stderr(Stdio::null()).output().unwrap().stdout;
        let told = String::from_utf8(told).unwrap();
        let rate = told.lines().last().and_then(|line| line.split("\",\"").nth(1)).unwrap_or_default();
        1e9 / rate.parse::<f64>().unwrap_or_else(|_| panic!("redis-benchmark says {told:?}"))
    }
}

/// What a server has done so far.
#[derive(Clone, Copy)]
pub(super) struct Busy {
    whole: f64,
    scripts: f64,
    calls: f64,
}

impl Busy {
    /// Microseconds of the processor a script since then, of the whole server and within the script.
    pub(super) fn since(self, then: Self) -> (f64, f64) {
        let calls = self.calls - then.calls;
        ((self.whole - then.whole) / calls, (self.scripts - then.scripts) / calls)
    }
}

/// The number behind a name; none is nothing.
fn number(text: &str, name: &str, sign: char) -> f64 {
    let words = text.split([',', '\r', '\n']);
    let found = words.filter_map(|word| word.rsplit_once(sign)).find(|(before, _)| {
        // A line of figures begins with what they are about.
        before.rsplit(':').next() == Some(name)
    });
    found.and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0.0)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
