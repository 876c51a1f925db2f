//! Tidegate beside its peers: `scripts/bench` builds and runs this.

mod alloc;
mod cases;
mod floor;
mod goals;
mod instructions;
mod measure;
mod memory;
#[cfg(feature = "pace")]
mod pace;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "registry")]
mod registry;
mod report;
mod subjects;
mod work;

use report::Row;
use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use work::Identity;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const USAGE: &str = "usage: peers decide [--quick] | peers instructions [--check | --update], and with the feature of that name peers registry, redis or pace [--quick]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["decide"] => decide(false),
        ["decide", "--quick"] => decide(true),
        ["instructions"] => instructions::rows().map(|rows| print!("{}", report::table(&rows))),
        ["instructions", "--check"] => instructions::check(),
        ["instructions", "--update"] => instructions::update(),
        ["registry"] if REGISTRY => groups(&REGISTRY_GROUPS, false).map(|rows| tell(&rows)),
        ["registry", "--quick"] if REGISTRY => groups(&REGISTRY_GROUPS, true).map(|rows| tell(&rows)),
        ["pace"] if PACE => groups(&PACE_GROUPS, false).map(|rows| tell(&rows)),
        ["pace", "--quick"] if PACE => groups(&PACE_GROUPS, true).map(|rows| tell(&rows)),
        ["redis"] if REDIS => groups(&REDIS_GROUPS, false).map(|rows| tell(&rows)),
        ["redis", "--quick"] if REDIS => groups(&REDIS_GROUPS, true).map(|rows| tell(&rows)),
        ["count"] => instructions::run(None),
        ["count", case] => instructions::run(Some(case)),
        ["compare", ours, theirs, keys, threads] => cases::compare(ours, theirs, keys, threads),
        ["group", group] => run(group, false),
        ["group", group, "--quick"] => run(group, true),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Each group has a process of its own, so that none finds what another left in the allocator.
const GROUPS: [&str; 12] = [
    "layers-1",
    "layers-100000",
    "layers-1000000",
    "keys-1",
    "keys-100000",
    "keys-1000000",
    "decisions-1",
    "decisions-100000",
    "decisions-1000000",
    "allocations",
    "memory",
    "flood",
];

/// Those that a short run leaves out.
const LONG: [&str; 3] = ["layers-1000000", "keys-1", "keys-1000000"];

const REGISTRY: bool = cfg!(feature = "registry");
const REGISTRY_GROUPS: [&str; 4] = ["registered", "clients", "pages", "journal"];

const PACE: bool = cfg!(feature = "pace");
const PACE_GROUPS: [&str; 4] = ["pace", "million", "waiting", "wakeups"];
const REDIS: bool = cfg!(feature = "redis");
const REDIS_GROUPS: [&str; 4] = ["exact", "scripts", "stored", "known"];

fn decide(quick: bool) -> Result<(), String> {
    let some: Vec<&str> = GROUPS.into_iter().filter(|group| !quick || !LONG.contains(group)).collect();
    let mut rows = groups(&some, quick)?;
    eprintln!("       instructions");
    let counted = instructions::rows()?;
    counted.iter().for_each(Row::print);
    rows.extend(counted);
    tell(&rows);
    Ok(())
}

fn groups(groups: &[&str], quick: bool) -> Result<Vec<Row>, String> {
    let start = Instant::now();
    let mut rows = Vec::new();
    for group in groups {
        eprintln!("{:>4} s: {group}", start.elapsed().as_secs());
        rows.extend(spawn(group, quick)?);
    }
    eprintln!("{:>4} s: done", start.elapsed().as_secs());
    Ok(rows)
}

/// The rows as a table, and which of them miss their goal.
fn tell(rows: &[Row]) {
    print!("\n{}", report::table(rows));
    let missed: Vec<Row> = rows.iter().filter(|row| row.met == Some(false)).cloned().collect();
    println!(
        "\n{} of {} goals met",
        rows.iter().filter(|row| row.met == Some(true)).count(),
        rows.iter().filter(|row| row.met.is_some()).count()
    );
    if !missed.is_empty() {
        println!("missed:\n{}", report::table(&missed));
    }
}

/// Runs a group in a process of its own and passes on its lines.
fn spawn(group: &str, quick: bool) -> Result<Vec<Row>, String> {
    let mut command = Command::new(env::current_exe().map_err(|error| error.to_string())?);
    command.args(["group", group]).stdout(Stdio::piped());
    if quick {
        command.arg("--quick");
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for line in
        child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok)
    {
        println!("{line}");
        rows.push(serde_json::from_str(&line).map_err(|error| format!("{group}: {error}: {line}"))?);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(rows) } else { Err(format!("{group} failed: {status}")) }
}

fn run(group: &str, quick: bool) -> Result<(), String> {
    let (kind, keys) = group.split_once('-').unwrap_or((group, "1"));
    let keys = keys.parse().map_err(|_| format!("{group:?} is no group; there are {GROUPS:?}"))?;
    match kind {
        "layers" => cases::layers(Identity::Address, keys, quick),
        "keys" => cases::layers(Identity::ApiKey, keys, quick),
        "decisions" => cases::decisions(keys, quick),
        "allocations" => cases::allocation_counts(),
        "memory" => {
            memory::per_client();
            memory::forgotten(quick);
        }
        "flood" => memory::flood(quick),
        #[cfg(feature = "registry")]
        "registered" => registry::registered(quick),
        #[cfg(feature = "registry")]
        "clients" => registry::memory(),
        #[cfg(feature = "registry")]
        "pages" => registry::pages(quick),
        #[cfg(feature = "registry")]
        "journal" => registry::journal(quick),
        #[cfg(feature = "pace")]
        "pace" => pace::at_once(quick),
        #[cfg(feature = "pace")]
        "million" => pace::million(quick),
        #[cfg(feature = "pace")]
        "waiting" => pace::waiting(),
        #[cfg(feature = "pace")]
        "wakeups" => pace::wake_ups(quick),
        #[cfg(feature = "redis")]
        "exact" => redis::exact(quick),
        #[cfg(feature = "redis")]
        "scripts" => redis::scripts(quick),
        #[cfg(feature = "redis")]
        "stored" => redis::stored(),
        #[cfg(feature = "redis")]
        "known" => redis::known(quick),
        _ => return Err(format!("{group:?} is no group; there are {GROUPS:?}")),
    }
    Ok(())
}
