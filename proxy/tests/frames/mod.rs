//! HTTP/2 in frames by hand, which may say what no client would.
#![allow(unreachable_pub, clippy::unwrap_used)]

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub type Fields<'a> = Vec<(&'a str, &'a str)>;

/// A sound request.
pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":path", "/"), (":authority", "a"), (":scheme", "http")];

pub fn head<'a>(method: &'a str, path: &'a str, authority: &'a str, scheme: &'a str) -> Fields<'a> {
    vec![(":method", method), (":path", path), (":authority", authority), (":scheme", scheme)]
}

pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut this = Self { stream: TcpStream::connect(address).await.unwrap() };
        this.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        this.frame(SETTINGS, 0, 0, &[]).await;
        this
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.stream.write_all(&frame).await;
    }

    /// A request without a body.
    pub async fn send_head(&mut self, fields: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, 1, &packed(fields)).await;
    }

    /// A request whose body follows.
    pub async fn send_open_head(&mut self, fields: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS, 1, &packed(fields)).await;
    }

    pub async fn send_data(&mut self, data: &[u8]) {
        self.frame(DATA, END_STREAM, 1, data).await;
    }

    /// Whether the answer is a 200: not another status, a reset, or the end of the connection.
    pub async fn is_answered_well(&mut self) -> bool {
        loop {
            let mut head = [0; 9];
            let read = tokio::time::timeout(crate::common::PATIENCE, self.stream.read_exact(&mut head)).await;
            if read.expect("no answer").is_err() {
                return false;
            }
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
            self.stream.read_exact(&mut payload).await.unwrap();
            match kind {
                // `:status: 200` is the eighth entry of HPACK's table.
                HEADERS => return payload.first() == Some(&0x88),
                RESET | GO_AWAY => return false,
                _ => {}
            }
        }
    }
}

/// Fields as HPACK literals, without Huffman's code or the table.
fn packed(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in fields {
        packed.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer texts have longer lengths");
            packed.push(u8::try_from(text.len()).unwrap());
            packed.extend(text.as_bytes());
        }
    }
    packed
}
