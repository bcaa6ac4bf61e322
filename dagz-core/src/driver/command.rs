//! A command as a person types it into a shell: [`command_line`].

/// `words` as one line for a POSIX shell; a word that a shell would read otherwise is quoted.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = words.into_iter().map(|word| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_is() {
        let words = ["printf", "%s|", "a_jw03", "it's", "$HOME `x`", "", "é\\"];
        let line = command_line(words);
        let told = std::process::Command::new("sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(told.stdout).unwrap(),
            "a_jw03|it's|$HOME `x`||é\\|"
        );
        assert!(line.starts_with("printf '%s|' a_jw03 "), "{line}");
    }
}
