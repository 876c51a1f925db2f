//! Files, and what is in them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use tidegate::*;

/// A file of its own, which goes with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let directory = env::temp_dir().join(format!("tidegate-journal-{}-{number}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("clients")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn open(path: &Path) -> Clients {
    Clients::new(MemoryRegistry::open(path).unwrap())
}

/// Everything that is there.
pub fn all(clients: &Clients) -> (BTreeMap<String, ClientRecord>, Tiers) {
    let page = block(clients.page(None, 1_000)).unwrap();
    assert!(page.next.is_none());
    let records = page.clients.into_iter().map(|record| (record.client_id().to_owned(), (*record).clone()));
    (records.collect(), (*block(clients.tiers()).unwrap()).clone())
}
