//! Where the management API is and who asks: [`Address`].

use std::fmt;

use dagz_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use url::Url;

/// The port on which the plugin listens unless told otherwise.
const PORT: u16 = 15_672;

/// Where the management API is, and who asks.
#[derive(Clone)]
pub(crate) struct Address {
    host: String,
    port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Address {
    /// The usual address on `host`, for this user.
    pub(crate) fn usual(host: &str, user: &str, password: &str) -> Self {
        Self {
            host: host.to_owned(),
            port: PORT,
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// What `http://user:password@host:port` says; without a user, `otherwise` has it.
    pub(crate) fn parse(url: &str, otherwise: &Self) -> Result<Self> {
        let unusable = |why: &str| {
            Error::new(
                ErrorKind::Settings,
                format!("the address of RabbitMQ's management API cannot be used: {why}"),
            )
        };
        // Its errors do not repeat the text, in which there may be a password.
        let url = Url::parse(url).map_err(|error| unusable(&error.to_string()))?;
        if url.scheme() != "http" {
            return Err(unusable(
                "it must begin with `http://`; dagz does not speak TLS to it",
            ));
        }
        let host = url.host_str().ok_or_else(|| unusable("it has no host"))?;
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(|text| text.into_owned())
                .map_err(|_| unusable("it is not UTF-8"))
        };
        let (user, password) = match url.username() {
            "" => (otherwise.user.clone(), otherwise.password.clone()),
            user => (decoded(user)?, decoded(url.password().unwrap_or_default())?),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            // HTTP's own port is left out of what is parsed, and nobody runs the plugin there.
            port: url.port().unwrap_or(PORT),
            user,
            password,
        })
    }

    /// What to connect to.
    pub(super) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Host and port, for people.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Shows where it leads, without the password.
impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Address")
            .field("at", &self.shown())
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_usual_port_and_user_unless_they_say_otherwise() {
        let usual = Address::usual("h", "app", "hunter2");
        for (url, shown, user) in [
            ("http://m", "m:15672", "app"),
            ("http://m:80/", "m:15672", "app"),
            ("http://root:x%2Fy@m:8080/", "m:8080", "root"),
            ("http://[::1]:8080", "::1:8080", "app"),
        ] {
            let address = Address::parse(url, &usual).unwrap();
            assert_eq!((address.shown().as_str(), &*address.user), (shown, user));
        }
        let given = Address::parse("http://root:x%2Fy@m", &usual).unwrap();
        assert_eq!(given.password, "x/y");
        for url in ["https://m", "amqp://m", "m:1", ""] {
            let error = Address::parse(url, &usual).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings, "{url}");
        }
        assert!(!format!("{usual:?}").contains("hunter2"));
    }
}
