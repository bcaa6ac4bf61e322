//! The options inside the parentheses of `#[dagz::test(..)]`, `#[dagz::setup(..)]` and
//! `#[tokio::test(..)]`.
//!
//! A list of `name` or `name = value`, read by [`List`]; [`TestOptions`] and [`SetupOptions`] are
//! what the names mean.

use std::fmt;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Token};

use crate::problem::Problems;

/// The flavours of tokio's runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flavor {
    CurrentThread,
    MultiThread,
}

impl fmt::Display for Flavor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CurrentThread => "current_thread",
            Self::MultiThread => "multi_thread",
        })
    }
}

/// A value together with the option that gave it, which errors underline.
#[derive(Clone)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) option: TokenStream,
}

/// What is asked of the runtime of an async test.
#[derive(Default)]
pub(crate) struct RuntimeOptions {
    pub(crate) flavor: Option<Given<Flavor>>,
    pub(crate) worker_threads: Option<Given<usize>>,
    pub(crate) start_paused: Option<Given<bool>>,
}

/// The options of `#[dagz::test]`.
pub(crate) struct TestOptions {
    pub(crate) main_worker: bool,
    pub(crate) exclusive: bool,
    pub(crate) runtime: RuntimeOptions,
    pub(crate) facade: Path,
}

/// The options of `#[dagz::setup]`.
pub(crate) struct SetupOptions {
    pub(crate) facade: Path,
}

impl TestOptions {
    const KNOWN: &str =
        "`main_worker`, `exclusive`, `flavor`, `worker_threads`, `start_paused` and `crate`";

    /// Reads the options of `#[dagz::test]`; what is wrong goes to `problems`, and its default is
    /// used.
    pub(crate) fn read(tokens: TokenStream, problems: &mut Problems) -> Self {
        let mut options = Self {
            main_worker: false,
            exclusive: false,
            runtime: RuntimeOptions::default(),
            facade: default_facade(),
        };
        for entry in List::read(tokens, problems) {
            let read = match entry.name.to_string().as_str() {
                "main_worker" => entry.mark().map(|()| options.main_worker = true),
                "exclusive" => entry.mark().map(|()| options.exclusive = true),
                "crate" => entry.path().map(|path| options.facade = path),
                _ if options.runtime.knows(&entry) => options.runtime.set(&entry),
                name => Err(entry.error(format!(
                    "unknown option `{name}`, the options are {}",
                    Self::KNOWN
                ))),
            };
            problems.take(read);
        }
        options
    }
}

impl SetupOptions {
    /// Reads the options of `#[dagz::setup]`; what is wrong goes to `problems`, and its default is
    /// used.
    pub(crate) fn read(tokens: TokenStream, problems: &mut Problems) -> Self {
        let mut options = Self {
            facade: default_facade(),
        };
        for entry in List::read(tokens, problems) {
            let read = match entry.name.to_string().as_str() {
                "crate" => entry.path().map(|path| options.facade = path),
                name => {
                    Err(entry.error(format!("unknown option `{name}`, the only one is `crate`")))
                }
            };
            problems.take(read);
        }
        options
    }
}

impl RuntimeOptions {
    /// Reads the options of a `#[tokio::test(..)]` whose runtime dagz takes over.
    pub(crate) fn read_tokio(tokens: TokenStream, problems: &mut Problems) -> Self {
        let mut options = Self::default();
        for entry in List::read(tokens, problems) {
            let read = match entry.name.to_string().as_str() {
                // Where tokio is found matters only to the code that tokio's macro would have
                // written.
                "crate" => Ok(()),
                _ if options.knows(&entry) => options.set(&entry),
                name => Err(entry.error(format!(
                    "`#[dagz::test]` makes the runtime, and cannot honour tokio's option `{name}`"
                ))),
            };
            problems.take(read);
        }
        options
    }

    /// Takes what `other` gives, unless it contradicts what is here already.
    pub(crate) fn merge(&mut self, other: Self, problems: &mut Problems) {
        merge_one(&mut self.flavor, other.flavor, "flavor", problems);
        merge_one(
            &mut self.worker_threads,
            other.worker_threads,
            "worker_threads",
            problems,
        );
        merge_one(
            &mut self.start_paused,
            other.start_paused,
            "start_paused",
            problems,
        );
    }

