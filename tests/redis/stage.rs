//! A server of Redis for one test, and limiters that count there.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{Event, Limiter, LimiterBuilder, ManualClock, Observe, Policy, RedisBuilder, RedisStore};
use tokio::sync::Notify;

pub const SECRET: [u8; 16] = *b"a secret of ours";

/// A server on a port of its own, which ends with this.
pub struct Server {
    child: Child,
    pub port: u16,
    dir: PathBuf,
}

static SERVERS: AtomicU32 = AtomicU32::new(0);

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings as they stand on the command line.
    pub fn with(settings: &[&str]) -> Self {
        Self::somewhere(|port| Self::on(port, settings))
    }

    /// A sentinel that watches a server under the name `gate`, and gives it up soon.
    pub fn sentinel(watched: &Self) -> Self {
        let watch = format!(
            "sentinel monitor gate 127.0.0.1 {} 1\nsentinel down-after-milliseconds gate 300\nsentinel failover-timeout gate 3000\n",
            watched.port
        );
        Self::somewhere(|port| Self::launch(port, Some(&watch), &["--sentinel"]))
    }

    /// Nothing where the port is taken.
    pub fn on(port: u16, settings: &[&str]) -> Option<Self> {
        Self::launch(port, None, &[&["--save", "", "--appendonly", "no"], settings].concat())
    }

    /// Another program may take a port before Redis does; then another one is tried.
    fn somewhere(start: impl Fn(u16) -> Option<Self>) -> Self {
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        (0..20).find_map(|_| start(free_port())).expect("redis-server starts on one of 20 ports")
    }

    /// Nothing where the port is taken. `TIDEGATE_TEST_REDIS_SERVER` names another program, such as `valkey-server`.
    pub fn launch(port: u16, config: Option<&str>, settings: &[&str]) -> Option<Self> {
        let number = SERVERS.fetch_add(1, Relaxed);
        let dir = std::env::temp_dir().join(format!("tidegate-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program =
            std::env::var("TIDEGATE_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(&program);
        if let Some(config) = config {
            std::fs::write(dir.join("config"), config).unwrap();
            command.arg(dir.join("config"));
        }
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(&dir).args(settings);
        let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("{program} is missing; install it with `apt-get install redis-server`")
            }
            Err(error) => panic!("{program}: {error}"),
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let words = ["eady to accept connections", "Sentinel ID is"];
        let ready = lines.any(|line| words.iter().any(|word| line.as_ref().unwrap().contains(word)));
        // It stops when nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { child, port, dir };
        ready.then_some(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Says something to the process: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// Asks for something, and answers with the text that comes back, lists joined by spaces.
    pub fn ask(&self, words: &[&[u8]]) -> Vec<u8> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(*word);
            request.extend(b"\r\n");
        }
        (&stream).write_all(&request).unwrap();
        answer(&mut BufReader::new(stream))
    }

    /// The same with a line of words, and a text as the answer.
    pub fn say(&self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.ask(&words)).into_owned()
    }

    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.say("KEYS *").split(' ').map(str::to_owned).collect();
        keys.retain(|key| !key.is_empty());
        keys.sort();
        keys
    }

    /// The keys of what is counted.
    pub fn counts(&self) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.contains(":{")).collect()
    }
}

/// Six servers that share the keys: three primaries, and a replica of each.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

/// How long a node is silent before others take it for dead, in milliseconds.
const SILENCE: &str = "500";

impl Cluster {
    pub fn start() -> Self {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", SILENCE];
        // Who has lost one node goes on with the others; and the machine may be slow.
        let more = ["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"];
        let settings = [settings, more].concat();
        // The port of the bus is greater by 10,000.
        let node = |_| Server::somewhere(|port| Server::on(port.min(port % 20_000 + 20_000), &settings));
        let cluster = Self { nodes: (0..6).map(node).collect() };
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.say(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
            node.say(&format!("CLUSTER MEET 127.0.0.1 {}", cluster.nodes[0].port));
        }
        for (number, node) in cluster.nodes[..3].iter().enumerate() {
            let slots = (0..16_384).filter(|slot| slot * 3 / 16_384 == number).map(|slot| slot.to_string());
            node.say(&format!("CLUSTER ADDSLOTS {}", slots.collect::<Vec<_>>().join(" ")));
        }
        for node in &cluster.nodes {
            until(|| node.say("CLUSTER INFO").contains("cluster_known_nodes:6"));
        }
        for (number, node) in cluster.nodes[3..].iter().enumerate() {
            until(|| node.say(&format!("CLUSTER REPLICATE {}", cluster.nodes[number].id())) == "OK");
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            until(|| node.say("CLUSTER INFO").contains("cluster_state:ok"));
            // All know who follows whom, and what there is has been copied.
            until(|| {
                node.say("CLUSTER NODES").matches(" slave ").count()
                    + node.say("CLUSTER NODES").matches("myself,slave").count()
                    == 3
            });
            if number >= 3 {
                until(|| node.say("INFO replication").contains("master_link_status:up"));
            }
        }
        cluster
    }

