//! Servers for `scripts/bench proxy`, one worker thread each: `proxy-peers NAME PORT ORIGIN-PORT CASE`.
//!
//! `origin` is what stands behind all of them, `tidegate` is our proxy, and `axum` is axum-reverse-proxy with tower_governor.

use axum::Router;
use axum_reverse_proxy::ReverseProxy;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, env, error::Error, net::SocketAddr};
use tidegate::{Limit, Limiter, Policy, Rule, Source};
use tidegate_proxy::{Server, Settings};
use tokio::net::TcpListener;
use tower_governor::{GovernorLayer, governor::GovernorConfigBuilder};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<_> = env::args().skip(1).collect();
    let [name, port, origin, case] = &args[..] else {
        return Err("usage: proxy-peers origin|tidegate|axum PORT ORIGIN-PORT allowed|refused|full".into());
    };
    let at = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let target = format!("http://127.0.0.1:{origin}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match name.as_str() {
        "origin" => runtime.block_on(serve_origin(at)),
        "tidegate" => {
            let server = start_ours(at, &target, case)?;
            runtime.block_on(tokio::signal::ctrl_c())?;
            server.stop();
            Ok(())
        }
        "axum" => runtime.block_on(serve_axum(at, &target, case)),
        _ => Err(format!("there is no {name}").into()),
    }
}

/// Two bytes for every path but `/big`, which is a mebibyte.
async fn serve_origin(at: SocketAddr) -> Outcome {
    let big = Bytes::from(vec![b'a'; 1 << 20]);
    let listener = TcpListener::bind(at).await?;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let big = big.clone();
                tokio::task::spawn_local(async move {
                    let answer = service_fn(|request: Request<Incoming>| {
                        let body = if request.uri().path() == "/big" {
                            big.clone()
                        } else {
                            Bytes::from_static(b"ok")
                        };
                        async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        })
        .await
}

fn start_ours(at: SocketAddr, target: &str, case: &str) -> Result<Server, Box<dyn Error>> {
    let mut settings = Settings::new(target.parse()?);
    settings.server.listen = vec![at.to_string().parse()?];
    settings.server.threads = Some(1.try_into()?);
    let policy = match case {
        "allowed" => Policy::per_client("1000000/second".parse()?),
        "refused" => Policy::per_client("1/hour".parse()?),
        "full" => {
            settings.log.access = Some("/dev/null".parse()?);
            let rule = Rule::new("all")
                .limit(Limit::per_client("second", "1000000/second".parse()?))
                .limit(Limit::per_client("hour", "1000000000/hour".parse()?));
            Policy::new().identify(Source::api_key_header("x-api-key").or_refuse()).rule(rule)
        }
        _ => return Err(format!("there is no case {case}").into()),
    };
    Ok(Server::start(&settings, &Limiter::new(policy)?.layer())?)
}

async fn serve_axum(at: SocketAddr, target: &str, case: &str) -> Outcome {
    let mut governor = GovernorConfigBuilder::default();
    match case {
        "refused" => governor.per_second(3600).burst_size(1),
        _ => governor.per_nanosecond(1000).burst_size(1_000_000),
    };
    let governor = governor.finish().ok_or("governor refuses its settings")?;
    let router: Router = ReverseProxy::new("/", target).into();
    let router = router.layer(GovernorLayer::new(governor));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(TcpListener::bind(at).await?, service).await?)
}
