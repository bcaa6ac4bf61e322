//! What the user says to the runner, taken apart: which profile, and which tests.
//!
//! The main type is [`Words`].

/// The words after `--`, without what has to be known or replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The profile of nextest that the user wants.
    pub(crate) profile: Option<String>,
    /// Whether the user says which part of the suite this machine runs.
    pub(crate) has_partition: bool,
    /// What chooses tests, as it was written.
    pub(crate) choice: Vec<String>,
    /// Everything else, up to a second `--`.
    pub(crate) others: Vec<String>,
    /// From a second `--` on: words for the test binaries, or more filters.
    pub(crate) rest: Vec<String>,
}

/// Options of nextest that choose tests, with the short form.
const CHOOSING: [&str; 4] = ["--filterset", "--filter-expr", "-E", "--partition"];
const PROFILE: [&str; 2] = ["--profile", "-P"];

impl Words {
    pub(crate) fn of(words: &[String]) -> Self {
        let mut taken = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                taken.rest = words.cloned().collect();
                break;
            }
            if let Some((_, value)) = option(word, &PROFILE) {
                taken.profile = value.or_else(|| words.next().cloned());
            } else if let Some((name, value)) = option(word, &CHOOSING) {
                taken.has_partition |= name == "--partition";
                taken.choice.push(word.clone());
                if value.is_none() {
                    taken.choice.extend(words.next().cloned());
                }
            } else {
                taken.others.push(word.clone());
            }
        }
        taken
    }
}

/// Which of the options `word` is, and its value where that is in the same word.
fn option<'a>(word: &str, options: &[&'a str]) -> Option<(&'a str, Option<String>)> {
    options.iter().find_map(|option| {
        let rest = word.strip_prefix(option)?;
        let value = match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => None,
            // `-Pci`
            None if !option.starts_with("--") => Some(rest),
            None => return None,
        };
        Some((*option, value.map(str::to_owned)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_choices_are_found_in_every_spelling() {
        let of = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Words::of(&words)
        };
        for text in ["-P ci", "-Pci", "-P=ci", "--profile ci", "--profile=ci"] {
            let words = of(&format!("-p shop {text} --lib"));
            assert_eq!(words.profile.as_deref(), Some("ci"), "{text}");
            assert_eq!(words.others, ["-p", "shop", "--lib"], "{text}");
        }
        let words = of("--cargo-profile fast -E test(a) --partition=hash:1/2 --lib -- --skip b");
        assert_eq!(words.others, ["--cargo-profile", "fast", "--lib"]);
        assert_eq!(words.choice, ["-E", "test(a)", "--partition=hash:1/2"]);
        assert_eq!(words.rest, ["--skip", "b"]);
        assert!(words.has_partition && words.profile.is_none());
    }
}
