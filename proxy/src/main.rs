//! The program `tidegate`.

mod cli;

use clap::Parser;
use cli::{Cli, Command, Serve};
use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};
use tidegate::Limiter;
use tidegate_proxy::{AdminListener, Server, record_metrics, settings::Listen};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let Command::Serve(serve) = Cli::parse().command;
    match run(&serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tidegate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the program is told to end.
fn run(serve: &Serve) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let admin = serve.admin()?;
    if admin.is_some() {
        // Before the limiter, which tells the recorder what it counts.
        record_metrics()?;
    }
    let limiter = Limiter::new(serve.policy())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let settings = serve.settings();
        let server = Server::start(&settings, &limiter.layer())?;
        let admin = admin.map(|admin| AdminListener::start(admin, &server, &limiter)).transpose()?;
        let mut addresses = server.addresses().iter();
        for at in &settings.server.listen {
            match (at, addresses.as_slice().first()) {
                (Listen::Tcp(_), Some(address)) => tracing::info!("listening at http://{address}"),
                (Listen::Tls(_), Some(address)) => tracing::info!("listening at https://{address}"),
                _ => tracing::info!("listening at {at}"),
            }
            if !matches!(at, Listen::Unix(_)) {
                addresses.next();
            }
        }
        if let Some(admin) = &admin {
            tracing::info!("operators at http://{}", admin.address());
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests that run are answered first; a second signal ends them");
        tokio::select! {
            _ = tokio::task::spawn_blocking(move || server.stop()) => {}
            _ = terminate.recv() => std::process::exit(1),
            _ = interrupt.recv() => std::process::exit(1),
        }
        Ok(())
    })
}
