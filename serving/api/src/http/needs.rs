use anabranch_access::{Need, common_needs, is_safe};
use axum::http::Method;

/// What each route of the serving port needs. A route that is not named here needs an administrator.
pub(crate) fn needs(method: &Method, route: Option<&str>) -> Need {
    if let Some(need) = common_needs(method, route) {
        return need;
    }
    let reads = is_safe(method);
    match route.unwrap_or_default() {
        "/v1/login" | "/v1/logout" if *method == Method::POST => Need::Nothing,
        // The console's files are the same for every site; what it shows it asks for.
        "/" | "/favicon.ico" if reads => Need::Nothing,
        route if reads && (route == "/console" || route.starts_with("/console/")) => Need::Nothing,
        "/v1/whoami" | "/openapi.json" if reads => Need::Known,
        "/v1/sql" if *method == Method::POST => Need::Read,
        "/v1/views" | "/v1/status" if reads => Need::Read,
        // Handlers look at which view it is.
        route if reads && route.starts_with("/v1/views/{view}") => Need::Read,
        // Runs, publications, the state of files: they tell of all views.
        "/v1/batch/{*rest}" if reads => Need::ReadAll,
        "/v1/ingest/{*rest}" if *method == Method::POST => Need::Ingest,
        _ => Need::Admin,
    }
}

#[cfg(test)]
mod tests;
