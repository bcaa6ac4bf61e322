//! Employees, their roles, and the bearer tokens they call with.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::validate;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/roles", get(roles))
        .route("/employees", post(hire))
        .route("/employees/{id}", get(employee).delete(dismiss))
        .route("/employees/{id}/tokens", post(issue_token))
        .route("/me", get(me))
}

async fn roles(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT r.id, r.name, array_remove(array_agg(p.code ORDER BY p.code), NULL)
             FROM roles r
             LEFT JOIN role_permissions rp ON rp.role_id = r.id
             LEFT JOIN permissions p ON p.id = rp.permission_id
             GROUP BY r.id ORDER BY r.id",
            &[],
        )
        .await?;
    let roles = rows.iter().map(|row| {
        json!({
            "id": row.get::<_, i64>(0),
            "name": row.get::<_, &str>(1),
            "permissions": row.get::<_, Vec<String>>(2),
        })
    });
    Ok(Json(roles.collect()))
}

#[derive(Deserialize)]
struct NewEmployee {
    email: String,
    name: String,
    role: String,
}

async fn hire(
    State(pool): State<Pool>,
    Json(new): Json<NewEmployee>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if !validate::is_email(&new.email) {
        return Err(Error::invalid("`email` is not an address"));
    }
    let client = pool.get().await?;
    let role = client
        .query_opt("SELECT id FROM roles WHERE name = $1", &[&new.role])
        .await?
        .ok_or_else(|| Error::invalid(format!("there is no role `{}`", new.role)))?
        .get::<_, i64>(0);
    let row = client
        .query_one(
            "INSERT INTO employees (email, name, role_id) VALUES ($1, $2, $3) RETURNING id",
            &[&new.email, &new.name, &role],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "role_id": role })),
    ))
}

async fn employee(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT e.email, e.name, r.name, e.active FROM employees e JOIN roles r ON r.id = e.role_id WHERE e.id = $1",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("employee"))?;
    Ok(Json(json!({
        "id": id,
        "email": row.get::<_, &str>(0),
        "name": row.get::<_, &str>(1),
        "role": row.get::<_, &str>(2),
        "active": row.get::<_, bool>(3),
    })))
}

/// Dismissed employees stay on record, but their tokens end at once.
async fn dismiss(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let changed = transaction
        .execute(
            "UPDATE employees SET active = false WHERE id = $1 AND active",
            &[&id],
        )
        .await?;
    if changed == 0 {
        return Err(Error::NotFound("employee"));
    }
    transaction
        .execute("DELETE FROM api_tokens WHERE employee_id = $1", &[&id])
        .await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct NewToken {
    /// How long it is good for.
    minutes: i32,
}

async fn issue_token(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "INSERT INTO api_tokens (employee_id, token, expires_at)
             SELECT id, gen_random_uuid()::text, now() + make_interval(mins => $2) FROM employees WHERE id = $1 AND active
             RETURNING id, token",
            &[&id, &new.minutes],
        )
        .await?
        .ok_or(Error::NotFound("employee"))?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "token": row.get::<_, &str>(1) })),
    ))
}

async fn me(State(pool): State<Pool>, headers: HeaderMap) -> Result<Json<Value>, Error> {
    let client = pool.get().await?;
    let caller = caller(&client, &headers).await?;
    Ok(Json(
        json!({ "id": caller.id, "name": caller.name, "permissions": caller.permissions }),
    ))
}

/// Who calls, by the bearer token.
struct Caller {
    id: i64,
    name: String,
    permissions: Vec<String>,
}

async fn caller(client: &impl GenericClient, headers: &HeaderMap) -> Result<Caller, Error> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(Error::Unauthorized)?;
    let row = client
        .query_opt(
            "SELECT e.id, e.name, array_remove(array_agg(p.code ORDER BY p.code), NULL)
             FROM api_tokens t
             JOIN employees e ON e.id = t.employee_id
             LEFT JOIN role_permissions rp ON rp.role_id = e.role_id
             LEFT JOIN permissions p ON p.id = rp.permission_id
             WHERE t.token = $1 AND t.expires_at > now() AND e.active
             GROUP BY e.id",
            &[&token],
        )
        .await?
        .ok_or(Error::Unauthorized)?;
    Ok(Caller {
        id: row.get(0),
        name: row.get(1),
        permissions: row.get(2),
    })
}

/// Fails unless the request's bearer token belongs to somebody with `permission`.
pub(crate) async fn require(
    client: &impl GenericClient,
    headers: &HeaderMap,
    permission: &'static str,
) -> Result<(), Error> {
    let caller = caller(client, headers).await?;
    if caller.permissions.iter().any(|held| held == permission) {
        Ok(())
    } else {
        Err(Error::Forbidden(permission))
    }
}
