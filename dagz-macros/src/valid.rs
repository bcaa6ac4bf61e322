//! Second stage: what a function and its options mean, and every reason why they cannot work.
//!
//! [`Test`] and [`Setup`] are made here and nowhere else, so [`crate::expand`] has nothing left to
//! refuse.

use proc_macro2::TokenStream;
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Meta, Path, ReturnType, Signature, Token, Type};

use crate::option::{Flavor, RuntimeOptions, SetupOptions, TestOptions};
use crate::parse::Function;
use crate::problem::Problems;

/// A test that can be written out.
pub(crate) struct Test {
    pub(crate) facade: Path,
    pub(crate) main_worker: bool,
    pub(crate) exclusive: bool,
    /// The runtime to make; none for a test that is not async.
    pub(crate) runtime: Option<Runtime>,
    /// The types of the arguments, in order.
    pub(crate) arguments: Vec<Type>,
    /// Whether another attribute already makes a test of the function.
    pub(crate) marked: bool,
    /// The function, without the `#[tokio::test]` whose work dagz does.
    pub(crate) function: Function,
}

/// A tokio runtime, as `dagz_core::__private::RuntimeSpec` describes it.
pub(crate) struct Runtime {
    pub(crate) multi_thread: bool,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) start_paused: bool,
}

/// A set-up function that can be written out.
pub(crate) struct Setup {
    pub(crate) facade: Path,
    /// What the function says it returns, which the generated code checks.
    pub(crate) output: Type,
    pub(crate) function: Function,
}

impl Test {
    /// Decides what `options` and `function` mean together.
    pub(crate) fn new(options: TokenStream, mut function: Function) -> syn::Result<Self> {
        let mut problems = Problems::default();
        let mut options = TestOptions::read(options, &mut problems);
        check_attributes(&function.attributes, &mut problems);
        let tokio = take_tokio(&mut function.attributes, &mut problems);
        let signature = &function.signature;
        check_signature("a test", signature, &mut problems);

        let runtime = if signature.asyncness.is_some() {
            if let Some(tokio) = tokio {
                options.runtime.merge(tokio, &mut problems);
            }
            Some(Runtime::new(&options.runtime, &mut problems))
        } else {
            if tokio.is_some() {
                problems.at(signature.fn_token, "`#[tokio::test]` needs an `async fn`");
            }
            refuse_runtime(&options.runtime, &mut problems);
            None
        };
        let arguments = arguments(signature, &mut problems);
        let marked = function.attributes.iter().any(marks_test);
        problems.finish(Self {
            facade: options.facade,
            main_worker: options.main_worker,
            exclusive: options.exclusive,
            runtime,
            arguments,
            marked,
            function,
        })
    }
}

impl Runtime {
    fn new(options: &RuntimeOptions, problems: &mut Problems) -> Self {
        let multi_thread = options
            .flavor
            .as_ref()
            .is_some_and(|flavor| flavor.value == Flavor::MultiThread);
        if let Some(threads) = &options.worker_threads
            && !multi_thread
        {
            problems.at(
                &threads.option,
                "`worker_threads` needs `flavor = \"multi_thread\"`: the default runtime has one thread, the test's",
            );
        }
        if let Some(paused) = &options.start_paused
            && paused.value
            && multi_thread
        {
            problems.at(
                &paused.option,
                "`start_paused` needs `flavor = \"current_thread\"`: tokio cannot stop the clock of several threads",
            );
        }
        Self {
            multi_thread,
            worker_threads: options.worker_threads.as_ref().map(|threads| threads.value),
            start_paused: options
                .start_paused
                .as_ref()
                .is_some_and(|paused| paused.value),
        }
    }
}

impl Setup {
    /// Decides what `options` and `function` mean together.
    pub(crate) fn new(options: TokenStream, function: Function) -> syn::Result<Self> {
        let mut problems = Problems::default();
        let options = SetupOptions::read(options, &mut problems);
        let signature = &function.signature;
        check_signature("a set-up function", signature, &mut problems);
        if !signature.inputs.is_empty() {
            problems.at(
                &signature.inputs,
                "a set-up function takes no arguments: it runs before the first test, outside every scope",
            );
        }
        if let Some(attribute) = function
            .attributes
            .iter()
            .find(|attribute| marks_test(attribute))
        {
            problems.at(
                attribute,
                "a set-up function is not a test; put `#[dagz::setup]` on a function of its own",
            );
        }
        let output = match &signature.output {
            ReturnType::Type(_, output) => Type::clone(output),
            ReturnType::Default => {
                problems.at(
                    &signature.ident,
                    "a set-up function returns `dagz::Result<()>`, so that every test can tell why it failed",
                );
                Type::Verbatim(TokenStream::new())
            }
        };
        problems.finish(Self {
            facade: options.facade,
            output,
            function,
        })
    }
}

