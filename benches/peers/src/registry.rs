//! What registered clients add to a decision and to memory, and how fast operators are answered: all with so many clients.

use crate::{
    alloc, goals,
    measure::{Law, Plan, Random, median, sequence, visit},
    report::Row,
    subjects::{self, GOVERNOR_STRING, Mode},
    work::{self, API_KEY, Bare, Drive, Identity, Subject},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tidegate::{
    Admin, ClientPatch, Clients, Grant, HeaderStyle, Limit, Limiter, MemoryRegistry, Policy, Rule, Source,
    Tiers,
};
use tokio::{net::TcpListener, runtime, task::JoinSet};
use tower::Layer;

const CLIENTS: u32 = 100_000;

/// The limit's own quota is granted, so that both ways count alike.
fn tiers() -> Tiers {
    let grant = Grant::new().max_concurrent(3).requests_per_min(50);
    Tiers::new().with("default", grant.limit("client", subjects::quota(Mode::Allow))).unwrap()
}

fn clients() -> Clients {
    let clients = Clients::new(MemoryRegistry::with_tiers(tiers()));
    for client in 0..CLIENTS {
        work::now(clients.set(&work::api_key(client), ClientPatch::new())).unwrap();
    }
    clients
}

/// Clients are told apart by a header; `clients` is the registry that has them, if one is asked.
fn limiter(clients: Option<Clients>) -> Limiter {
    let (source, quota) = (Source::header(API_KEY.as_str()), subjects::quota(Mode::Allow));
    let limit = Limit::per_client("client", quota);
    let (source, limit) =
        if clients.is_some() { (source.registered(), limit.granted()) } else { (source, limit) };
    let policy = Policy::new().identify(source).rule(Rule::new("client").limit(limit));
    let builder = Limiter::builder(policy).secret([7; 16]).memory_bytes(subjects::bytes(CLIENTS));
    clients.into_iter().fold(builder, |builder, clients| builder.clients(clients)).build().unwrap()
}

fn layer(limiter: &Limiter) -> impl Subject + use<> {
    let layer = limiter.layer().headers(HeaderStyle::Off);
    subjects::layered(layer.layer(Bare::new()), Identity::ApiKey, subjects::done)
}

/// A client of a registry beside the same one without, alone and among many.
pub(crate) fn registered(quick: bool) {
    let all: [&dyn Subject; 4] = [
        &layer(&limiter(None)),
        &layer(&limiter(Some(clients()))),
        &subjects::governor(work::api_key),
        &subjects::governor(work::address),
    ];
    registered_among(1, Law::Uniform, quick, &all);
    all.iter().for_each(|subject| visit(*subject, CLIENTS));
    registered_among(CLIENTS, Law::Uniform, quick, &all);
    if !quick {
        registered_among(CLIENTS, Law::Zipf, quick, &all);
    }
}

fn registered_among(keys: u32, law: Law, quick: bool, all: &[&dyn Subject; 4]) {
    let (sequence, turn) = (sequence(keys, law), Duration::from_millis(if quick { 8 } else { 20 }));
    let rounds = if quick { 21 } else { 51 };
    let name = if law == Law::Zipf { "registered, Zipf" } else { "registered" };
    let goal = (keys == CLIENTS && law == Law::Uniform).then_some(goals::REGISTERED);
    for threads in [1, 2] {
        let plan = Plan { drive: Drive::Call, threads, sequence: &sequence, turn, rounds };
        let times = plan.measure_batches(all);
        let added: Vec<f64> = times[1].iter().zip(&times[0]).map(|(with, without)| with - without).collect();
        let row = Row::new(name, threads, keys).time(median(&times[1]));
        row.beside("unregistered", median(&times[0])).print();
        for (peer, times) in [(GOVERNOR_STRING, &times[2]), ("governor check_key, address", &times[3])] {
            let row = Row::new(format!("{name}, less unregistered"), threads, keys);
            row.time(median(&added)).beside(peer, median(times)).goal(goal).print();
        }
    }
}

/// Bytes that a client takes in the registry, and more of them once its requests have come.
pub(crate) fn memory() {
    let each = |name: &str, take: &mut dyn FnMut()| {
        let before = alloc::live_bytes();
        take();
        let bytes = (alloc::live_bytes() - before) as f64 / f64::from(CLIENTS);
        Row::new(name, 1, CLIENTS).value(bytes.round(), "B")
    };
    let mut registry = None;
    let row = each("memory: a client in the registry", &mut || registry = Some(clients()));
    row.goal(Some(goals::BYTES_A_RECORD)).print();
    let limiter = limiter(registry);
    let row = each("memory: a registered client that came", &mut || visit(&layer(&limiter), CLIENTS));
    row.goal(Some(goals::BYTES_A_GRANT)).print();
}

const ADMIN_KEY: &str = "an operator's key";

/// An admin API on a thread of its own, over a real socket.
fn serve(clients: Clients) -> SocketAddr {
    let limiter = Limiter::builder(Policy::new()).clients(clients).build().unwrap();
    let router = Admin::builder(&limiter).key(ADMIN_KEY).build().unwrap().router();
    let (told, address) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).await.unwrap();
        });
    });
    address.recv().unwrap()
}

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// One connection that is kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn new(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// The body of an answer, and how long it took from the first byte that was sent to the last that came.
    fn get(&mut self, path: &str) -> (Vec<u8>, Duration) {
        let start = Instant::now();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-admin-key: {ADMIN_KEY}\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
        while line.trim_end() != "" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (body, start.elapsed())
    }
}

