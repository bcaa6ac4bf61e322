//! Rules for what clients send that need no database.

/// Whether `sku` is 3 to 32 upper-case letters, digits and inner single dashes.
pub fn is_sku(sku: &str) -> bool {
    (3..=32).contains(&sku.len())
        && sku.split('-').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        })
}

/// Whether `email` has one `@` with something before it and a dotted name after it, and no blanks.
pub fn is_email(email: &str) -> bool {
    let Some((local, domain)) = email.split_once('@') else {
        return false;
    };
    let dotted = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    !local.is_empty() && dotted && !domain.contains('@') && !email.chars().any(char::is_whitespace)
}

/// A name in the form of a web address: lower-case letters and digits, other runs become one dash.
pub fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}