    /// Every option that was given, by its name.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, &TokenStream)> {
        let flavor = self.flavor.iter().map(|given| ("flavor", &given.option));
        let threads = self
            .worker_threads
            .iter()
            .map(|given| ("worker_threads", &given.option));
        let paused = self
            .start_paused
            .iter()
            .map(|given| ("start_paused", &given.option));
        flavor.chain(threads).chain(paused)
    }

    fn knows(&self, entry: &Entry) -> bool {
        ["flavor", "worker_threads", "start_paused"]
            .iter()
            .any(|name| entry.name == name)
    }

    fn set(&mut self, entry: &Entry) -> syn::Result<()> {
        if entry.name == "flavor" {
            self.flavor = Some(entry.given(entry.flavor()?));
        } else if entry.name == "worker_threads" {
            self.worker_threads = Some(entry.given(entry.threads()?));
        } else {
            self.start_paused = Some(entry.given(entry.boolean()?));
        }
        Ok(())
    }
}

fn merge_one<T: PartialEq + fmt::Display>(
    ours: &mut Option<Given<T>>,
    theirs: Option<Given<T>>,
    name: &str,
    problems: &mut Problems,
) {
    match (&*ours, theirs) {
        (Some(ours), Some(theirs)) if ours.value != theirs.value => problems.at(
            &theirs.option,
            format!(
                "`#[tokio::test]` asks for `{name}` {}, and `#[dagz::test]` for {}",
                theirs.value, ours.value
            ),
        ),
        (None, Some(theirs)) => *ours = Some(theirs),
        _ => {}
    }
}

fn default_facade() -> Path {
    syn::parse_quote!(::dagz)
}

/// One `name` or `name = value`.
struct Entry {
    name: Ident,
    value: Option<Expr>,
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        // `parse_any`, because `crate` is a keyword.
        let name = input.call(Ident::parse_any)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { name, value })
    }
}

impl ToTokens for Entry {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { name, value } = self;
        tokens.extend(match value {
            Some(value) => quote!(#name = #value),
            None => quote!(#name),
        });
    }
}

impl Entry {
    fn error(&self, message: impl fmt::Display) -> Error {
        Error::new_spanned(self, message)
    }

    fn given<T>(&self, value: T) -> Given<T> {
        Given {
            value,
            option: self.to_token_stream(),
        }
    }

    fn mark(&self) -> syn::Result<()> {
        match &self.value {
            None => Ok(()),
            Some(_) => Err(self.error(format!("`{0}` takes no value, write `{0}`", self.name))),
        }
    }

    fn flavor(&self) -> syn::Result<Flavor> {
        match self.literal() {
            Some(Lit::Str(text)) if text.value() == "current_thread" => Ok(Flavor::CurrentThread),
            Some(Lit::Str(text)) if text.value() == "multi_thread" => Ok(Flavor::MultiThread),
            _ => Err(self.error("`flavor` is `\"current_thread\"` or `\"multi_thread\"`")),
        }
    }

    fn threads(&self) -> syn::Result<usize> {
        let count = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse().unwrap_or(0),
            _ => 0,
        };
        match count {
            0 => Err(self.error("`worker_threads` is a number, at least 1")),
            count => Ok(count),
        }
    }

    fn boolean(&self) -> syn::Result<bool> {
        match self.literal() {
            Some(Lit::Bool(literal)) => Ok(literal.value),
            _ => Err(self.error(format!("`{}` is `true` or `false`", self.name))),
        }
    }

    fn path(&self) -> syn::Result<Path> {
        let path = self.literal().and_then(|literal| match literal {
            Lit::Str(text) => LitStr::parse_with(text, Path::parse_mod_style).ok(),
            _ => None,
        });
        path.ok_or_else(|| {
            self.error("`crate` is the path at which dagz is found, as in `crate = \"::my::dagz\"`")
        })
    }

    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            _ => None,
        }
    }
}

/// The entries of one pair of parentheses, each name at most once.
struct List;

impl List {
    fn read(tokens: TokenStream, problems: &mut Problems) -> Vec<Entry> {
        let parsed = Punctuated::<Entry, Token![,]>::parse_terminated.parse2(tokens);
        let mut entries: Vec<Entry> = Vec::new();
        for entry in problems.take(parsed).into_iter().flatten() {
            if entries.iter().any(|earlier| earlier.name == entry.name) {
                problems.push(entry.error(format!("`{}` is given twice", entry.name)));
            } else {
                entries.push(entry);
            }
        }
        entries
    }
}
