//! A proxy in front of a Ray head with the limits of a file: its API and dashboard, Ray Client's gRPC, and an app of Ray Serve
//! by its host.
//!
//!     cargo run -p tidegate-proxy --example ray_head -- \
//!         127.0.0.1:8080 examples/config/ray.toml http://127.0.0.1:8265 http://127.0.0.1:10001 http://127.0.0.1:8000
#![allow(clippy::print_stdout)]

use std::{env, error::Error};
use tidegate::Config;
use tidegate_proxy::{
    Server, Settings,
    settings::{HttpVersion, UpstreamSettings},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [listen, file, dashboard, client, app] = &arguments[..] else {
        return Err(
            "give where to listen, the file, and where the dashboard, Ray Client and the app are".into()
        );
    };
    let config = Config::read(file)?;
    let limiter = config.limiter()?.build()?;

    let mut settings = Settings::new(dashboard.parse()?);
    settings.server.listen = vec![listen.parse()?];
    let mut client = UpstreamSettings::new(client.parse()?);
    client.http = HttpVersion::Two;
    client.paths = ["RayletDriver", "RayletDataStreamer", "RayletLogStreamer"]
        .map(|service| format!("/ray.rpc.{service}"))
        .into();
    let mut app = UpstreamSettings::new(app.parse()?);
    app.hosts = vec![env::var("APP_HOST").unwrap_or("app.example.com".to_owned())];
    settings.upstreams.extend([client, app]);

    let server = Server::start(&settings, &limiter.layer())?;
    println!("listening at {}", server.addresses()[0]);
    tokio::signal::ctrl_c().await?;
    Ok(tokio::task::spawn_blocking(move || server.stop()).await?)
}
