//! The registry of these tests: a server of Redis for each of them.

use crate::redis_stage::Server;
use std::{cell::Cell, thread, time::Duration};
use tidegate::{RedisRegistry, RedisStore, Tiers};
use tokio::runtime::{Builder, Runtime};

/// Ends with the thread of its test.
struct Home {
    server: Server,
    /// Of its own, because registries are made before a test awaits anything.
    runtime: Option<Runtime>,
    registries: Cell<u32>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

thread_local! {
    static HOME: Home = Home {
        server: Server::start(),
        runtime: Some(Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()),
        registries: Cell::new(0),
    };
}

/// An empty one that was reached.
pub fn new() -> RedisRegistry {
    HOME.with(|home| {
        home.registries.set(home.registries.get() + 1);
        let builder = RedisStore::builder(home.server.url()).deadline(Duration::from_secs(30));
        let builder = builder.prefix(format!("{}:", home.registries.get()));
        let runtime = home.runtime.as_ref().unwrap();
        let reach = async || {
            let registry = builder.registry(Tiers::new()).unwrap();
            registry.ready().await;
            registry
        };
        // The runtime of the test must not be held up by another one.
        thread::scope(|scope| scope.spawn(|| runtime.block_on(reach())).join().unwrap())
    })
}
