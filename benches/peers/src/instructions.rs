//! Instructions a request, as callgrind counts them: the figure that does not depend on the neighbours.

use crate::{
    goals,
    measure::visit,
    report::Row,
    subjects::{self, Mode, Named},
    work::{BATCH, Drive, Identity, Worker},
};
use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

/// Where the baseline stands, seen from the root.
const BASELINE: &str = "benches/instructions.txt";

/// What callgrind looks at, found by its name.
#[allow(unsafe_code, reason = "callgrind finds it by its plain name")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn counted_requests(worker: &mut dyn Worker) {
    worker.run();
}

/// What is counted: the bare services first.
fn layers() -> Vec<Named> {
    let mut layers = subjects::layers(Identity::Address, 1);
    let by_key = subjects::tidegates(Identity::ApiKey, 1).into_iter().filter(|named| named.name == "allowed");
    layers.extend(by_key.map(|named| Named { name: BY_KEY, ..named }));
    #[cfg(feature = "pace")]
    {
        let limit = tidegate::Limit::per_client("sends", crate::pace::FAST);
        layers.push(Named { name: PACE, mode: Mode::Allow, subject: Box::new(crate::pace::layer(limit)) });
    }
    layers.push(Named { name: ALONE, mode: Mode::Allow, subject: Box::new(subjects::handle(1)) });
    layers
}

const BY_KEY: &str = "allowed, API key";
#[cfg(feature = "pace")]
const PACE: &str = "pace, at once";
const ALONE: &str = subjects::DECISION_ALONE;

/// Runs each case once, or the one of that name; callgrind writes a file for each.
pub(crate) fn run(case: Option<&str>) -> Result<(), String> {
    let layers = layers();
    for named in layers.iter().filter(|named| case.is_none_or(|case| case == named.name)) {
        visit(&*named.subject, 1);
        let mut worker = named.subject.worker(Drive::Call);
        // Whatever happens only once has happened then.
        for _ in 0..2 {
            worker.prepare(&[0; BATCH]);
            worker.run();
        }
        worker.prepare(&[0; BATCH]);
        counted_requests(&mut *worker);
        println!("{}", named.name);
    }
    Ok(())
}

/// Instructions a request less those of the bare service, by case.
fn count() -> Result<Vec<(String, f64)>, String> {
    let directory = env::temp_dir().join(format!("tidegate-callgrind-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=counted_requests", "--dump-after=counted_requests"])
        .arg(format!("--callgrind-out-file={}", directory.join("out").display()))
        .arg(env::current_exe().map_err(|error| error.to_string())?)
        .arg("count")
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(format!("valgrind failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let cases = String::from_utf8_lossy(&output.stdout).lines().count();
    let counts: Option<Vec<f64>> = (1..=cases)
        .map(|number| {
            let text = fs::read_to_string(directory.join(format!("out.{number}"))).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
            Some(line.trim().parse::<f64>().ok()? / BATCH as f64)
        })
        .collect();
    let _ = fs::remove_dir_all(&directory);
    let counts = counts.ok_or("callgrind wrote no counts")?;
    let layers = layers();
    let less = |(named, count): (&Named, &f64)| {
        let bare = named.bare().map_or(0.0, |bare| counts[bare]);
        (named.name.to_owned(), (count - bare).round())
    };
    Ok(layers.iter().zip(&counts).map(less).collect())
}

fn baseline_path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", BASELINE].iter().collect()
}

/// A line for each of our cases: its name, a tab and the count; `#` begins a remark.
fn baseline() -> BTreeMap<String, f64> {
    let text = fs::read_to_string(baseline_path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(case, count)| Some((case.to_owned(), count.trim().parse().ok()?)))
        .collect()
}

/// Rows for the table, ours beside the baseline.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    let (counts, baseline) = (count()?, baseline());
    let row = |(name, count): &(String, f64)| {
        let row = Row::new(format!("instructions: {name}"), 1, 1).value(*count, "instructions");
        match baseline.get(name) {
            Some(known) => {
                let row = row.beside_value("baseline", *known);
                let ratio = Some((1_000.0 * count / known).round() / 1_000.0);
                Row { ratio, ..row }.goal(Some(goals::INSTRUCTIONS))
            }
            None => row,
        }
    };
    Ok(counts.iter().map(row).collect())
}

/// Fails where a case takes more instructions than its baseline allows, or has none.
pub(crate) fn check() -> Result<(), String> {
    let rows = rows()?;
    print!("{}", crate::report::table(&rows));
    let known = baseline();
    let gone = known.keys().filter(|case| !rows.iter().any(|row| row.case.ends_with(case.as_str())));
    let grown = rows.iter().filter(|row| row.met == Some(false)).map(|row| &row.case);
    let wrong: Vec<&String> = grown.chain(gone).collect();
    match (known.is_empty(), wrong.is_empty()) {
        (true, _) => Err(format!("{BASELINE} has no baseline; write one with --update")),
        (false, true) => Ok(()),
        (false, false) => Err(format!(
            "more than 5 % above {BASELINE}, or gone: {wrong:?}; if that is meant, write it anew with --update"
        )),
    }
}

/// Writes the baseline anew.
pub(crate) fn update() -> Result<(), String> {
    let mut ours: Vec<&str> =
        subjects::tidegates(Identity::Address, 1).iter().map(|named| named.name).collect();
    ours.extend([BY_KEY, ALONE]);
    let mut text = "# Instructions a request less those of the bare service. Written by `scripts/bench instructions --update`.\n".to_owned();
    for (name, count) in count()?.iter().filter(|(name, _)| ours.contains(&name.as_str())) {
        text += &format!("{name}\t{count:.0}\n");
    }
    fs::write(baseline_path(), text).map_err(|error| error.to_string())
}
