//! What stands for TLS where the program is built without it.

use crate::{
    settings::{HttpVersion, Target, TlsSettings},
    stream::Stream,
};
use std::{convert::Infallible, io, path::Path, sync::Arc};
use tokio::net::TcpStream;

const WITHOUT: &str = "this program is built without TLS; build it with the feature `tls`";

/// There is none.
#[derive(Debug)]
pub(crate) struct Certificate(Infallible);

impl Certificate {
    pub(crate) fn load(_: &TlsSettings) -> Result<Self, String> {
        Err(WITHOUT.to_owned())
    }

    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<Stream> {
        match self.0 {}
    }

    pub(crate) async fn watch(self: Arc<Self>) {}
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Trust(Infallible);

impl Trust {
    pub(crate) fn new(_: &Target, _: Option<&Path>, _: HttpVersion) -> Result<Self, String> {
        Err(WITHOUT.to_owned())
    }

    pub(crate) async fn connect(&self, _: TcpStream) -> io::Result<Stream> {
        match self.0 {}
    }
}
