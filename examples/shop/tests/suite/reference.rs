//! Seed data as the application shows it, and tests that change or delete it.

use serde_json::json;

use crate::app::TestApp;

#[dagz::test]
async fn all_countries_are_listed(app: TestApp) {
    let countries = app.get("/countries").await.expect(200);
    assert_eq!(countries.as_array().unwrap().len(), 28);
    assert_eq!(
        countries[0],
        json!({ "code": "AT", "name": "Austria", "eu": true })
    );
}

#[dagz::test]
async fn countries_outside_the_union_are_four(app: TestApp) {
    let countries = app.get("/countries?eu=false").await.expect(200);
    let codes: Vec<&str> = countries
        .as_array()
        .unwrap()
        .iter()
        .map(|country| country["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["CH", "GB", "NO", "US"]);
}

#[dagz::test]
async fn a_country_that_joins_is_listed(app: TestApp) {
    app.sql("UPDATE countries SET is_eu = true WHERE code = 'NO'")
        .await;
    let countries = app.get("/countries?eu=false").await.expect(200);
    assert_eq!(countries.as_array().unwrap().len(), 3);
}

#[dagz::test]
async fn a_country_that_nobody_needs_can_be_deleted(app: TestApp) {
    app.sql("DELETE FROM countries WHERE code = 'EE'").await;
    assert_eq!(app.value::<i64>("SELECT count(*) FROM countries").await, 27);
}

#[dagz::test]
async fn yen_have_no_decimals(app: TestApp) {
    let currencies = app.get("/currencies").await.expect(200);
    let yen = currencies
        .as_array()
        .unwrap()
        .iter()
        .find(|currency| currency["code"] == "JPY")
        .unwrap();
    assert_eq!(yen["minor_units"], 0);
}

#[dagz::test]
async fn a_new_currency_is_listed_among_the_others(app: TestApp) {
    app.sql("INSERT INTO currencies (code, name) VALUES ('SEK', 'Swedish krona')")
        .await;
    let currencies = app.get("/currencies").await.expect(200);
    assert_eq!(currencies.as_array().unwrap().len(), 6);
    assert_eq!(currencies[4]["code"], "SEK");
}

#[dagz::test]
async fn german_tax_rates_have_the_first_ids(app: TestApp) {
    let rates = app.get("/tax-rates?country=DE").await.expect(200);
    assert_eq!(
        rates[0],
        json!({ "id": 1, "kind": "standard", "basis_points": 1900, "percent": "19.00" })
    );
    assert_eq!(rates[1]["id"], 2);
}

#[dagz::test]
async fn a_changed_tax_rate_changes_its_generated_percentage(app: TestApp) {
    app.sql("UPDATE tax_rates SET basis_points = 1625 WHERE id = 1")
        .await;
    let rates = app.get("/tax-rates?country=DE").await.expect(200);
    assert_eq!(rates[0]["percent"], "16.25");
}

#[dagz::test]
async fn the_next_tax_rate_is_number_thirteen(app: TestApp) {
    let insert = "INSERT INTO tax_rates (country_code, kind, basis_points) VALUES ('IT', 'reduced', 1000) RETURNING id";
    assert_eq!(app.value::<i64>(insert).await, 13);
}

#[dagz::test]
async fn a_country_without_rates_is_not_found(app: TestApp) {
    assert_eq!(
        app.get("/tax-rates?country=NO").await.error(404),
        "tax rate not found"
    );
}

#[dagz::test]
async fn shipping_methods_come_cheapest_first(app: TestApp) {
    let methods = app.get("/shipping-methods").await.expect(200);
    assert_eq!(
        methods,
        json!([
            { "id": 1, "code": "pickup", "price_cents": 0 },
            { "id": 2, "code": "standard", "price_cents": 490 },
            { "id": 3, "code": "express", "price_cents": 1290 },
        ])
    );
}

#[dagz::test]
async fn free_shipping_reorders_the_methods(app: TestApp) {
    app.sql("UPDATE shipping_methods SET price_cents = 0 WHERE code = 'express'; DELETE FROM shipping_methods WHERE id = 1")
        .await;
    let methods = app.get("/shipping-methods").await.expect(200);
    assert_eq!(methods[0]["code"], "express");
    assert_eq!(methods.as_array().unwrap().len(), 2);
}

#[dagz::test]
async fn settings_are_five_pairs(app: TestApp) {
    let settings = app.get("/settings").await.expect(200);
    assert_eq!(settings.as_object().unwrap().len(), 5);
    assert_eq!(settings["shop.name"], "The Corner Shop");
}

#[dagz::test]
async fn an_unknown_setting_is_not_found(app: TestApp) {
    assert_eq!(
        app.get("/settings/shop.motto").await.error(404),
        "setting not found"
    );
}

#[dagz::test]
async fn a_setting_has_its_version(app: TestApp) {
    assert_eq!(
        app.get("/settings/stock.low").await.expect(200),
        json!({ "value": "5", "version": 1 })
    );
}
