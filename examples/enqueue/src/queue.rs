//! A queue of apalis in Redis.

use apalis::prelude::{TaskSink, TaskSinkError, WorkerBuilder, WorkerBuilderExt, WorkerError};
use apalis_redis::{Config, RedisStorage};
use redis::{AsyncCommands, RedisError, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, error::Error, time::Duration};
use tokio::time::sleep;
use tower::util::BoxCloneSyncService;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub service: String,
    pub kind: String,
    pub urgent: bool,
}

#[derive(Clone)]
pub struct Queue {
    storage: RedisStorage<Task>,
    connection: ConnectionManager,
    config: Config,
}

impl Queue {
    /// # Errors
    ///
    /// If nobody answers there.
    pub async fn open(url: &str, name: &str) -> Result<Self, RedisError> {
        let connection = apalis_redis::connect(url).await?;
        let config = Config::default().queue(name).batch_size(1);
        let storage = RedisStorage::new(connection.clone()).with_config(config.clone());
        Ok(Self { storage, connection, config })
    }

    /// Enqueues.
    pub fn service(&self) -> BoxCloneSyncService<Task, (), TaskSinkError<apalis_redis::Error>> {
        let storage = self.storage.clone();
        BoxCloneSyncService::new(tower::service_fn(move |task: Task| {
            let mut storage = storage.clone();
            async move { storage.push(task).await }
        }))
    }

    /// How many tasks no worker has taken yet.
    ///
    /// # Errors
    ///
    /// If Redis does not answer.
    pub async fn len(&self) -> Result<usize, RedisError> {
        let mut connection = self.connection.clone();
        let ready: usize = connection.llen(self.config.active_jobs_list()).await?;
        // New tasks are scheduled for now, and made ready by a worker that asks for more.
        let scheduled: usize = connection.zcard(self.config.scheduled_jobs_set()).await?;
        Ok(ready + scheduled)
    }

    /// All tasks that were ever enqueued.
    ///
    /// # Errors
    ///
    /// If Redis does not answer, or with what is no task.
    pub async fn tasks(&self) -> Result<Vec<Task>, Box<dyn Error>> {
        let texts: Vec<Vec<u8>> = self.connection.clone().hvals(self.config.job_data_hash()).await?;
        texts.iter().map(|text| Ok(serde_json::from_slice(text)?)).collect()
    }
}

/// A worker that does one task after the other, each in `time`.
///
/// # Errors
///
/// If Redis does not answer.
pub async fn work(queue: Queue, time: Duration) -> Result<(), WorkerError> {
    let handle = move |_: Task| async move {
        sleep(time).await;
        Ok::<_, Infallible>(())
    };
    WorkerBuilder::new("worker").backend(queue.storage).concurrency(1).build(handle).run().await
}
