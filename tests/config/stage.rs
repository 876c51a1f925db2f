//! Files as texts, and limiters and services from them on a manual clock.

use crate::common::{App, app, reply};
use tidegate::{Config, ConfigError, ConfigFormat, Limiter, ManualClock};

/// No variable of the process reaches a test.
pub fn format() -> ConfigFormat {
    ConfigFormat::new().variables([("", ""); 0])
}

pub fn parse(text: &str) -> Result<Config, ConfigError> {
    format().parse("tidegate.toml", text)
}

#[track_caller]
pub fn sound(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The mistakes of a text, one a line, without the file's name.
#[track_caller]
pub fn mistakes(text: &str) -> String {
    let error = parse(text).expect_err("it has mistakes");
    error.to_string().replace("tidegate.toml:", "")
}

/// A file of the examples, as it is.
pub fn example(name: &str) -> Config {
    let path = format!("{}/examples/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    format().read(path).unwrap_or_else(|error| panic!("{error}"))
}

pub fn limiter(config: &Config) -> (Limiter, ManualClock) {
    let clock = ManualClock::new();
    (config.limiter().unwrap().clock(clock.clone()).build().unwrap(), clock)
}

/// A service behind the file's layer that answers everything with 200.
pub fn service(limiter: &Limiter) -> impl App + use<> {
    app(&limiter.layer(), |_| reply(200))
}
