//! What cannot be made from a scope is said at the argument's type.
//!
//! The facade here is a small one, because rustc lists the types that could be made, and with the
//! real one that depends on which drivers are compiled in.

mod facade {
    pub trait FromScope<Marker> {}

    impl FromScope<()> for char {}

    pub mod __private {
        use super::FromScope;

        pub struct TestSpec {
            pub name: &'static str,
            pub main_worker: bool,
            pub exclusive: bool,
            pub should_panic: bool,
        }

        pub struct RuntimeSpec {
            pub multi_thread: bool,
            pub worker_threads: Option<usize>,
            pub start_paused: bool,
        }

        pub fn run_async<T, F: Future<Output = T>>(
            _spec: TestSpec,
            _runtime: RuntimeSpec,
            _body: impl FnOnce(()) -> F,
            _is_failure: impl FnOnce(&T) -> bool,
        ) -> T {
            unreachable!()
        }

        pub struct Probe<'a, T>(pub &'a T);

        pub trait OfResult {}

        pub trait OfAnything {
            fn is_failure(&self) -> bool;
        }

        impl<T> OfAnything for &Probe<'_, T> {
            fn is_failure(&self) -> bool {
                false
            }
        }

        pub async fn argument<T: FromScope<Marker>, Marker>(_scope: &()) -> T {
            unreachable!()
        }
    }
}

// A tool attribute, which the compiler ignores: without one that ends in `test` the macro adds
// `#[test]`, and this check, which is not a build of tests, would not see the function.
#[dagz::test(crate = "crate::facade")]
#[rustfmt::test]
async fn numbers(_text: char, _number: u32) {}

#[dagz::test]
async fn unnamed(_scope: impl Clone) {}

fn main() {}
