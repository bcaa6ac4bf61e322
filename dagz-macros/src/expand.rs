//! Third stage: the code, and with it the two entrances that run all three.
//!
//! The user's function keeps its name, its arguments and its spans: it becomes an inner function of
//! the test that the harness sees, and errors in its body are the compiler's own, at the user's own
//! line.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Signature;
use syn::spanned::Spanned;

use crate::parse::Function;
use crate::valid::{Runtime, Setup, Test};

/// `#[dagz::test(options)]` on `item`.
pub(crate) fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |function| {
        Test::new(options, function).map(|test| write_test(&test))
    })
}

/// `#[dagz::setup(options)]` on `item`.
pub(crate) fn setup(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |function| {
        Setup::new(options, function).map(|setup| write_setup(&setup))
    })
}

/// Runs the later stages on a parsed `item`.
///
/// Next to an error the function stays, so that editors keep understanding it; its attributes go,
/// so that no other macro adds errors of its own to it.
fn expand(
    item: TokenStream,
    write: impl FnOnce(Function) -> syn::Result<TokenStream>,
) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    let bare = function.bare();
    write(function).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #bare)
    })
}

fn write_test(test: &Test) -> TokenStream {
    let Function {
        attributes,
        visibility,
        signature,
        body,
    } = &test.function;
    let name = &signature.ident;
    let outer = Signature {
        asyncness: None,
        inputs: Default::default(),
        ..signature.clone()
    };
    // Last, so that the attributes before it can see that the function is a test already.
    let mark = (!test.marked).then(|| quote!(#[::core::prelude::v1::test]));
    let run = write_run(test, name);
    // Arguments need an async test, even one that awaits nothing.
    let lints = test
        .runtime
        .as_ref()
        .map(|_| quote!(#[allow(clippy::unused_async)]));
    quote! {
        #(#attributes)*
        #mark
        #visibility #outer {
            #lints
            #signature #body
            #run
        }
    }
}

fn write_run(test: &Test, name: &Ident) -> TokenStream {
    let Test {
        facade,
        main_worker,
        exclusive,
        ..
    } = test;
    let should_panic = test
        .function
        .attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("should_panic"));
    let spec = quote! {
        #facade::__private::TestSpec {
            name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
            main_worker: #main_worker,
            exclusive: #exclusive,
            should_panic: #should_panic,
        }
    };
    // Here the type of the result is known, by which a failure is told from everything else.
    let is_failure = quote! {
        |result| {
            #[allow(unused_imports)]
            use #facade::__private::{OfAnything as _, OfResult as _};
            (&#facade::__private::Probe(result)).is_failure()
        }
    };
    let Some(runtime) = &test.runtime else {
        return quote!(#facade::__private::run_sync(#spec, #name, #is_failure));
    };
    let runtime = write_runtime(test, runtime);
    // Names that the user's function, which is called from here, cannot have.
    let scope = Ident::new("scope", Span::mixed_site());
    let variables: Vec<_> = (0..test.arguments.len())
        .map(|index| format_ident!("argument_{index}", span = Span::mixed_site()))
        .collect();
    let made = test.arguments.iter().map(|argument| {
        // Spanned, so that "this cannot be an argument" is said at the argument.
        let facade = respan(facade, argument.span());
        quote_spanned!(argument.span()=> #facade::__private::argument::<#argument, _>(&#scope).await)
    });
    let pattern = if test.arguments.is_empty() {
        quote!(_)
    } else {
        quote!(#scope)
    };
    quote! {
        #facade::__private::run_async(#spec, #runtime, |#pattern| async move {
            #(let #variables = #made;)*
            #name(#(#variables),*).await
        }, #is_failure)
    }
}

fn write_runtime(test: &Test, runtime: &Runtime) -> TokenStream {
    let facade = &test.facade;
    let Runtime {
        multi_thread,
        start_paused,
        ..
    } = runtime;
    let worker_threads = match runtime.worker_threads {
        Some(count) => quote!(::core::option::Option::Some(#count)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #facade::__private::RuntimeSpec {
            multi_thread: #multi_thread,
            worker_threads: #worker_threads,
            start_paused: #start_paused,
        }
    }
}

fn write_setup(setup: &Setup) -> TokenStream {
    let Setup {
        facade,
        output,
        function,
    } = setup;
    let name = &function.signature.ident;
    // A function that `cfg` removes must not stay registered.
    let conditions = function
        .attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    // Spanned, so that "this is not `dagz::Result<()>`" is said at the return type.
    let span = output.span();
    let call = respan(name, span);
    let call = if function.signature.asyncness.is_some() {
        let facade = respan(facade, span);
        quote_spanned! {span=>
            #facade::__private::setup_async(async {
                let result: #facade::Result<()> = #call().await;
                result
            })
        }
    } else {
        quote_spanned!(span=> #call())
    };
    quote! {
        // The result is asked for here, even of one that cannot fail.
        #[allow(clippy::unnecessary_wraps, clippy::unused_async)]
        #function
        #(#conditions)*
        const _: () = {
            fn run() -> #facade::Result<()> {
                #call
            }
            #facade::__private::inventory::submit! {
                #facade::__private::Setup {
                    name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                    run,
                }
            }
        };
    }
}

/// The same tokens, to be underlined elsewhere.
fn respan(tokens: &impl ToTokens, span: Span) -> TokenStream {
    let respanned = tokens.to_token_stream().into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    respanned.collect()
}
