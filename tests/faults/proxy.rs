//! A network that can be made worse while connections go through it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weather {
    Fair,
    /// So much later, each way.
    Slow(Duration),
    /// Nothing comes through; what was sent comes when it is over, as TCP sends it again.
    Cut,
}

pub struct Proxy {
    pub port: u16,
    weather: watch::Sender<Weather>,
    passing: Arc<Mutex<Vec<AbortHandle>>>,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

impl Proxy {
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (weather, passing) = (watch::Sender::new(Weather::Fair), Arc::<Mutex<Vec<_>>>::default());
        let (sky, list) = (weather.clone(), passing.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let sky = sky.clone();
                let passing = tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await {
                        pass(near, far, &sky).await;
                    }
                });
                list.lock().unwrap().push(passing.abort_handle());
            }
        });
        Self { port: own, weather, passing, accepting: accepting.abort_handle() }
    }

    pub fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets all connections.
    pub fn reset(&self) {
        self.passing.lock().unwrap().drain(..).for_each(|passing| passing.abort());
    }
}

async fn pass(near: TcpStream, far: TcpStream, sky: &watch::Sender<Weather>) {
    for stream in [&near, &far] {
        // Dropped, it is reset and not closed.
        stream.set_zero_linger().unwrap();
        stream.set_nodelay(true).unwrap();
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let mut ways = JoinSet::new();
    for (from, to) in [(near_in, far_out), (far_in, near_out)] {
        let (packets, coming) = mpsc::unbounded_channel();
        ways.spawn(read(from, packets));
        ways.spawn(write(to, coming, sky.subscribe()));
    }
    ways.join_next().await;
}

type Packet = (Instant, Vec<u8>);

async fn read(mut from: OwnedReadHalf, packets: mpsc::UnboundedSender<Packet>) {
    let mut room = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut room).await {
        if packets.send((Instant::now(), room[..len].to_vec())).is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut packets: mpsc::UnboundedReceiver<Packet>,
    mut sky: watch::Receiver<Weather>,
) {
    while let Some((came, bytes)) = packets.recv().await {
        if sky.wait_for(|weather| *weather != Weather::Cut).await.is_err() {
            return;
        }
        let now = *sky.borrow();
        if let Weather::Slow(by) = now {
            sleep_until(came + by).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
