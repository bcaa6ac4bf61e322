//! What tests wrote to their output, as their runner captured it: kept beside the events of the job.
//!
//! `output.jsonl` is one JSON object per line, appended in one write each, so that a killed runner leaves at most a
//! torn last line. It stops growing at a bound, and of a long output the beginning and the end are kept. The main
//! type is [`Output`].

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{Result, error::io_error};

pub(crate) const FILE: &str = "output.jsonl";

/// The version of the lines; readers skip those of a version they do not know.
const VERSION: u32 = 1;

/// How many bytes of one output are kept.
const LONGEST: usize = 64 << 10;

/// What one attempt at a test wrote to its output.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Output {
    v: u32,
    /// The binary the test is in.
    pub binary: String,
    /// Its name.
    pub test: String,
    /// Which of the test's attempts in the job it was, from 1.
    pub attempt: usize,
    /// What it wrote.
    pub text: String,
}

impl Output {
    /// What the attempt of this number wrote.
    pub fn new(binary: &str, test: &str, attempt: usize, text: &str) -> Self {
        Self {
            v: VERSION,
            binary: binary.to_owned(),
            test: test.to_owned(),
            attempt,
            text: text.to_owned(),
        }
    }
}

/// The beginning and the end of `text`, where it is too long.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let boundary = |near: usize| (near..).find(|at| text.is_char_boundary(*at));
    let head = boundary(LONGEST / 2).unwrap_or_default();
    let tail = boundary(text.len() - LONGEST / 2).unwrap_or(text.len());
    let left_out = tail - head;
    format!(
        "{}\n[{left_out} bytes left out]\n{}",
        &text[..head],
        &text[tail..]
    )
}

pub(super) fn append(directory: &Path, output: &Output, limit: u64) -> Result<()> {
    let path = directory.join(FILE);
    let output = Output {
        text: shortened(&output.text),
        ..output.clone()
    };
    let mut line = serde_json::to_vec(&output).unwrap_or_default();
    line.push(b'\n');
    let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if before + line.len() as u64 > limit {
        return Ok(());
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&line))
        .map_err(io_error("writing", &path))
}

pub(super) fn read(directory: &Path) -> Result<Vec<Output>> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("reading", &path)(error)),
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let outputs = lines.filter_map(|line| serde_json::from_slice::<Output>(line).ok());
    Ok(outputs.filter(|output| output.v == VERSION).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_bounded_and_torn_lines_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let short = Output::new("shop", "orders", 1, "panicked\n");
        append(dir.path(), &short, 1 << 20).unwrap();
        let long = "ä".repeat(LONGEST);
        append(
            dir.path(),
            &Output::new("shop", "orders", 2, &long),
            1 << 20,
        )
        .unwrap();
        append(dir.path(), &short, 1_000).unwrap();
        let torn = OpenOptions::new().append(true).open(dir.path().join(FILE));
        torn.unwrap().write_all(b"{\"v\":1,\"bin").unwrap();
        let outputs = read(dir.path()).unwrap();
        assert_eq!(outputs.len(), 2, "the third is beyond the bound");
        assert_eq!(outputs[0], short);
        let text = &outputs[1].text;
        assert!(text.len() < LONGEST + 100 && text.starts_with('ä') && text.ends_with('ä'));
        assert!(
            text.contains("\n[65536 bytes left out]\n"),
            "{}",
            text.len()
        );
    }
}
