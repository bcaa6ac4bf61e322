//! What the macros write, token for token.
//!
//! What compilers and harnesses make of it is tested in the facade's `tests/`.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand;

/// Checks what `#[dagz::test(options)] item` becomes.
#[track_caller]
fn check_test(options: TokenStream, item: TokenStream, expected: TokenStream) {
    assert_eq!(
        expand::test(options, item).to_string(),
        expected.to_string()
    );
}

/// Checks what `#[dagz::setup(options)] item` becomes.
#[track_caller]
fn check_setup(options: TokenStream, item: TokenStream, expected: TokenStream) {
    assert_eq!(
        expand::setup(options, item).to_string(),
        expected.to_string()
    );
}

/// The specification of an unmarked test named `name`.
fn spec(name: TokenStream) -> TokenStream {
    quote! {
        ::dagz::__private::TestSpec {
            name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
            main_worker: false,
            exclusive: false,
            should_panic: false,
        }
    }
}

/// How the harness asks what a test returned.
fn is_failure(facade: TokenStream) -> TokenStream {
    quote! {
        |result| {
            #[allow(unused_imports)]
            use #facade::__private::{OfAnything as _, OfResult as _};
            (&#facade::__private::Probe(result)).is_failure()
        }
    }
}

/// The runtime that `#[tokio::test]` would make.
fn default_runtime() -> TokenStream {
    quote! {
        ::dagz::__private::RuntimeSpec {
            multi_thread: false,
            worker_threads: ::core::option::Option::None,
            start_paused: false,
        }
    }
}

#[test]
fn a_sync_test_keeps_its_attributes_and_its_result() {
    let spec = spec(quote!(keeps)).to_string();
    let spec: TokenStream = spec
        .replace("should_panic : false", "should_panic : true")
        .parse()
        .unwrap();
    let is_failure = is_failure(quote!(::dagz));
    check_test(
        quote!(),
        quote! {
            /// Documentation.
            #[should_panic]
            pub(crate) fn keeps() -> Result<(), Error> { work()?; Ok(()) }
        },
        quote! {
            /// Documentation.
            #[should_panic]
            #[::core::prelude::v1::test]
            pub(crate) fn keeps() -> Result<(), Error> {
                fn keeps() -> Result<(), Error> { work()?; Ok(()) }
                ::dagz::__private::run_sync(#spec, keeps, #is_failure)
            }
        },
    );
}

#[test]
fn an_async_test_gets_its_arguments_in_order() {
    let (spec, runtime) = (spec(quote!(lists)), default_runtime());
    let is_failure = is_failure(quote!(::dagz));
    check_test(
        quote!(),
        quote! {
            async fn lists(db: shop::Client, (_, mut scope): (dagz::Worker, dagz::Scope)) { body }
        },
        quote! {
            #[::core::prelude::v1::test]
            fn lists() {
                #[allow(clippy::unused_async)]
                async fn lists(db: shop::Client, (_, mut scope): (dagz::Worker, dagz::Scope)) { body }
                ::dagz::__private::run_async(#spec, #runtime, |scope| async move {
                    let argument_0 = ::dagz::__private::argument::<shop::Client, _>(&scope).await;
                    let argument_1 =
                        ::dagz::__private::argument::<(dagz::Worker, dagz::Scope), _>(&scope).await;
                    lists(argument_0, argument_1).await
                }, #is_failure)
            }
        },
    );
}

#[test]
fn every_option_arrives() {
    let is_failure = is_failure(quote!(::my::dagz));
    check_test(
        quote! {
            main_worker, exclusive, flavor = "multi_thread", worker_threads = 3,
            crate = "::my::dagz",
        },
        quote!(
            async fn options() {}
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn options() {
                #[allow(clippy::unused_async)]
                async fn options() {}
                ::my::dagz::__private::run_async(
                    ::my::dagz::__private::TestSpec {
                        name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(options)),
                        main_worker: true,
                        exclusive: true,
                        should_panic: false,
                    },
                    ::my::dagz::__private::RuntimeSpec {
                        multi_thread: true,
                        worker_threads: ::core::option::Option::Some(3usize),
                        start_paused: false,
                    },
                    |_| async move { options().await },
                    #is_failure
                )
            }
        },
    );
}

#[test]
fn tokio_test_below_gives_its_options_and_goes() {
    for (ours, theirs) in [
        (quote!(), quote!((start_paused = true, crate = "my_tokio"))),
        (quote!(start_paused = true), quote!()),
        (
            quote!(start_paused = true),
            quote!((start_paused = true, flavor = "current_thread")),
        ),
    ] {
        let spec = spec(quote!(clock));
        let is_failure = is_failure(quote!(::dagz));
        check_test(
            ours,
            quote! {
                #[ignore]
                #[tokio::test #theirs]
                async fn clock() {}
            },
            quote! {
                #[ignore]
                #[::core::prelude::v1::test]
                fn clock() {
                    #[allow(clippy::unused_async)]
                    async fn clock() {}
                    ::dagz::__private::run_async(
                        #spec,
                        ::dagz::__private::RuntimeSpec {
                            multi_thread: false,
                            worker_threads: ::core::option::Option::None,
                            start_paused: true,
                        },
                        |_| async move { clock().await },
                        #is_failure
                    )
                }
            },
        );
    }
}

#[test]
fn a_function_that_is_a_test_already_is_not_marked_again() {
    // The second is what `#[tokio::test]` leaves when it stands above, the third is another
    // harness's.
    for mark in [
        quote!(#[test]),
        quote!(#[::core::prelude::v1::test]),
        quote!(#[test_log::test]),
    ] {
        let spec = spec(quote!(once));
        let is_failure = is_failure(quote!(::dagz));
        check_test(
            quote!(),
            quote!(#mark fn once() {}),
            quote! {
                #mark
                fn once() {
                    fn once() {}
                    ::dagz::__private::run_sync(#spec, once, #is_failure)
                }
            },
        );
    }
}

#[test]
fn a_set_up_function_is_kept_and_registered() {
    check_setup(
        quote!(),
        quote! {
            /// Documentation.
            #[cfg(unix)]
            fn databases() -> dagz::Result<()> { body }
        },
        quote! {
            #[allow(clippy::unnecessary_wraps, clippy::unused_async)]
            /// Documentation.
            #[cfg(unix)]
            fn databases() -> dagz::Result<()> { body }
            #[cfg(unix)]
            const _: () = {
                fn run() -> ::dagz::Result<()> {
                    databases()
                }
                ::dagz::__private::inventory::submit! {
                    ::dagz::__private::Setup {
                        name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(databases)),
                        run,
                    }
                }
            };
        },
    );
}

#[test]
fn an_async_set_up_function_is_run_by_the_core() {
    check_setup(
        quote!(crate = "dagz_core"),
        quote!(
            async fn seed() -> dagz_core::Result<()> {}
        ),
        quote! {
            #[allow(clippy::unnecessary_wraps, clippy::unused_async)]
            async fn seed() -> dagz_core::Result<()> {}
            const _: () = {
                fn run() -> dagz_core::Result<()> {
                    dagz_core::__private::setup_async(async {
                        let result: dagz_core::Result<()> = seed().await;
                        result
                    })
                }
                dagz_core::__private::inventory::submit! {
                    dagz_core::__private::Setup {
                        name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(seed)),
                        run,
                    }
                }
            };
        },
    );
}

#[test]
fn next_to_errors_the_function_stays_without_other_macros() {
    check_test(
        quote!(exclusiv),
        quote! {
            #[cfg(unix)]
            #[tokio::test]
            fn stays(#[case] number: u32) {}
        },
        quote! {
            ::core::compile_error! { "unknown option `exclusiv`, the options are `main_worker`, `exclusive`, `flavor`, `worker_threads`, `start_paused` and `crate`" }
            ::core::compile_error! { "`#[tokio::test]` needs an `async fn`" }
            ::core::compile_error! { "arguments are made asynchronously; make the test an `async fn` to take any" }
            #[cfg(unix)]
            fn stays(number: u32) {}
        },
    );
}