/// Pages of clients over a real socket.
pub(crate) fn pages(quick: bool) {
    let mut connection = Connection::new(serve(clients()));
    let mut next = |path: &str| {
        let page: serde_json::Value = serde_json::from_slice(&connection.get(path).0).unwrap();
        assert_eq!(page["count"], CLIENTS);
        format!("/admin/clients?cursor={}", page["next"].as_str().unwrap())
    };
    let middle = (0..50).fold("/admin/clients".to_owned(), |path, _| next(&path));
    for (name, path) in [
        ("clients: first page of 1,000", "/admin/clients"),
        ("clients: middle page of 1,000", &*middle),
        ("clients: count", "/admin/clients?limit=1"),
    ] {
        let mut times: Vec<f64> = (0..if quick { 100 } else { 1_000 })
            .map(|_| connection.get(path).1.as_secs_f64() * 1e3)
            .collect();
        times.sort_by(f64::total_cmp);
        for (what, time) in [("", times[times.len() / 2]), (", worst", times[times.len() - 1])] {
            let row = Row::new(format!("{name}{what}"), 1, CLIENTS).value(thousandths(time), "ms");
            row.goal(Some(goals::PAGE_MS)).print();
        }
    }
}

fn thousandths(value: f64) -> f64 {
    (1_000.0 * value).round() / 1_000.0
}

/// A directory on the disk that this program is on, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let program = env::current_exe().unwrap();
        let directory = program.with_file_name(format!("journal-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn open(&self) -> Clients {
        Clients::new(MemoryRegistry::open_with_tiers(self.0.join("clients"), tiers()).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Changes that are answered once they are on the disk.
pub(crate) fn journal(quick: bool) {
    let (scratch, runtime) = (Scratch::new(), runtime());
    let clients = scratch.open();
    runtime.block_on(async {
        let mut adding = JoinSet::new();
        for client in 0..CLIENTS {
            let clients = clients.clone();
            adding.spawn(async move { clients.set(&work::api_key(client), ClientPatch::new()).await });
        }
        while let Some(added) = adding.join_next().await {
            added.unwrap().unwrap();
        }
    });
    drop(clients);
    let start = Instant::now();
    let clients = scratch.open();
    Row::new("journal: opened", 1, CLIENTS)
        .value(thousandths(start.elapsed().as_secs_f64() * 1e3), "ms")
        .print();
    let time = Duration::from_secs(if quick { 3 } else { 15 });
    for writers in [1, 64] {
        let (mean, longest) = runtime.block_on(update(&clients, writers, time));
        let name = |what: &str| format!("journal: an update, {writers} at once{what}");
        // How long one alone takes is the disk's affair.
        let goal = (writers > 1).then_some(goals::UPDATE_US);
        Row::new(name(""), 1, CLIENTS).value(thousandths(mean), "us").goal(goal).print();
        Row::new(name(", longest"), 1, CLIENTS).value(thousandths(longest / 1e3), "ms").print();
    }
}

/// Microseconds between two updates that are answered, and the longest that one took.
async fn update(clients: &Clients, writers: u64, time: Duration) -> (f64, f64) {
    let (start, mut writing) = (Instant::now(), JoinSet::new());
    for writer in 0..writers {
        let (clients, mut random) = (clients.clone(), Random(writer));
        writing.spawn(async move {
            let (mut updates, mut longest) = (0u32, Duration::ZERO);
            while start.elapsed() < time {
                let grant = Grant::new().requests_per_min(1 + random.below(1 << 20));
                let (id, began) = (work::api_key(random.below(CLIENTS)), Instant::now());
                clients.set(&id, ClientPatch::new().rate_limit(grant)).await.unwrap();
                (updates, longest) = (updates + 1, longest.max(began.elapsed()));
            }
            (updates, longest)
        });
    }
    let (mut updates, mut longest) = (0, Duration::ZERO);
    while let Some(written) = writing.join_next().await {
        let (some, long) = written.unwrap();
        (updates, longest) = (updates + some, longest.max(long));
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    (micros(start.elapsed()) / f64::from(updates), micros(longest))
}
