//! The command line.

#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, reason = "these are the texts of `--help`")]

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use std::{io, net::SocketAddr, num::NonZeroUsize, path::PathBuf};
use tidegate::{Policy, Quota, TrustedProxies};
use tidegate_proxy::{
    AdminSettings, Settings,
    settings::{HttpVersion, Listen, LogFormat, LogTarget, Span, Target, TlsSettings},
};

/// Rate limits in front of anything that speaks HTTP.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward requests that are within their limits, and refuse the others.
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where requests go, like http://127.0.0.1:8265, https://example.com or unix:/run/app.sock.
    #[arg(long, value_name = "URL")]
    upstream: Target,

    /// What each client may do, like 10/second or "100/minute burst 20".
    #[arg(long, value_name = "QUOTA")]
    limit: Quota,

    /// Where to listen, like 127.0.0.1:8080, tls:[::]:8443 or unix:/run/tidegate.sock; several times for several addresses.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: Vec<Listen>,

    /// A proxy in front of this one that appends to X-Forwarded-For, like 10.0.0.5 or 10.0.0.0/8; several times for several.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    trust_proxy: Vec<IpNet>,

    /// Where a line for each request goes: stdout, or a file's path.
    #[arg(long, value_name = "FILE")]
    access_log: Option<LogTarget>,

    /// How these lines look: json or combined.
    #[arg(long, value_name = "FORMAT", default_value = "json", requires = "access_log")]
    log_format: LogFormat,

    /// A query parameter whose value is not logged, besides those that usually are credentials; several times for several.
    #[arg(long, value_name = "PARAMETER", requires = "access_log")]
    redact: Vec<String>,

    /// The certificate for addresses like tls:[::]:8443, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    /// The upstream speaks HTTP/2, as for gRPC.
    #[arg(long)]
    http2: bool,

    /// Do not send clients on whom the upstream asked to wait with 429 or 503, for no longer than this, like 10m.
    #[arg(long, value_name = "TIME")]
    obey_retry_after: Option<Span>,

    /// Where operators see health, readiness and metrics, like 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,

    /// A file with the token that the metrics need; an --admin address of all interfaces needs one.
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,

    /// How many threads serve; as many as there are processors, unless given.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
}

/// Reads an address as the network that has nothing else.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| format!("`{text}` is no network; write it like 10.0.0.0/8"))
}

impl Serve {
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.upstream.clone());
        settings.server.listen.clone_from(&self.listen);
        settings.server.trusted_proxies.clone_from(&self.trust_proxy);
        settings.server.threads = self.threads;
        settings.log.access.clone_from(&self.access_log);
        settings.log.format = self.log_format;
        settings.log.redact.clone_from(&self.redact);
        let files = self.certificate.clone().zip(self.key.clone());
        settings.server.tls = files.map(|(certificate, key)| TlsSettings { certificate, key });
        for upstream in &mut settings.upstreams {
            upstream.obey_retry_after = self.obey_retry_after;
        }
        if self.http2 {
            settings.upstreams.iter_mut().for_each(|upstream| upstream.http = HttpVersion::Two);
        }
        settings
    }

    /// The listener for operators, if one is asked for.
    pub(crate) fn admin(&self) -> Result<Option<AdminSettings>, io::Error> {
        let Some(listen) = self.admin else { return Ok(None) };
        let mut settings = AdminSettings::new(listen);
        if let Some(file) = &self.admin_token_file {
            let token = std::fs::read_to_string(file).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot read the token from {}: {error}", file.display()),
                )
            })?;
            settings.token = Some(token.trim().to_owned());
        }
        Ok(Some(settings))
    }

    pub(crate) fn policy(&self) -> Policy {
        let policy = Policy::per_client(self.limit);
        if self.trust_proxy.is_empty() {
            return policy;
        }
        policy
            .trust_proxies(TrustedProxies::x_forwarded_for(self.trust_proxy.iter().map(ToString::to_string)))
    }
}
