//! Tests that touch no database, and therefore pay for none.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use shop::order_state::OrderStatus;
use shop::page::{MAX_PER_PAGE, Page};
use shop::{money, validate};
use tower::ServiceExt;

#[dagz::test]
fn shares_are_rounded_half_up() {
    assert_eq!(money::share(1000, 1900), 190);
    assert_eq!(money::share(250, 1900), 48);
    assert_eq!(money::share(-250, 1900), -48);
    assert_eq!(money::share(i64::MAX, 20_000), i64::MAX);
}

#[dagz::test]
fn parts_add_up_to_the_whole() {
    assert_eq!(money::split(100, &[1, 1, 1]), [34, 33, 33]);
    assert_eq!(money::split(5, &[0, 3, 7]), [0, 2, 3]);
    assert_eq!(money::split(5, &[]), [0; 0]);
    assert_eq!(money::split(5, &[0, 0]), [0, 0]);
    for cents in 0..200 {
        assert_eq!(
            money::split(cents, &[3, 5, 11, 1]).iter().sum::<u64>(),
            cents
        );
    }
}

#[dagz::test]
fn amounts_are_written_with_the_currencys_decimals() {
    assert_eq!(money::display(123_450, 2, "EUR"), "1234.50 EUR");
    assert_eq!(money::display(-5, 2, "EUR"), "-0.05 EUR");
    assert_eq!(money::display(3000, 0, "JPY"), "3000 JPY");
}

#[dagz::test]
fn pages_begin_at_one() {
    let page = Page {
        page: Some(-3),
        per_page: Some(10),
    };
    assert_eq!((page.number(), page.offset()), (1, 0));
    assert_eq!(
        Page {
            page: Some(4),
            per_page: Some(10)
        }
        .offset(),
        30
    );
}

#[dagz::test]
fn pages_are_neither_empty_nor_endless() {
    assert_eq!(
        Page {
            page: None,
            per_page: Some(0)
        }
        .limit(),
        1
    );
    assert_eq!(
        Page {
            page: None,
            per_page: Some(1 << 40)
        }
        .limit(),
        MAX_PER_PAGE
    );
    assert_eq!(
        Page {
            page: Some(i64::MAX),
            per_page: Some(100)
        }
        .offset(),
        i64::MAX
    );
}

#[dagz::test]
fn a_started_page_is_a_page() {
    let page = Page {
        page: None,
        per_page: Some(10),
    };
    assert_eq!([0, 1, 10, 11].map(|total| page.pages(total)), [0, 1, 1, 2]);
}

#[dagz::test]
fn stock_keeping_units_are_upper_case_with_inner_dashes() {
    for good in ["ABC", "A-1", "ATLAS-2026-XL"] {
        assert!(validate::is_sku(good), "{good}");
    }
    for bad in [
        "",
        "AB",
        "abc",
        "-ABC",
        "ABC-",
        "A--B",
        "A B",
        "ÄBC",
        &"A".repeat(33),
    ] {
        assert!(!validate::is_sku(bad), "{bad}");
    }
}

#[dagz::test]
fn addresses_need_both_sides_of_the_at() {
    assert!(validate::is_email("a.b+c@shop.example"));
    for bad in [
        "",
        "a",
        "@shop.example",
        "a@",
        "a@shop",
        "a@shop..example",
        "a@b@shop.example",
        "a b@shop.example",
    ] {
        assert!(!validate::is_email(bad), "{bad}");
    }
}

#[dagz::test]
fn slugs_have_single_dashes() {
    assert_eq!(validate::slug("  Comics & Manga!  "), "comics-manga");
    assert_eq!(validate::slug("Größe 42"), "größe-42");
    assert_eq!(validate::slug("!?"), "");
}

#[dagz::test]
fn orders_end_cancelled_or_refunded() {
    let ends: Vec<_> = OrderStatus::ALL
        .into_iter()
        .filter(|status| status.is_final())
        .collect();
    assert_eq!(ends, [OrderStatus::Refunded, OrderStatus::Cancelled]);
}

#[dagz::test]
fn orders_never_go_back() {
    for (position, from) in OrderStatus::ALL.into_iter().enumerate() {
        for to in &OrderStatus::ALL[..=position] {
            assert!(!from.can_become(*to), "{from} to {to}");
        }
    }
}

#[dagz::test]
fn states_read_as_they_are_written() {
    for status in OrderStatus::ALL {
        assert_eq!(status.to_string().parse::<OrderStatus>().unwrap(), status);
    }
    assert_eq!(
        "lost".parse::<OrderStatus>().unwrap_err().to_string(),
        "`lost` is not an order status"
    );
}

#[dagz::test]
fn all_migrations_are_compiled_in() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let files: BTreeSet<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: Vec<&str> = shop::MIGRATIONS
        .iter()
        .map(|migration| migration.name)
        .collect();
    assert!(files.iter().eq(known.iter()), "{files:?} against {known:?}");
}

#[dagz::test]
fn seeds_are_only_inserts() {
    let sql = shop::seed_sql();
    let statements: Vec<&str> = sql
        .split(";\n")
        .map(without_comments)
        .filter(|rest| !rest.is_empty())
        .collect();
    assert_eq!(statements.len(), 14);
    assert!(
        statements
            .iter()
            .all(|statement| statement.starts_with("INSERT INTO ")),
        "{statements:?}"
    );
}

fn without_comments(statement: &str) -> &str {
    let mut rest = statement.trim_start();
    while rest.starts_with("--") {
        rest = rest
            .split_once('\n')
            .map_or("", |(_, after)| after)
            .trim_start();
    }
    rest
}

/// The application over a server that nobody runs.
fn unreachable() -> axum::Router {
    shop::router(shop::pool(
        "host=127.0.0.1 port=1 user=nobody".parse().unwrap(),
    ))
}

#[dagz::test]
async fn the_version_needs_no_database() {
    let response = unreachable()
        .oneshot(Request::get("/version").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[dagz::test]
async fn without_its_database_the_service_is_not_available() {
    let response = unreachable()
        .oneshot(Request::get("/health").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