    pub fn store(&self) -> RedisBuilder {
        RedisStore::cluster(self.nodes[..3].iter().map(Server::url))
            .deadline(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(30))
    }

    /// The number of the primary that has a key.
    pub fn home(&self, key: &str) -> usize {
        let slot: usize = self.nodes[0].say(&format!("CLUSTER KEYSLOT {key}")).parse().unwrap();
        slot * 3 / 16_384
    }

    /// The keys of what is counted, with all primaries.
    pub fn counts(&self) -> Vec<String> {
        self.nodes[..3].iter().flat_map(Server::counts).collect()
    }
}

impl Server {
    pub fn id(&self) -> String {
        self.say("CLUSTER MYID")
    }
}

/// Waits for what comes by itself, and is an error if it does not come within half a minute.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn answer(stream: &mut impl BufRead) -> Vec<u8> {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "$" => match rest.parse::<usize>() {
            Ok(len) => {
                let mut text = vec![0; len + 2];
                stream.read_exact(&mut text).unwrap();
                text.truncate(len);
                text
            }
            Err(_) => b"nothing".to_vec(),
        },
        "*" => {
            let parts: Vec<_> = (0..rest.parse().unwrap()).map(|_| answer(stream)).collect();
            parts.join(&b' ')
        }
        _ => rest.as_bytes().to_vec(),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A store that waits for longer than any machine hangs.
pub fn store(server: &Server) -> RedisBuilder {
    RedisStore::builder(server.url())
        .deadline(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(30))
}

/// A limiter that counts in a store which was joined.
pub async fn limiter(store: &RedisStore, policy: Policy) -> Limiter {
    limiter_with(store, policy, |builder| builder).await
}

pub async fn limiter_with(
    store: &RedisStore,
    policy: Policy,
    with: impl FnOnce(LimiterBuilder) -> LimiterBuilder,
) -> Limiter {
    let builder = Limiter::builder(policy).secret(SECRET).store(store.clone());
    let limiter = with(builder).build().unwrap();
    store.ready().await.unwrap();
    limiter
}

/// A limiter whose time, and that of its counts, moves as it is told to.
pub async fn on_clock(server: &Server, prefix: &str, policy: Policy) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    // Redis itself is to be asked each time.
    let store = store(server).prefix(prefix).clock(clock.clone()).known_refusals(Duration::ZERO);
    let store = store.build().unwrap();
    (limiter_with(&store, policy, |builder| builder.clock(clock.clone())).await, clock)
}

/// Passes bytes on to a server until it is cut.
pub struct Relay {
    port: u16,
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), server.port);
        let relay = Self { port, cut: Arc::default(), streams: Arc::default() };
        let (cut, streams) = (relay.cut.clone(), relay.streams.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map(Result::unwrap) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { return };
                if cut.load(Relaxed) {
                    continue;
                }
                let mut all = streams.lock().unwrap();
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                all.extend([near, far]);
            }
        });
        relay
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cut, it closes what is open and takes no more.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Relaxed);
        if cut {
            self.streams.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }
}

/// What was told of a store, as it comes.
#[derive(Clone, Default)]
pub struct Events {
    told: Arc<Mutex<Vec<String>>>,
    past: Arc<Mutex<Vec<String>>>,
    came: Arc<Notify>,
}

impl Events {
    pub fn observer(&self) -> impl Observe + use<> {
        let Self { told, past, came } = self.clone();
        move |event: &Event<'_>| {
            if let Event::Store(change) = event {
                past.lock().unwrap().push(format!("{change:?}"));
                told.lock().unwrap().push(format!("{change:?}"));
                came.notify_one();
            }
        }
    }

    /// All events so far.
    pub fn past(&self) -> Vec<String> {
        self.past.lock().unwrap().clone()
    }

    /// The first event from now on, or since the last one that was waited for, that begins like this.
    pub async fn until(&self, beginning: &str) -> String {
        loop {
            let found = {
                let mut told = self.told.lock().unwrap();
                let place = told.iter().position(|event| event.starts_with(beginning));
                place.map(|place| told.drain(..=place).next_back().unwrap())
            };
            match found {
                Some(event) => return event,
                None => self.came.notified().await,
            }
        }
    }
}