/// What neither a test nor a set-up function can be.
fn check_signature(what: &str, signature: &Signature, problems: &mut Problems) {
    if let Some(constness) = &signature.constness {
        problems.at(constness, format!("{what} cannot be `const`"));
    }
    if let Some(unsafety) = &signature.unsafety {
        problems.at(
            unsafety,
            format!("{what} cannot be `unsafe`; open an `unsafe` block inside"),
        );
    }
    if let Some(abi) = &signature.abi {
        problems.at(abi, format!("{what} cannot be `extern`"));
    }
    if !signature.generics.params.is_empty() {
        problems.at(
            &signature.generics,
            format!("{what} cannot be generic: nobody is there to choose the parameters"),
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        problems.at(clause, format!("{what} cannot have a `where` clause"));
    }
    if let Some(variadic) = &signature.variadic {
        problems.at(variadic, format!("{what} cannot be variadic"));
    }
    if let Some(receiver) = signature.receiver() {
        problems.at(
            receiver,
            format!("{what} cannot take `self`; put it outside the `impl` or `trait`"),
        );
    }
}

/// The types of a test's arguments, if it may have any.
fn arguments(signature: &Signature, problems: &mut Problems) -> Vec<Type> {
    let typed: Vec<_> = signature
        .inputs
        .iter()
        .filter_map(|input| match input {
            FnArg::Typed(argument) => Some(argument),
            // Already refused, with the signature.
            FnArg::Receiver(_) => None,
        })
        .collect();
    if signature.asyncness.is_none() && !typed.is_empty() {
        let typed: Punctuated<_, Token![,]> = typed.iter().collect();
        problems.at(
            typed,
            "arguments are made asynchronously; make the test an `async fn` to take any",
        );
        return Vec::new();
    }
    for argument in &typed {
        if let Some(attribute) = argument.attrs.first() {
            problems.at(
                attribute,
                "`#[dagz::test]` has no attributes for arguments; if this one is rstest's, put `#[rstest]` above \
                 `#[dagz::test]`",
            );
        }
        if let Type::ImplTrait(unnamed) = &*argument.ty {
            problems.at(
                unnamed,
                "name the type: it decides what dagz makes for this argument",
            );
        }
    }
    typed
        .iter()
        .map(|argument| Type::clone(&argument.ty))
        .collect()
}

/// A test that is not async has no runtime to choose.
fn refuse_runtime(options: &RuntimeOptions, problems: &mut Problems) {
    for (name, option) in options.given() {
        problems.at(
            option,
            format!(
                "`{name}` is about a runtime, and only an `async fn` gets one (where `#[tokio::test]` stands above, \
                 put it below `#[dagz::test]`, or give it the option)"
            ),
        );
    }
}

/// Attributes that would undo what `#[dagz::test]` does.
fn check_attributes(attributes: &[Attribute], problems: &mut Problems) {
    for attribute in attributes {
        if is_at(attribute, "dagz", "test") {
            problems.at(attribute, "`#[dagz::test]` is given twice");
        } else if is_at(attribute, "dagz", "setup") {
            problems.at(
                attribute,
                "a function is either a test or a set-up function",
            );
        } else if last_segment_is(attribute, "rstest") {
            problems.at(
                attribute,
                "put `#[rstest]` above `#[dagz::test]`: rstest makes the cases, dagz runs each",
            );
        }
    }
}

/// Removes `#[tokio::test]` and gives its options.
///
/// dagz makes the runtime itself, because it must end before the worker is given back: a task left
/// over from one test must not write into the next.
fn take_tokio(attributes: &mut Vec<Attribute>, problems: &mut Problems) -> Option<RuntimeOptions> {
    let position = attributes
        .iter()
        .position(|attribute| is_at(attribute, "tokio", "test"))?;
    let attribute = attributes.remove(position);
    if let Some(second) = attributes
        .iter()
        .find(|attribute| is_at(attribute, "tokio", "test"))
    {
        problems.at(second, "`#[tokio::test]` is given twice");
    }
    let tokens = match attribute.meta {
        Meta::List(list) => list.tokens,
        Meta::Path(_) => TokenStream::new(),
        Meta::NameValue(pair) => {
            problems.at(pair, "expected `#[tokio::test]` or `#[tokio::test(..)]`");
            TokenStream::new()
        }
    };
    Some(RuntimeOptions::read_tokio(tokens, problems))
}

/// Whether an attribute makes a test of a function, by the convention that its last word is `test`.
fn marks_test(attribute: &Attribute) -> bool {
    last_segment_is(attribute, "test")
}

fn last_segment_is(attribute: &Attribute, word: &str) -> bool {
    attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| segment.ident == word)
}

fn is_at(attribute: &Attribute, package: &str, word: &str) -> bool {
    let segments = &attribute.path().segments;
    segments.len() == 2 && segments[0].ident == package && segments[1].ident == word
}
