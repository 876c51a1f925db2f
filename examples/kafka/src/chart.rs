//! A series in time, as a table and as a picture.

use std::fmt::Write;

/// What was measured in a quarter of a second.
pub struct Point {
    /// Seconds since the start.
    pub at: f64,
    /// What answers took besides, by the broker's setting, and in all, in milliseconds.
    pub added: f64,
    pub took: f64,
    /// Records a second, and the pacer's factor.
    pub rate: f64,
    pub factor: f64,
}

pub fn print(points: &[Point]) {
    println!("{:>6} {:>10} {:>9} {:>10} {:>7}", "s", "added ms", "took ms", "records/s", "factor");
    for Point { at, added, took, rate, factor } in points.iter().step_by(2) {
        println!("{at:>6.1} {added:>10.0} {took:>9.0} {rate:>10.0} {factor:>7.2}");
    }
}

const WIDTH: f64 = 720.0;
const PANEL: f64 = 130.0;
const LEFT: f64 = 60.0;

/// Two panels, one below the other: what answers took, and what was sent by which factor.
pub fn svg(points: &[Point], most_rate: f64) -> String {
    let height = 2.0 * PANEL + 110.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let most_took = points.iter().map(|point| point.took.max(point.added)).fold(1.0, f64::max).ceil();
    let added = ("#888", "ms that the broker adds", series(points, |point| point.added / most_took));
    let took = ("#c33", "ms that answers took", series(points, |point| point.took / most_took));
    panel(&mut svg, 30.0, &format!("{most_took:.0}"), &[added, took]);
    let factor = ("#888", "factor, of 1", series(points, |point| point.factor));
    let rate = ("#27c", "records a second", series(points, |point| point.rate / most_rate));
    panel(&mut svg, PANEL + 70.0, &format!("{most_rate:.0}"), &[factor, rate]);
    let end = points.last().map_or(0.0, |point| point.at);
    let bottom = height - 14.0;
    for second in (0..=end as u32).step_by(2) {
        let x = x(f64::from(second), end);
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{bottom}\" text-anchor=\"middle\">{second} s</text>");
    }
    svg + "</svg>\n"
}

fn x(at: f64, end: f64) -> f64 {
    LEFT + at / end.max(1.0) * (WIDTH - LEFT - 20.0)
}

/// Places of points, with heights from 0 to 1.
fn series(points: &[Point], height: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let end = points.last().map_or(0.0, |point| point.at);
    points.iter().map(|point| (x(point.at, end), height(point).clamp(0.0, 1.0))).collect()
}

/// A colour, a name and places.
type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

fn panel(svg: &mut String, top: f64, most: &str, lines: &[Line<'_>]) {
    let (bottom, right, before) = (top + PANEL, WIDTH - 20.0, LEFT - 8.0);
    for (y, label) in [(top, most), (bottom, "0")] {
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y}H{right}\" stroke=\"#eee\"/>");
        let _ = writeln!(svg, "<text x=\"{before}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>", y + 4.0);
    }
    for (number, (colour, name, points)) in lines.iter().enumerate() {
        let places = points.iter().map(|(x, height)| format!("{x:.1},{:.1}", bottom - height * PANEL));
        let places = places.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        let place = LEFT + 200.0 * number as f64;
        let _ = writeln!(svg, "<text x=\"{place}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>", top - 8.0);
    }
}
