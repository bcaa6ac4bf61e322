//! Rows as plots, SVG: on logarithmic axes, since what is compared differs by orders of magnitude.
//!
//! `reset` has a panel per kind of server, `scale` one, with lines; `suite` and `overhead` are bars.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::Group;
use super::row::Row;
use super::table::time;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Told apart by those who cannot tell red from green as well; dagz has the first ones.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 90, 181),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(0, 130, 100),
    RGBColor(120, 94, 240),
    RGBColor(140, 140, 140),
    RGBColor(90, 60, 20),
    RGBColor(0, 0, 0),
];

const FONT: &str = "sans-serif";

/// A named line.
type Line = (String, Vec<(f64, f64)>);

/// Draws the rows of a group to the file `path`.
pub(super) fn draw(path: &Path, group: Group, rows: &[Row]) -> Result<()> {
    let drawn = match group {
        Group::Reset => resets(path, rows),
        Group::Scale => scale(path, rows),
        Group::Suite | Group::Overhead => bars(path, group, rows),
    };
    // The backend's errors cannot be sent between threads, as anyhow's must be.
    drawn
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("failed to draw `{}`", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn resets(path: &Path, rows: &[Row]) -> Drawn {
    let mut kinds: Vec<&str> = rows.iter().map(Row::kind).collect();
    kinds.dedup();
    let columns = kinds.len().min(2);
    let lines = kinds.len().div_ceil(2);
    let (width, height) = (u32::try_from(columns)? * 620, u32::try_from(lines)? * 380);
    let root = SVGBackend::new(path, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (kind, panel) in kinds.iter().zip(root.split_evenly((lines, columns))) {
        let of_kind: Vec<_> = rows.iter().filter(|row| row.kind() == *kind).collect();
        let mut series: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
        for row in &of_kind {
            // What a test usually does.
            if row.dirty == 3 {
                let is_other = !row.strategy.starts_with("dagz");
                let points = series.entry((is_other, &row.strategy)).or_default();
                points.push((row.tables as f64, row.ratio));
            }
        }
        let unit = match *kind {
            "redis" | "valkey" => "keys",
            "rabbitmq" => "queues",
            _ => "tables",
        };
        let title = of_kind
            .first()
            .map_or(String::new(), |row| format!("{}, 3 dirty", row.backend));
        let series = series
            .into_iter()
            .map(|((_, name), points)| (name.to_owned(), points));
        let series: Vec<Line> = series.collect();
        lines_of(&panel, &title, (unit, "× a bare round trip"), &series)?;
    }
    root.present()?;
    Ok(())
}

fn scale(path: &Path, rows: &[Row]) -> Drawn {
    let mut series: BTreeMap<(&str, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        if let (Some(workers), Some(tests)) = (row.workers, row.tests) {
            let points = series.entry((&row.strategy, tests)).or_default();
            points.push((workers as f64, row.ratio));
        }
    }
    let series = series
        .into_iter()
        .map(|((name, tests), points)| (format!("{name}, {tests} tests"), points));
    let series: Vec<Line> = series.collect();
    let root = SVGBackend::new(path, (900, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    lines_of(
        &root,
        "slow tests on many workers",
        ("workers", "× the ideal time"),
        &series,
    )?;
    root.present()?;
    Ok(())
}

/// The whole decades around `values`.
fn decades(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
    let most = values.fold(0.0, f64::max).max(least * 1.01);
    10f64.powf(least.log10().floor())..10f64.powf(most.log10().ceil())
}

fn lines_of(area: &Area<'_>, title: &str, (x, y): (&str, &str), series: &[Line]) -> Drawn {
    let points = series.iter().flat_map(|(_, points)| points);
    let xs = points.clone().map(|(x, _)| *x);
    let ends = xs.clone().fold(f64::INFINITY, f64::min)..xs.fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18))
        .margin(10)
        .margin_right(210)
        .x_label_area_size(38)
        .y_label_area_size(62)
        .build_cartesian_2d(
            ends.log_scale(),
            decades(points.map(|(_, y)| *y)).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .label_style((FONT, 13))
        .light_line_style(RGBColor(238, 238, 238))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    let (width, _) = area.dim_in_pixel();
    for (number, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let thick = colour.stroke_width(if name.starts_with("dagz") { 3 } else { 2 });
        chart.draw_series(LineSeries::new(points.iter().copied(), thick))?;
        let dots = points
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
        // Beside the panel and not over the lines.
        let at = (
            i32::try_from(width)? - 200,
            50 + 18 * i32::try_from(number)?,
        );
        area.draw(&PathElement::new(vec![at, (at.0 + 18, at.1)], thick))?;
        let style = (FONT, 13).into_font().color(&BLACK);
        area.draw(&Text::new(name.clone(), (at.0 + 24, at.1 - 6), style))?;
    }
    Ok(())
}

fn bars(path: &Path, group: Group, rows: &[Row]) -> Drawn {
    let mut rows: Vec<_> = rows.iter().filter(|row| row.bytes.is_none()).collect();
    rows.sort_by(|one, other| one.median_us.total_cmp(&other.median_us));
    let height = 80 + 24 * u32::try_from(rows.len())?;
    let root = SVGBackend::new(path, (900, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = match group {
        Group::Suite => "one suite under each strategy, wall time",
        _ => "what a test pays",
    };
    let range = decades(rows.iter().map(|row| row.median_us));
    let (left, right) = (260.0, 780.0);
    let share = |us: f64| (us / range.start).log10() / (range.end / range.start).log10();
    root.draw(&Text::new(title, (20, 14), (FONT, 18).into_font()))?;
    let text = (FONT, 13).into_font().color(&BLACK);
    let mut decade = range.start;
    while decade <= range.end * 1.01 {
        let x = (left + share(decade) * (right - left)) as i32;
        let bottom = i32::try_from(height)? - 26;
        let grey = RGBColor(225, 225, 225);
        root.draw(&PathElement::new(vec![(x, 44), (x, bottom)], grey))?;
        root.draw(&Text::new(time(decade), (x - 18, bottom + 6), text.clone()))?;
        decade *= 10.0;
    }
    for (number, row) in rows.iter().enumerate() {
        let y = 50 + 24 * i32::try_from(number)?;
        let end = left + share(row.median_us) * (right - left);
        let colour = match row.strategy.starts_with("dagz") {
            true => COLOURS[0],
            false => COLOURS[7],
        };
        let bar = [(left as i32, y), (end as i32, y + 16)];
        root.draw(&Rectangle::new(bar, colour.filled()))?;
        let name = match row.workers {
            Some(workers) => format!("{} × {workers}", row.strategy),
            None => row.strategy.clone(),
        };
        root.draw(&Text::new(name, (20, y + 1), text.clone()))?;
        root.draw(&Text::new(
            time(row.median_us),
            (end as i32 + 6, y + 1),
            text.clone(),
        ))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strategy: &str, tables: u64, ratio: f64) -> Row {
        Row {
            backend: "postgres 15.18".to_owned(),
            strategy: strategy.to_owned(),
            tables,
            dirty: 3,
            ratio,
            median_us: ratio * 100.0,
            workers: Some(tables),
            tests: Some(100),
            ..Row::default()
        }
    }

    #[test]
    fn each_group_is_drawn_with_its_strategies() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [
            row("dagz", 10, 3.0),
            row("dagz", 50, 3.2),
            row("truncate-all", 10, 150.0),
            row("truncate-all", 50, 700.0),
        ];
        for group in Group::ALL {
            let path = folder.path().join(format!("{group:?}.svg"));
            draw(&path, group, &rows).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
            for strategy in ["dagz", "truncate-all"] {
                assert!(text.contains(strategy), "{group:?} lacks `{strategy}`");
            }
        }
    }

    #[test]
    fn axes_are_whole_decades() {
        assert_eq!(decades([3.0, 650.0].into_iter()), 1.0..1_000.0);
        assert_eq!(decades([0.7, 9.0].into_iter()), 0.1..10.0);
    }
}
