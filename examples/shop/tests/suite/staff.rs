//! Employees, tokens, and what the roles of the seed data allow.

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;

/// Hires somebody and returns a token that is good for `minutes`.
async fn token_of(app: &TestApp, role: &str, minutes: i32) -> String {
    let employee = json!({ "email": format!("{role}@shop.example"), "name": role, "role": role });
    let id = app.post("/employees", employee).await.expect(201)["id"].clone();
    let token = app
        .post(
            &format!("/employees/{id}/tokens"),
            json!({ "minutes": minutes }),
        )
        .await
        .expect(201);
    token["token"].as_str().unwrap().to_owned()
}

async fn me(app: &TestApp, token: &str) -> crate::app::Reply {
    app.request(Method::GET, "/me", None, Some(token)).await
}

async fn change_setting(app: &TestApp, token: &str, version: i32) -> crate::app::Reply {
    let change = json!({ "value": "9", "version": version });
    app.request(
        Method::PUT,
        "/settings/stock.low",
        Some(change),
        Some(token),
    )
    .await
}

#[dagz::test]
async fn the_first_employee_is_number_one(app: TestApp) {
    let new = json!({ "email": "ada@shop.example", "name": "Ada", "role": "manager" });
    assert_eq!(
        app.post("/employees", new).await.expect(201),
        json!({ "id": 1, "role_id": 3 })
    );
    assert_eq!(app.get("/employees/1").await.expect(200)["role"], "manager");
}

#[dagz::test]
async fn roles_show_what_they_allow(app: TestApp) {
    let roles = app.get("/roles").await.expect(200);
    assert_eq!(roles[0]["permissions"], json!(["orders.read"]));
    assert_eq!(
        roles[1]["permissions"],
        json!(["orders.read", "stock.receive"])
    );
    assert_eq!(roles[2]["permissions"].as_array().unwrap().len(), 5);
}

#[dagz::test]
async fn a_role_without_permissions_is_listed_with_none(app: TestApp) {
    app.sql("DELETE FROM role_permissions WHERE role_id = 1")
        .await;
    assert_eq!(
        app.get("/roles").await.expect(200)[0]["permissions"],
        json!([])
    );
}

#[dagz::test]
async fn addresses_are_unique_in_any_case(app: TestApp) {
    let new = |email: &str| json!({ "email": email, "name": "Ada", "role": "clerk" });
    app.post("/employees", new("ada@shop.example"))
        .await
        .expect(201);
    let error = app
        .post("/employees", new("ADA@shop.example"))
        .await
        .error(409);
    assert_eq!(error, "violates `employees_email`");
}

#[dagz::test]
async fn nobody_is_hired_into_a_role_that_does_not_exist(app: TestApp) {
    let new = json!({ "email": "ada@shop.example", "name": "Ada", "role": "pirate" });
    assert_eq!(
        app.post("/employees", new).await.error(422),
        "there is no role `pirate`"
    );
    app.get("/employees/1").await.error(404);
}

#[dagz::test]
async fn a_token_says_who_calls(app: TestApp) {
    let token = token_of(&app, "buyer", 5).await;
    let caller = me(&app, &token).await.expect(200);
    assert_eq!(
        caller,
        json!({ "id": 1, "name": "buyer", "permissions": ["orders.read", "stock.receive"] })
    );
}

#[dagz::test]
async fn without_a_token_nobody_calls(app: TestApp) {
    app.get("/me").await.error(401);
    me(&app, "made-up").await.error(401);
}

#[dagz::test]
async fn an_expired_token_is_refused(app: TestApp) {
    let token = token_of(&app, "manager", -1).await;
    assert_eq!(
        me(&app, &token).await.error(401),
        "a valid bearer token is needed"
    );
}

#[dagz::test]
async fn dismissal_ends_all_tokens(app: TestApp) {
    let token = token_of(&app, "manager", 5).await;
    app.post("/employees/1/tokens", json!({ "minutes": 60 }))
        .await
        .expect(201);
    app.delete("/employees/1").await.expect(204);
    me(&app, &token).await.error(401);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM api_tokens").await, 0);
    assert_eq!(app.get("/employees/1").await.expect(200)["active"], false);
    app.delete("/employees/1").await.error(404);
}

#[dagz::test]
async fn the_dismissed_get_no_new_token(app: TestApp) {
    token_of(&app, "clerk", 5).await;
    app.delete("/employees/1").await.expect(204);
    app.post("/employees/1/tokens", json!({ "minutes": 5 }))
        .await
        .error(404);
}

#[dagz::test]
async fn a_manager_may_change_settings(app: TestApp) {
    let token = token_of(&app, "manager", 5).await;
    assert_eq!(
        change_setting(&app, &token, 1).await.expect(200),
        json!({ "value": "9", "version": 2 })
    );
    assert_eq!(app.get("/settings").await.expect(200)["stock.low"], "9");
}

#[dagz::test]
async fn a_clerk_may_not_change_settings(app: TestApp) {
    let token = token_of(&app, "clerk", 5).await;
    assert_eq!(
        change_setting(&app, &token, 1).await.error(403),
        "permission `settings.write` is needed"
    );
    assert_eq!(
        app.get("/settings/stock.low").await.expect(200)["version"],
        1
    );
}

#[dagz::test]
async fn a_permission_given_to_the_role_holds_at_once(app: TestApp) {
    let token = token_of(&app, "clerk", 5).await;
    app.sql(
        "INSERT INTO role_permissions SELECT 1, id FROM permissions WHERE code = 'settings.write'",
    )
    .await;
    change_setting(&app, &token, 1).await.expect(200);
}

#[dagz::test]
async fn a_change_from_an_old_version_is_refused(app: TestApp) {
    let token = token_of(&app, "manager", 5).await;
    change_setting(&app, &token, 1).await.expect(200);
    let error = change_setting(&app, &token, 1).await.error(409);
    assert_eq!(error, "setting `stock.low` was changed by someone else");
}

#[dagz::test]
async fn a_setting_that_does_not_exist_is_not_made(app: TestApp) {
    let token = token_of(&app, "manager", 5).await;
    let change = Some(json!({ "value": "x", "version": 1 }));
    app.request(Method::PUT, "/settings/shop.motto", change, Some(&token))
        .await
        .error(404);
    assert_eq!(
        app.get("/settings/shop.motto").await.expect(404)["error"],
        Value::from("setting not found")
    );
}
